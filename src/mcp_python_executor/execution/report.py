"""What a worker tells of its program: hostile input, for user code can write it; taken where it makes sense."""

import struct
from base64 import b64decode
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from mcp_python_executor.execution.model import Picture

_PNG = b"\x89PNG\r\n\x1a\n"
_LENGTH = struct.Struct("!I")


class ReportedError(BaseModel):
    """The exception that ended the program; `name`, `filename` and `errno` are its own, where it has them."""

    type: str
    message: str
    traceback: str
    line: int | None = None
    name: str | None = None
    filename: str | None = None
    errno: int | None = None


class Report(BaseModel):
    """Everything a worker sends beside the program's output. Pictures are base64; `modules` are top-level names."""

    failed: str = ""
    error: ReportedError | None = None
    result: str | None = None
    value_picture: str | None = None
    pictures: Annotated[list[str], Field(max_length=20)] = []
    modules: Annotated[list[str], Field(max_length=200)] = []

    @property
    def images(self) -> list[Picture]:
        """The pictures that are pictures."""
        found: list[Picture] = []
        for text in [*([self.value_picture] if self.value_picture else []), *self.pictures]:
            try:
                data = b64decode(text, validate=True)
            except ValueError:
                continue
            if data.startswith(_PNG):
                found.append(Picture(data, "image/png"))
        return found


def parse(data: bytes) -> Report:
    """The report in everything that came over a channel: the first message that is more than a sign of life.

    What is no report gives an empty one.
    """
    for message in _messages(data):
        try:
            report = Report.model_validate_json(message)
        except ValidationError:
            continue
        if report.model_fields_set:
            return report
    return Report()


def _messages(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        yield data[place : place + size]
        place += size
