"""What is imported ahead of a program: the environment's own start, and what programs here usually import."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

from .traces import Traces

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# The place of `no_site` among the flags, in all versions so far.
_NO_SITE = 6
# Where a base interpreter may keep packages in the midst of its standard library.
_PACKAGES = ("site-packages", "dist-packages")


def import_ahead(modules: list[str], most_bytes: int = 0) -> None:
    """Runs the environment's start (`site`, its .pth files included) and imports `modules`, as far as they are there.

    Where `most_bytes` is given this process is to be forked, and `modules` may hold so much of its memory. A module of
    which a part lies elsewhere than in the environment and the standard library is left to the program: .pth files and
    links lead anywhere, and what lies there may change meanwhile. It runs code of packages: call it behind walls, and
    silenced.

    Raises:
        ImportError: the module of this `name` can't be imported ahead, and what it left is here now.
    """
    import site

    site.main()
    _tell_that_it_started()
    traces = Traces(most_bytes) if most_bytes else None
    at_home = _AtHome()
    sys.meta_path.insert(0, at_home)
    try:
        for name in modules:
            _import(name)
            if traces and (found := traces.found()):
                raise ImportError(f"{name} {found}", name=name)
    finally:
        sys.meta_path.remove(at_home)
        if traces:
            traces.close()


def _tell_that_it_started() -> None:
    """Clears `sys.flags.no_site`: interpreters that a program starts are often given the flags of its own."""
    if sys.flags.no_site == sys.flags[_NO_SITE] == 1:
        set_item = ctypes.pythonapi.PyStructSequence_SetItem
        set_item.argtypes, set_item.restype = [ctypes.py_object, ctypes.c_ssize_t, ctypes.py_object], None
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(0))  # the sequence takes it over
        set_item(sys.flags, _NO_SITE, 0)


def silence() -> int:
    """Sends standard error nowhere, for what packages say at import is nobody's output; gives where it went before."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return before


def _import(name: str) -> None:
    """As a program does it, so that a warning which that would be shown is shown."""
    before = len(sys.modules)
    try:
        exec(f"import {name}", {"__name__": "__main__"})  # noqa: S102 - it is how programs import
    except BaseException as error:  # noqa: BLE001 - a package may do anything at import
        if len(sys.modules) != before:  # it ended in the midst of others, which no program would find so
            why = "what lies outside of the environment" if isinstance(error, _Elsewhere) else "and fails"
            raise ImportError(f"{name} imports {why}", name=name) from None


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
