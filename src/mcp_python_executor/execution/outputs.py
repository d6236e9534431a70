"""One output stream of a run: its head and tail for the result, the whole in a file, all of it bounded."""

import codecs
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio

from mcp_python_executor.process import HeadAndTail

# A pipe's default capacity on Linux: see pipe(7).
_CHUNK = 65_536


class Output:
    """Reads a pipe to its end. Past `inline` bytes the whole goes to `file`, up to `kept`; what follows is dropped."""

    def __init__(self, descriptor: int, file: Path, *, inline: int, kept: int) -> None:
        self._descriptor, self._file = descriptor, file
        self._inline, self._kept = inline, kept
        self._shown = HeadAndTail(inline)
        self._spool: int | None = None

    @property
    def total(self) -> int:
        """How many bytes came."""
        return self._shown.total

    @property
    def truncated(self) -> bool:
        """Whether `text` leaves something out."""
        return self._shown.truncated

    @property
    def overflowed(self) -> bool:
        """Whether even the file could not hold all."""
        return self.total > self._kept

    @property
    def text(self) -> str:
        """What a result carries: all of it, or its head and tail with a line between them."""
        shown = self._shown.getvalue()
        if not self.truncated:
            return shown.decode(errors="replace")
        half = self._inline // 2
        head, tail = _whole_start(shown[:half]), _whole_end(shown[half:])
        left_out = self.total - len(head) - len(tail)
        return f"{head.decode(errors='replace')}\n... {left_out} bytes left out ...\n{tail.decode(errors='replace')}"

    async def read(self, listener: Callable[[str], None] | None, overflow: Callable[[], None]) -> None:
        """Reads until every writer is gone; tells `listener` each piece as text, and `overflow` once past `kept`."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            while piece := await self._next():
                was_overflowed = self.overflowed
                self._take(piece)
                if listener and not was_overflowed and (text := decoder.decode(piece)):
                    listener(text)
                if self.overflowed and not was_overflowed:
                    overflow()
        finally:
            self.close()

    async def _next(self) -> bytes:
        while True:
            try:
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._descriptor)

    def _take(self, piece: bytes) -> None:
        if self.total + len(piece) > self._inline:
            with suppress(OSError):  # on a full disk the file just ends early
                self._keep(piece)
        self._shown.write(piece)

    def _keep(self, piece: bytes) -> None:
        if not self.truncated:
            self._spool = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            piece = self._shown.getvalue() + piece
        if self._spool is not None:
            room = self._kept - os.lseek(self._spool, 0, os.SEEK_CUR)
            os.write(self._spool, piece[: max(0, room)])

    def close(self) -> None:
        """Closes the pipe and the file."""
        for descriptor in (self._descriptor, self._spool):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._descriptor, self._spool = -1, None


def _whole_start(data: bytes) -> bytes:
    """`data` without the beginning of a UTF-8 character that its end cuts."""
    for back in range(1, min(4, len(data) + 1)):
        if data[-back] & 0xC0 == 0xC0:  # the first byte of a character of several
            length = 2 if data[-back] < 0xE0 else 3 if data[-back] < 0xF0 else 4
            return data[:-back] if back < length else data
        if data[-back] < 0x80:
            break
    return data


def _whole_end(data: bytes) -> bytes:
    """`data` without the end of a UTF-8 character that its start cuts."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
