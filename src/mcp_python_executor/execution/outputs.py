"""One output stream of a run: what a result shows of it, and the whole, all of it bounded."""

import codecs
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio

from mcp_python_executor.execution import utf8
from mcp_python_executor.process import HeadAndTail

# A pipe's default capacity on Linux: see pipe(7).
_CHUNK = 65_536
# So much of a whole is held in memory, what is longer in a file; a line that is longer counts as ended.
_HELD = 65_536
# What a terminal obeys and does not show: see console_codes(4).
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Output:
    """Reads a pipe to its end. Past 64 KiB the whole goes to `file`, up to `kept` bytes; what follows is dropped.

    `inline` bytes of it are shown.
    """

    def __init__(self, descriptor: int, file: Path, *, inline: int, kept: int) -> None:
        self._descriptor, self._file = descriptor, file
        self._kept = kept
        self._shown = HeadAndTail(inline)
        self._screen = _Screen()
        self._whole = bytearray()
        self._spool: int | None = None
        self._listener: Callable[[str], None] | None = None
        self._overflow: Callable[[], None] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.total = 0
        """How many bytes came."""

    @property
    def truncated(self) -> bool:
        """Whether `text` leaves something out."""
        return self._shown.truncated

    @property
    def overflowed(self) -> bool:
        """Whether even the file could not hold all."""
        return self.total > self._kept

    @property
    def whole(self) -> bytes | Path:
        """All that came, as it came, or the file that holds it."""
        return bytes(self._whole) if self.total <= _HELD else self._file

    @property
    def text(self) -> str:
        """What a result carries: all of it as a terminal shows it, or its first and last lines."""
        head, tail = self._shown.parts
        if not self.truncated:
            return head.decode(errors="replace")
        head, tail = _whole_lines(head), _whole_lines(tail, from_end=True)
        left_out = self._shown.total - len(head) - len(tail)
        place = "" if self._screen.altered else f" at byte {len(head):,}"
        first, last = head.decode(errors="replace"), tail.decode(errors="replace")
        return f"{first}{'' if first.endswith(chr(10)) else chr(10)}... {left_out:,} bytes left out{place} ...\n{last}"

    def tell(self, listener: Callable[[str], None] | None, overflow: Callable[[], None]) -> None:
        """Has `listener` told each piece as text, and `overflow` called once past `kept`."""
        self._listener, self._overflow = listener, overflow

    async def read(self) -> None:
        """Reads until every writer is gone."""
        while piece := await self._next():
            self._take(piece)

    def end(self) -> None:
        """Reads what is there, all there is to come where no program has the pipe any more, and closes it."""
        if self._descriptor < 0:
            return
        with suppress(BlockingIOError):
            while piece := os.read(self._descriptor, _CHUNK):
                self._take(piece)
        self._shown.write(self._screen.rest())
        self.close()

    def _take(self, piece: bytes) -> None:
        was_overflowed = self.overflowed
        with suppress(OSError):  # on a full disk the file just ends early
            self._keep(piece)
        self.total += len(piece)
        self._shown.write(self._screen.take(piece))
        if self._listener and not was_overflowed and (text := self._decoder.decode(piece)):
            self._listener(text)
        if self._overflow and self.overflowed and not was_overflowed:
            self._overflow()

    async def _next(self) -> bytes:
        while True:
            try:
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._descriptor)

    def _keep(self, piece: bytes) -> None:
        if self.total + len(piece) <= _HELD:
            self._whole += piece
            return
        if self.total <= _HELD:
            self._spool = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            piece = bytes(self._whole) + piece
            self._whole.clear()
        if self._spool is not None:
            room = self._kept - os.lseek(self._spool, 0, os.SEEK_CUR)
            os.write(self._spool, piece[: max(0, room)])

    def close(self) -> None:
        """Closes the pipe and the file."""
        for descriptor in (self._descriptor, self._spool):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._descriptor, self._spool = -1, None


class _Screen:
    """What a terminal shows: of a line that is written over by carriage returns its last state, and no escapes."""

    def __init__(self) -> None:
        self._line = bytearray()  # begun, and not ended yet
        self.altered = False

    def take(self, piece: bytes) -> bytes:
        """Takes `piece` and gives the lines that are complete."""
        end = piece.rfind(b"\n") + 1
        lines = bytes(self._line + piece[:end]) if end else b""
        if end:
            self._line.clear()
        self._line += piece[end:]
        if b"\r" in piece:
            written_over = self._line.rstrip(b"\r").rfind(b"\r") + 1
            del self._line[:written_over]
            self.altered = self.altered or written_over > 0
        if len(self._line) > _HELD:
            lines += self._line
            self._line.clear()
        return self._as_shown(lines)

    def rest(self) -> bytes:
        """The last line, which nothing ended."""
        rest = self._as_shown(bytes(self._line))
        self._line.clear()
        return rest

    def _as_shown(self, lines: bytes) -> bytes:
        shown = lines
        if b"\r" in lines:
            shown = b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines.split(b"\n"))
        if b"\x1b" in shown:
            shown = _ESCAPE.sub(b"", shown)
        self.altered = self.altered or shown != lines
        return shown


def _whole_lines(data: bytes, *, from_end: bool = False) -> bytes:
    """`data` up to its last line's end, or from its first one's on; where lines are long, to a character's."""
    end = data.find(b"\n") + 1 if from_end else data.rfind(b"\n") + 1
    if from_end:
        return data[end:] if 0 < end <= len(data) // 2 else utf8.whole_end(data)
    return data[:end] if end > len(data) // 2 else utf8.whole_start(data)
