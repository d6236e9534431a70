"""The exception that ended a program, as a report tells it: with the user's own frames, and with every frame.

An exception that is told with it and came up in a library alone is one line of the former.
"""

from __future__ import annotations

import os
import sys
import traceback

from .text import plain

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Past this a report tells the beginning and the end: a model reads no more, and a server holds no more.
_TEXT_CHARACTERS = 16_384
_NAME_CHARACTERS = 1024
_MOST_NUMBER = 1 << 31
_HERE = os.path.dirname(os.path.abspath(__file__))
# As a class has it, whatever it says of itself.
_QUALNAME = type.__dict__["__qualname__"]
# Since Python 3.10; without it a long chain of exceptions is told wholly, and takes its time.
_COMPACT: dict[str, Any] = {"compact": True} if sys.version_info >= (3, 10) else {}


def describe(error: BaseException, path: str) -> dict[str, Any]:
    """What a report tells of the exception that ended the program at `path`."""
    kind = plain(_QUALNAME.__get__(type(error)), _NAME_CHARACTERS)
    try:
        return {"type": kind, **_details(error, path)}
    except BaseException as failure:  # noqa: BLE001 - an exception that can't be told was raised all the same
        message = f"<{type(failure).__name__} in what it tells of itself>"
        return {"type": kind, "message": message, "traceback": f"{kind}: {message}\n"}


def _details(error: BaseException, path: str) -> dict[str, Any]:
    frames = error.__traceback__
    while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == _HERE:
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, **_COMPACT)
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    for frame in told.stack:
        if frame.filename == path:
            line = frame.lineno
    whole = plain("".join(told.format()), _TEXT_CHARACTERS)
    for one in _chain(told):
        one.stack[:] = [frame for frame in one.stack if _is_own(frame.filename)]
    return {
        "message": plain(_message(error), _TEXT_CHARACTERS),
        "traceback": plain("".join(told.format()), _TEXT_CHARACTERS),
        "whole": whole,
        "line": _number(line),
        **(_about_module(error) if isinstance(error, ImportError) else {}),
        **(_about_file(error) if isinstance(error, OSError) else {}),
    }


def _chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """`told` and every exception that is told with it: causes, contexts and members of groups."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
        waiting += getattr(one, "exceptions", None) or []  # since Python 3.11


def _is_own(filename: str) -> bool:
    """Whether it is the user's code, and none of the environment, the interpreter or us."""
    libraries = (sys.prefix, os.path.join(sys.base_prefix, "lib"), _HERE)
    return not filename.startswith(("<frozen", *(place + os.sep for place in libraries)))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - a broken __str__ must not hide the error
        return f"<{type(failure).__name__} in __str__ of the exception>"


def _about_module(error: ImportError) -> dict[str, Any]:
    return {"name": plain(error.name, _NAME_CHARACTERS)} if isinstance(error.name, str) else {}


def _about_file(error: OSError) -> dict[str, Any]:
    """The file, where it is a path and no descriptor, and what the kernel answered."""
    name = error.filename
    text = plain(os.fsdecode(name), _NAME_CHARACTERS) if isinstance(name, (str, bytes)) else None
    return {"filename": text, "errno": _number(error.errno)}


def _number(value: object) -> int | None:
    """`value`, if it is a number that a kernel or a compiler would tell."""
    return int(value) if isinstance(value, int) and 0 <= value < _MOST_NUMBER else None
