"""Matplotlib in a run: the figures that a program shows or leaves open, as pictures."""

from __future__ import annotations

import base64
import functools
import importlib.machinery
import io
import math
import sys

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

_PYPLOT = "matplotlib.pyplot"
# More costs a model more than it sees in it: a larger picture is drawn again, with fewer dots.
_MOST_BYTES = 1 << 20
_MOST_DOTS = 2000
_ATTEMPTS = 3
_FEWER = 0.9


def when_shown(take: Callable[[], None]) -> None:
    """Has `pyplot.show` call `take`, also where the program has yet to import it.

    Without a display matplotlib draws with Agg, whose own `show` does nothing.
    """
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is None:
        sys.meta_path.insert(0, _Importer(take))
    else:
        _replace_show(pyplot, take)


def _replace_show(pyplot: ModuleType, take: Callable[[], None]) -> None:
    @functools.wraps(pyplot.show)
    def show(*_args: Any, **_options: Any) -> None:
        take()

    pyplot.show = show  # type: ignore[attr-defined]


class _Importer:
    """Finds pyplot where everybody finds it, and is gone then."""

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = take

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it."""
        if name != _PYPLOT:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _replace_show(module, self._take)

            loader.exec_module = exec_module
        return spec


def is_figure(value: object) -> bool:
    """Whether `value` is a figure, which is shown as a picture and not as text."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def picture(figure: Any) -> str:
    """A figure as PNG in base64, and closed."""
    dpi = min(figure.dpi, _MOST_DOTS / max(figure.get_size_inches()))
    data = _drawn(figure, dpi)
    for _ in range(_ATTEMPTS):
        if len(data) <= _MOST_BYTES:
            break
        dpi *= _FEWER * math.sqrt(_MOST_BYTES / len(data))
        data = _drawn(figure, dpi)
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is not None:
        pyplot.close(figure)
    return base64.b64encode(data).decode()


def _drawn(figure: Any, dpi: float) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def left_open() -> Iterator[Any]:
    """The figures that are open, in order of their numbers."""
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is not None:
        yield from [pyplot.figure(number) for number in pyplot.get_fignums()]
