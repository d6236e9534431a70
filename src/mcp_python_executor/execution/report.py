"""What a worker tells of its program: hostile input, for user code can write it; taken where it makes sense."""

import struct
from base64 import b64decode
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import stacks
from mcp_python_executor.execution.model import Picture

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_LENGTH = struct.Struct("!I")
# A worker's texts are cut: they and its names have fewer of these characters. Each that begins an item costs up to a
# hundred bytes when it is parsed.
_MOST_ITEMS = 200_000
_BEGINS_ITEM = b",", b"[", b"{"


def _at_most(characters: int) -> AfterValidator:
    """Cuts what only a forger tells: a worker keeps to less."""
    return AfterValidator(lambda text: text[:characters])


_Name = Annotated[str, _at_most(2000)]
_Text = Annotated[str, _at_most(40_000)]


class ReportedError(BaseModel):
    """The exception that ended the program; `name`, `filename` and `errno` are its own, where it has them.

    `traceback` has the user's own frames, `whole` those of libraries too.
    """

    type: _Name
    message: _Text
    traceback: _Text
    whole: _Text = ""
    line: int | None = None
    name: _Name | None = None
    filename: _Name | None = None
    errno: int | None = None


class _Sign(BaseModel):
    """The first message: the walls stand, or why they do not."""

    ready: bool = False
    failed: str = ""


class Report(BaseModel):
    """Everything a worker sends beside the program's output. Pictures are base64; `modules` are top-level names.

    `status` is what the worker exits with, `cpu` the seconds and `peak` the bytes that it used with its children.
    `stack` is there in the report's place where a program was stopped, as faulthandler writes it.
    """

    error: ReportedError | None = None
    result: _Text | None = None
    pictures: Annotated[list[str], Field(max_length=20)] = []
    pictures_left_out: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    modules: Annotated[list[str], Field(max_length=200)] = []
    status: Annotated[int, Field(ge=0, le=0xFF)] | None = None
    cpu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    peak: Annotated[int, Field(ge=0, le=2**63)] = 0
    stack: _Text = ""

    @property
    def images(self) -> list[Picture]:
        """The pictures that are pictures."""
        found: list[Picture] = []
        for text in self.pictures:
            try:
                data = b64decode(text, validate=True)
            except ValueError:
                continue
            found += [Picture(data, kind) for start, kind in _KINDS.items() if data.startswith(start)]
        return found


def parse(data: bytes | bytearray) -> Report:
    """The report in everything that came over a channel: a sign of life, or of failure, and then the report.

    What is no report gives an empty one.

    Raises:
        EngineError: the worker could not put up its walls, so nothing of the program ran.
    """
    first, end = _message(data, 0)
    try:
        sign = _Sign.model_validate_json(first)
        if not sign.ready:
            raise EngineError(f"a worker could not put up its walls: {sign.failed}")
        if data.startswith(stacks.START, end):
            return Report(stack=data[end:].decode(errors="replace"))
        told, _ = _message(data, end)
        return Report.model_validate_json(told) if _is_worth_parsing(told) else Report()
    except ValidationError:
        return Report()


def _is_worth_parsing(message: bytes | bytearray) -> bool:
    return sum(map(message.count, _BEGINS_ITEM)) <= _MOST_ITEMS


def is_complete(data: bytes | bytearray) -> bool:
    """Whether `data` holds all that `parse` reads: two messages."""
    end = 0
    for _ in range(2):
        if len(data) < end + _LENGTH.size:
            return False
        end += _LENGTH.size + _LENGTH.unpack_from(data, end)[0]
    return len(data) >= end


def _message(data: bytes | bytearray, start: int) -> tuple[bytes | bytearray, int]:
    """The message in `data` that begins at `start`, and where it ends."""
    if len(data) < start + _LENGTH.size:
        return b"", len(data)
    (size,) = _LENGTH.unpack_from(data, start)
    end = start + _LENGTH.size + size
    return data[start + _LENGTH.size : end], end
