"""What is imported ahead of a program: the environment's own start, and what programs here usually import."""

from __future__ import annotations

import functools
import importlib
import os
import sys

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Where a base interpreter may keep packages in the midst of its standard library.
_PACKAGES = ("site-packages", "dist-packages")


def import_ahead(modules: list[str]) -> None:
    """Runs the environment's start (`site`, its .pth files included) and imports `modules`, as far as they can be.

    A module of which a part lies elsewhere than in the environment and the standard library is left to the program:
    .pth files and links lead anywhere, and what lies there may change meanwhile. It runs code of packages: call it
    behind walls, and silenced.

    Raises:
        ImportError: one was begun and could not be ended, so that a program would find a part of it.
    """
    import site

    site.main()
    at_home = _AtHome()
    sys.meta_path.insert(0, at_home)
    try:
        for name in modules:
            _import(name)
    finally:
        sys.meta_path.remove(at_home)


def silence() -> int:
    """Sends standard error nowhere, for what packages say at import is nobody's output; gives where it went before."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return before


def _import(name: str) -> None:
    before = len(sys.modules)
    try:
        importlib.import_module(name)
    except _Elsewhere:
        if len(sys.modules) != before:  # it ended in the midst of others, which no program would find so
            raise ImportError(f"{name} imports what lies outside of the environment") from None
    except BaseException:  # noqa: BLE001 - a package may do anything at import; what failed is not there
        return


class _Elsewhere(BaseException):
    """Ends an import: a package that can do without what lies elsewhere would do without it in every program."""


class _AtHome:
    """Finds modules as all finders after it do, as long as they lie in the environment or the standard library."""

    def __init__(self) -> None:
        self._library = os.path.dirname(os.path.realpath(os.__file__))
        self._environment = os.path.realpath(sys.prefix)
        self._is_home = functools.lru_cache(maxsize=None)(self._lies_at_home)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if all(map(self._is_home, _places(spec))):
                    return spec
                raise _Elsewhere
        return None

    def _lies_at_home(self, place: str) -> bool:
        real = os.path.realpath(place) + os.sep
        if real.startswith(self._environment + os.sep):
            return True
        library = self._library + os.sep
        return real.startswith(library) and real[len(library) :].split(os.sep)[0] not in _PACKAGES


def _places(spec: ModuleSpec) -> list[str]:
    """Where the code of a module lies: nowhere, if it is part of the interpreter."""
    places = list(spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        places += [spec.origin] if os.path.islink(spec.origin) else [os.path.dirname(spec.origin)]
    return places
