"""How a program's end is shown: its last value, the figures it left open, its traceback."""

from __future__ import annotations

import base64
import io
import os
import sys
import traceback

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

# Past these a report tells its beginning and its end: a model reads no more, and a server holds no more.
_VALUE_CHARACTERS = 32_768
_TRACEBACK_CHARACTERS = 16_384
_NAME_CHARACTERS = 1024
_PICTURES = 20
_HERE = os.path.dirname(os.path.abspath(__file__))
# As a class has it, whatever it says of itself.
_QUALNAME = type.__dict__["__qualname__"]
_MOST_NUMBER = 1 << 31


def _plain(text: str, most: int) -> str:
    """`text` as any reader takes it: at most so many characters and a line about the rest, no surrogates."""
    text = str.__str__(text)  # of a subclass too, which may have its own ideas of slices
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> dict[str, Any]:
    """A last expression's value for the report: nothing for None, a picture for an image, else its `repr`."""
    if value is None:
        return {}
    if _is_figure(value):
        return {}  # an open figure is among the figures anyway
    picture = _png(value)
    if picture is not None:
        return {"result": _plain(repr(value), _VALUE_CHARACTERS), "value_picture": picture}
    return {"result": _plain(repr(value), _VALUE_CHARACTERS)}


def _is_figure(value: object) -> bool:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return pyplot is not None and any(value is pyplot.figure(number) for number in pyplot.get_fignums())


def _png(value: object) -> str | None:
    """The PNG of a value that can show itself as one (`_repr_png_`, as notebooks ask for), as base64."""
    method = getattr(type(value), "_repr_png_", None)
    data = method(value) if callable(method) else None
    if isinstance(data, bytes):
        return base64.b64encode(data).decode()
    return data if isinstance(data, str) else None


def figures() -> list[str]:
    """The matplotlib figures left open, each a PNG in base64, in order of their numbers."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    pictures: list[str] = []
    for number in pyplot.get_fignums()[:_PICTURES]:
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png")
        pictures.append(base64.b64encode(file.getvalue()).decode())
    pyplot.close("all")
    return pictures


def describe(error: BaseException, path: str) -> dict[str, Any]:
    """What a report tells of the exception that ended the program at `path`."""
    kind = _plain(_QUALNAME.__get__(type(error)), _NAME_CHARACTERS)
    try:
        return {"type": kind, **_details(error, path)}
    except BaseException as failure:  # noqa: BLE001 - an exception that can't be told was raised all the same
        message = f"<{type(failure).__name__} in what it tells of itself>"
        return {"type": kind, "message": message, "traceback": f"{kind}: {message}\n"}


def _details(error: BaseException, path: str) -> dict[str, Any]:
    frames = error.__traceback__
    while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == _HERE:
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    for frame in told.stack:
        if frame.filename == path:
            line = frame.lineno
    return {
        "message": _plain(_message(error), _TRACEBACK_CHARACTERS),
        "traceback": _plain("".join(told.format()), _TRACEBACK_CHARACTERS),
        "line": _number(line),
        **(_about_module(error) if isinstance(error, ImportError) else {}),
        **(_about_file(error) if isinstance(error, OSError) else {}),
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - a broken __str__ must not hide the error
        return f"<{type(failure).__name__} in __str__ of the exception>"


def _about_module(error: ImportError) -> dict[str, Any]:
    return {"name": _plain(error.name, _NAME_CHARACTERS)} if isinstance(error.name, str) else {}


def _about_file(error: OSError) -> dict[str, Any]:
    """The file, where it is a path and no descriptor, and what the kernel answered."""
    name = error.filename
    text = _plain(os.fsdecode(name), _NAME_CHARACTERS) if isinstance(name, (str, bytes)) else None
    return {"filename": text, "errno": _number(error.errno)}


def _number(value: object) -> int | None:
    """`value`, if it is a number that a kernel or a compiler would tell."""
    return int(value) if isinstance(value, int) and 0 <= value < _MOST_NUMBER else None
