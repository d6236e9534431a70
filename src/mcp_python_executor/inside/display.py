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
_PICTURES = 20
_HERE = os.path.dirname(os.path.abspath(__file__))


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def shown(value: object) -> dict[str, Any]:
    """A last expression's value for the report: nothing for None, a picture for an image, else its `repr`."""
    if value is None:
        return {}
    if _is_figure(value):
        return {}  # an open figure is among the figures anyway
    picture = _png(value)
    if picture is not None:
        return {"result": _cut(repr(value), _VALUE_CHARACTERS), "value_picture": picture}
    return {"result": _cut(repr(value), _VALUE_CHARACTERS)}


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
    frames = error.__traceback__
    while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == _HERE:
        frames = frames.tb_next
    told = traceback.TracebackException(type(error), error, frames, compact=True)
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    for frame in told.stack:
        if frame.filename == path:
            line = frame.lineno
    return {
        "type": type(error).__qualname__,
        "message": _cut(_message(error), _TRACEBACK_CHARACTERS),
        "traceback": _cut("".join(told.format()), _TRACEBACK_CHARACTERS),
        "line": line,
        "name": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "filename": getattr(error, "filename", None) if isinstance(error, OSError) else None,
        "errno": getattr(error, "errno", None) if isinstance(error, OSError) else None,
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - a broken __str__ must not hide the error
        return f"<{type(failure).__name__} in __str__ of the exception>"
