"""The user's program: run as `__main__`, as an interpreter runs it, and ended as an interpreter ends."""

from __future__ import annotations
import __future__

import ast
import atexit
import builtins
import contextlib
import importlib.machinery
import os
import sys
import threading
import types

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

    from .display import Shown

# Exit status of an interpreter that could not flush its standard streams.
_NOT_FLUSHED = 120
# See inspect.CO_COROUTINE, whose module takes 10 ms to import.
_COROUTINE = 0x80
# What `site` and the start itself import, as far as it is found by a path.
_FROM_THE_START = {
    "_collections_abc",
    "abc",
    "codecs",
    "encodings",
    "genericpath",
    "io",
    "os",
    "posixpath",
    "site",
    "stat",
}
_REHEARSAL = "import sys\nx = [str(n) for n in range(3)]\nx"
_FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def rehearse(path: str, shown: Shown) -> None:
    """Runs a program that does nothing from `path`, for what is slow the first time: copying pages, making a file."""
    shown.listen()
    with contextlib.suppress(OSError):  # on a full disk the program meets it again
        _run_cell(_REHEARSAL, path, {}, shown, {})
    shown.take_figures()


def run(path: str, code: str | None, args: list[str], shown: Shown, report: dict[str, Any]) -> int:
    """Runs inline `code`, which comes to lie at `path`, or the script there; gives the status that its exit asks for.

    The value of a last expression goes into `report`, and what it shows besides into `shown`.
    """
    sys.argv[:] = [path, *args]
    sys.path.insert(0, os.path.dirname(path))
    if code is None:
        _make_way(sys.path[0])
    builtins.display = shown.display  # type: ignore[attr-defined]
    namespace = _main_module(path).__dict__
    status = 0
    try:
        if code is None:
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec", dont_inherit=True), namespace)  # noqa: S102 - it is our purpose
        else:
            _run_cell(code, path, namespace, shown, report)
    except SystemExit as leaving:
        status = _exit_status(leaving)
    shown.take_figures()
    return status


def _make_way(folder: str) -> None:
    """Forgets what is imported by now and for a script is found in its own `folder`, which comes first.

    An interpreter has some modules before it knows of a script: those stay.
    """
    names: set[str] = set()
    with contextlib.suppress(OSError):
        names.update(name.split(".")[0] for name in os.listdir(folder))
    own = [name for name in names - _FROM_THE_START if name in sys.modules and _is_found(name, folder)]
    for name in [name for name in sys.modules if own and name.split(".")[0] in own]:
        del sys.modules[name]


def _is_found(name: str, folder: str) -> bool:
    specs = (finder.find_spec(name, None) for finder in sys.meta_path)
    found = next((spec for spec in specs if spec), None)
    return found is not None and found.has_location and str(found.origin).startswith(folder + os.sep)


def _main_module(path: str) -> types.ModuleType:
    """A `__main__` as an interpreter makes it for a file."""
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    return module


def _run_cell(code: str, path: str, namespace: dict[str, Any], shown: Shown, report: dict[str, Any]) -> None:
    """Runs `code` from a real file, which tracebacks show, and shows its last expression as a notebook does.

    As there, it may wait for coroutines outside of any function.
    """
    _write(path, code.encode(errors="replace"))
    tree = ast.parse(code, path)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    parts = [compile(tree, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)]
    if isinstance(last, ast.Expr):
        flags = parts[0].co_flags & _FUTURES | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        parts.append(compile(ast.Expression(last.value), path, "eval", flags, dont_inherit=True))
    if any(part.co_flags & _COROUTINE for part in parts):
        value = _run_in_loop(parts, namespace)
    else:
        value = None
        for part in parts:
            value = eval(part, namespace)  # noqa: S307 - it is our purpose
    if value is not None and isinstance(last, ast.Expr) and not _is_muted(last, code):
        report["result"] = shown.text(value)


def _write(path: str, data: bytes) -> None:
    """Writes over what is there: emptying a file first takes longer than most programs do."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
        file.write(data)
        file.truncate()


def _is_muted(last: ast.Expr, code: str) -> bool:
    """Whether a semicolon follows the last expression: its value is then not shown, as in a notebook."""
    rest = code.encode().split(b"\n")[(last.end_lineno or 0) - 1]
    return rest[last.end_col_offset or 0 :].lstrip().startswith(b";")


def _run_in_loop(parts: list[types.CodeType], namespace: dict[str, Any]) -> object:
    """The last of `parts` as a value, all of them in one event loop."""
    import asyncio

    async def main() -> object:
        value = None
        for part in parts:
            value = eval(part, namespace)  # noqa: S307 - it is our purpose
            if part.co_flags & _COROUTINE:
                value = await value
        return value

    return asyncio.run(main())


def _exit_status(leaving: SystemExit) -> int:
    """The status of `sys.exit(...)`: a number is itself, None is 0, anything else is printed and is 1."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def end_interpreter() -> None:
    """Ends as an interpreter ends, short of tearing the heap down, which with pandas costs more than most runs."""
    # The interpreter has no public names for the two steps that it takes itself.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # type: ignore[attr-defined]  # noqa: SLF001


def flush(status: int) -> int:
    """Flushes the standard streams: one that can't be makes a good end a bad one, as in any interpreter."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # noqa: PERF203 - each stream has its own chance
            status = status or _NOT_FLUSHED
    return status
