"""What is imported ahead of a program: the environment's own start, and what programs here usually import."""

from __future__ import annotations

import contextlib
import importlib
import os


def import_ahead(modules: list[str]) -> None:
    """Runs the environment's start (`site`, its .pth files included) and imports `modules`, as far as they can be.

    It runs code of packages: call it behind walls, and silenced.
    """
    import site

    site.main()
    for name in modules:
        _import(name)


def silence() -> int:
    """Sends standard error nowhere, for what packages say at import is nobody's output; gives where it went before."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return before


def _import(name: str) -> None:
    with contextlib.suppress(BaseException):  # a package may do anything at import; what failed is not there
        importlib.import_module(name)
