"""What is kept of the latest executions, for a bounded time and space, and read by pages: outputs and files."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution import artifacts, utf8
from mcp_python_executor.limits import MEBIBYTE

PAGE_BYTES = 32_768
"""How much a page holds where nothing else is asked for."""

MOST_PAGE_BYTES = 4 * MEBIBYTE
"""How much a page can hold."""

LEAST_PAGE_BYTES = 4
"""Room for any one character."""

# Enough for every result that a conversation still talks about.
_KEPT_EXECUTIONS = 100
_KEPT_BYTES = 2048 * MEBIBYTE
_KEPT_SECONDS = 24 * 3600
_STREAMS = ("stdout", "stderr")
# Bytes of a character: see RFC 3629.
_LONGEST = 4


@dataclass(frozen=True, slots=True)
class Page:
    """Bytes of an output or a file, from `offset` on of `total`; whole characters where it `is_text`."""

    data: bytes
    offset: int
    total: int
    is_text: bool

    @property
    def next_offset(self) -> int | None:
        """Where the next page begins; None at the end."""
        end = self.offset + len(self.data)
        return end if end < self.total else None


@dataclass(slots=True)
class Record:
    """What is kept of one execution: its outputs, and where its files lie by name.

    `streams` are bytes, or the files that hold them. `files` are a directory each and a path in it; what lies in the
    execution's own `directory` is reached through no link. `paths` go with the record, which hold `size` bytes.
    """

    directory: Path
    streams: dict[str, bytes | Path] = field(default_factory=dict[str, bytes | Path])
    files: dict[str, tuple[Path, str]] = field(default_factory=dict[str, tuple[Path, str]])
    paths: list[Path] = field(default_factory=list[Path])
    size: int = 0
    kept_since: float = field(default_factory=time.monotonic)


class Records:
    """The latest executions' outputs and files. What falls out of it is removed from the disk."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._size = 0

    def keep(self, execution_id: str, record: Record) -> list[Path]:
        """Remembers `record`; gives the directories and files that nobody can ask for any more."""
        self._records[execution_id] = record
        self._size += record.size
        dropped = self.expire()
        while len(self._records) > 1 and (len(self._records) > _KEPT_EXECUTIONS or self._size > _KEPT_BYTES):
            dropped += self._drop_oldest()
        return dropped

    def expire(self) -> list[Path]:
        """Lets go of what is a day old; gives the directories and files of that."""
        dropped: list[Path] = []
        while self._records and _is_old(next(iter(self._records.values()))):
            dropped += self._drop_oldest()
        return dropped

    def _drop_oldest(self) -> list[Path]:
        oldest = self._records.popitem(last=False)[1]
        self._size -= oldest.size
        return oldest.paths

    def page(self, execution_id: str, source: str, offset: int = 0, limit: int = PAGE_BYTES) -> Page:
        """The page of `source` at `offset`: `stdout`, `stderr`, or a file that the execution listed, by name or path.

        Raises:
            InvalidArgument: there is no such thing, or it has no such offset.
        """
        record = self._record(execution_id)
        if source in _STREAMS:
            kept = record.streams.get(source, b"")
            if isinstance(kept, bytes):
                return _page(source, offset, limit, len(kept), lambda start, end: kept[start:end])
            return self._from_file(source, lambda: os.open(kept, os.O_RDONLY | os.O_CLOEXEC), offset, limit)
        name = _name(record, source)
        if name is None:
            there = ", ".join(map(repr, [*_STREAMS, *sorted(record.files)]))
            raise InvalidArgument(f"execution {execution_id!r} lists no file {source!r}; there are {there}")
        return self._from_file(
            source, lambda: artifacts.open_beneath(*record.files[name], record.directory), offset, limit
        )

    @staticmethod
    def _from_file(source: str, open_file: Callable[[], int], offset: int, limit: int) -> Page:
        try:
            descriptor = open_file()
        except OSError as error:
            raise InvalidArgument(f"{source!r} can't be read any more: {error.strerror}") from error
        try:
            size = os.fstat(descriptor).st_size
            return _page(source, offset, limit, size, lambda start, end: os.pread(descriptor, end - start, start))
        finally:
            os.close(descriptor)

    def _record(self, execution_id: str) -> Record:
        record = self._records.get(execution_id)
        if record is None or _is_old(record):
            raise InvalidArgument(
                f"no execution {execution_id!r} is kept; the last ones are, by their results' executionId: at most "
                f"{_KEPT_EXECUTIONS}, {_KEPT_BYTES // MEBIBYTE} MB in all, each for {_KEPT_SECONDS // 3600} hours"
            )
        return record


def _is_old(record: Record) -> bool:
    return time.monotonic() - record.kept_since > _KEPT_SECONDS


def _name(record: Record, source: str) -> str | None:
    """The name of the file that `source` names, or is the path of."""
    if source in record.files:
        return source
    return next((name for name, (root, path) in record.files.items() if source == str(root / path)), None)


def _page(source: str, offset: int, limit: int, total: int, read: Callable[[int, int], bytes]) -> Page:
    if offset > total:
        raise InvalidArgument(f"offset={offset} is past the end of {source!r}, which has {total} bytes")
    data = read(offset, offset + limit)
    if offset + len(data) < total:
        data = utf8.whole_start(data)  # of bytes too: the next page may be text
    before = read(max(0, offset - _LONGEST), offset)
    text = utf8.whole_end(data) if utf8.whole_start(before) != before else data
    if source in _STREAMS or _is_text(text):
        return Page(text, offset + len(data) - len(text), total, is_text=True)
    return Page(data, offset, total, is_text=False)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False
