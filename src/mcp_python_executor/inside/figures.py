"""Matplotlib in a run: the figures that a program shows or leaves open, as pictures."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import os
import sys
import weakref

from . import pictures

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

    from .hooks import Hook

_PYPLOT = "matplotlib.pyplot"
_MOST_DOTS = 2000
# Image files that a result shows by themselves: see `artifacts` in the server.
_SHOWN_FILES = (".png", ".jpg", ".jpeg")
_SHOWN_FILE_BYTES = 256 * 1024

# The file that holds a figure as it is now.
_files: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def hooks(take: Callable[[], None], show_one: Any) -> dict[str, Hook]:
    """`pyplot.show` calls `take`, and a figure's own is `show_one`; one that is saved is shown by its file.

    Agg, which a run's environment asks for, has nowhere to show one, and would say so.
    """

    def replace_show(pyplot: ModuleType) -> None:
        @functools.wraps(pyplot.show)
        def show(*_args: Any, **_options: Any) -> None:
            take()

        pyplot.show = show  # type: ignore[attr-defined]

    def watch(module: ModuleType) -> None:
        save = module.Figure.savefig

        @functools.wraps(save)
        def savefig(figure: Any, fname: Any, *args: Any, **options: Any) -> Any:
            done = save(figure, fname, *args, **options)
            if isinstance(fname, str) or hasattr(fname, "__fspath__"):
                figure.stale = False  # until something of it is changed
                path = os.path.abspath(fname)
                for other in [other for other, file in _files.items() if file == path]:
                    del _files[other]  # what was there is not any more
                _files[figure] = path
            return done

        module.Figure.savefig = savefig
        module.Figure.show = show_one

    return {_PYPLOT: replace_show, "matplotlib.figure": watch}


def rehearse() -> None:
    """Draws a figure where matplotlib is there: what it looks for and works out once is then known in every run.

    Of the figure nothing stays: no number, no file, and no font, of which each process opens its own.
    """
    matplotlib: Any = sys.modules.get("matplotlib")
    if _PYPLOT not in sys.modules:
        return
    with contextlib.suppress(Exception):  # the program meets it again
        drawn = matplotlib.figure.Figure()
        axes = drawn.subplots()
        axes.plot([0, 1], [0, 1], label="0")
        axes.set_title("0")
        axes.legend()
        drawn.savefig(io.BytesIO(), format="png")
    matplotlib.font_manager._get_font.cache_clear()  # noqa: SLF001


def is_shown_as_file(figure: Any, places: tuple[str, ...]) -> bool:
    """Whether a file in one of `places`, which a result shows anyway, has the figure as it is."""
    path = _files.get(figure, "")
    if figure.stale or not path.endswith(_SHOWN_FILES) or os.path.dirname(path) not in places:
        return False
    try:
        return os.stat(path).st_size <= _SHOWN_FILE_BYTES
    except OSError:
        return False


def close(figure: Any) -> None:
    """Closes a figure that has been shown."""
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is not None:
        pyplot.close(figure)


def is_figure(value: object) -> bool:
    """Whether `value` is a figure, which is shown as a picture and not as text."""
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def picture(figure: Any) -> str:
    """A figure as PNG in base64."""
    dpi = min(figure.dpi, _MOST_DOTS / max(figure.get_size_inches()))

    def draw(share: float) -> bytes:
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=share * dpi)
        return file.getvalue()

    return base64.b64encode(pictures.bounded(draw)).decode()


def left_open() -> Iterator[Any]:
    """The figures that are open, in order of their numbers."""
    pyplot = sys.modules.get(_PYPLOT)
    if pyplot is not None:
        yield from [pyplot.figure(number) for number in pyplot.get_fignums()]
