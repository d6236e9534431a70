"""Files that a run left, found and read without following links; kept for a bounded number of executions."""

import mimetypes
import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.model import Artifact

# Enough for every result that a conversation still talks about.
_KEPT_EXECUTIONS = 100
_MOST_FILES = 200
_MOST_ENTRIES = 10_000
_MOST_DEPTH = 16
_MOST_READ = 64 * 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SKIPPED = frozenset({"__pycache__"})
# The kernel stamps files with the time of its last tick, up to 10 ms before the clock's.
_TICK_NS = 10_000_000


@dataclass(slots=True)
class Record:
    """What is kept of one execution: its own directory, its streams' files, and where its artifacts lie by name."""

    directory: Path
    streams: dict[str, Path] = field(default_factory=dict[str, Path])
    files: dict[str, tuple[Path, str]] = field(default_factory=dict[str, tuple[Path, str]])


class Records:
    """The latest executions' outputs and artifacts. What falls out of it is removed from the disk."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, Record] = OrderedDict()

    def keep(self, execution_id: str, record: Record) -> list[Path]:
        """Remembers `record`; gives the directories and files that nobody can ask for any more."""
        self._records[execution_id] = record
        dropped: list[Path] = []
        while len(self._records) > _KEPT_EXECUTIONS:
            record = self._records.popitem(last=False)[1]
            dropped += [record.directory, *record.streams.values()]
        return dropped

    def stream(self, execution_id: str, name: str) -> Path:
        """The file that holds the whole of output `name` of an execution.

        Raises:
            InvalidArgument: there is none.
        """
        record = self._record(execution_id)
        if name not in record.streams:
            raise InvalidArgument(f"execution {execution_id!r} kept no {name}: its result carries all of it")
        return record.streams[name]

    def file(self, execution_id: str, name: str) -> bytes:
        """The bytes of the artifact that an execution listed as `name`.

        Raises:
            InvalidArgument: it listed none of that name, or the file has gone.
        """
        record = self._record(execution_id)
        if name not in record.files:
            there = sorted(record.files)
            raise InvalidArgument(f"execution {execution_id!r} lists no file {name!r}; there are {there}")
        try:
            return _read_beneath(*record.files[name], record.directory)
        except OSError as error:
            raise InvalidArgument(f"file {name!r} of execution {execution_id!r}: {error.strerror}") from error

    def _record(self, execution_id: str) -> Record:
        if execution_id not in self._records:
            raise InvalidArgument(f"no execution {execution_id!r} is kept; the last {_KEPT_EXECUTIONS} are")
        return self._records[execution_id]


def may_hold_files(root: Path) -> bool:
    """Whether `root` holds more than the one file that every inline program leaves: a quick look."""
    try:
        with os.scandir(root) as entries:
            return any(entry.name != "main.py" for entry in entries)
    except OSError:
        return False


def find(roots: dict[str, Path], record: Record, execution_id: str, since_ns: int, program: Path) -> list[Artifact]:
    """The regular files below `roots` that changed since the execution began, at most 200; `record` learns where.

    `roots` maps a name to a directory. `program` is the inline code's own file, left out while it is unchanged.
    """
    found: list[Artifact] = []
    for label, root in roots.items():
        for relative, status in _changed(root, record.directory, since_ns):
            if root / relative == program:
                continue
            if len(found) == _MOST_FILES:
                return found
            name = f"{label}/{relative}"
            record.files[name] = (root, relative)
            kind = mimetypes.guess_type(relative)[0] or "application/octet-stream"
            uri = f"execution://{execution_id}/files/{quote(name, errors='surrogateescape')}"
            found.append(Artifact(root / relative, status.st_size, kind, uri))
    return found


def _changed(root: Path, own: Path, since_ns: int) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below `root` changed since then, by path, never through a link."""
    for path, names, place in _walk(root, own):
        for name in sorted(names):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_ctime_ns >= since_ns - _TICK_NS:
                    yield os.path.normpath(f"{path}/{name}"), status


def _open(root: Path, own: Path) -> int:
    """A descriptor of the directory `root`. What lies in an execution's `own` is reached through no link.

    The warm interpreter that forked the program may write where executions have their directories, and packages run
    in it: any of them could be a link by now.
    """
    if not root.is_relative_to(own):
        return os.open(root, _DIRECTORY)
    place = os.open(own.parent, _DIRECTORY)
    for name in root.relative_to(own.parent).parts:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=place)
        finally:
            os.close(place)
        place = below
    return place


def _walk(root: Path, own: Path) -> Iterator[tuple[str, list[str], int]]:
    """Each folder's path below `root`, the names in it and a descriptor of it: never through a link, and bounded."""
    with suppress(OSError):
        top = _open(root, own)
        seen = 0
        try:
            for path, folders, names, place in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                seen += len(names) + len(folders)
                folders[:] = sorted(set(folders) - _SKIPPED)
                if path.count("/") >= _MOST_DEPTH or seen > _MOST_ENTRIES:
                    folders.clear()
                yield path, names[:_MOST_ENTRIES], place
        finally:
            os.close(top)


def _read_beneath(root: Path, relative: str, own: Path) -> bytes:
    """Reads a regular file at most 64 MiB long; no part of `relative` may be a link or lead out of `root`."""
    *directories, name = relative.split("/")
    place = _open(root, own)
    try:
        for directory in directories:
            below = os.open(directory, _DIRECTORY, dir_fd=place)
            os.close(place)
            place = below
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    with open(descriptor, "rb") as file:
        return file.read(_MOST_READ)


def disk_usage(directories: Iterable[Path]) -> int:
    """Bytes on the disk that the files below `directories` take, as far as a walk looks."""
    blocks = 0
    for directory in directories:
        for _, names, place in _walk(directory, directory.parent):
            for name in names:
                with suppress(FileNotFoundError):
                    blocks += os.stat(name, dir_fd=place, follow_symlinks=False).st_blocks
    return blocks * 512


def remove(directory: Path) -> None:
    """Removes a run's directory (or file), whatever modes, depth or number of files its program left there.

    Every folder comes up to the top before it is emptied, so that neither paths nor recursion grow with the depth.
    """
    if directory.is_symlink() or not directory.is_dir():
        directory.unlink(missing_ok=True)
        return
    top = os.open(directory, _DIRECTORY)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - a descriptor has no Path
            for name in names:
                _remove_at_top(top, name)
    finally:
        os.close(top)
    directory.rmdir()


def _remove_at_top(top: int, name: str) -> None:
    if not _is_folder(name, top):
        os.unlink(name, dir_fd=top)
        return
    os.chmod(name, 0o700, dir_fd=top)
    place = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for below in os.listdir(place):  # noqa: PTH208
            if _is_folder(below, place):
                os.chmod(below, 0o700, dir_fd=place)  # moving a folder writes to it
                os.rename(below, secrets.token_hex(8), src_dir_fd=place, dst_dir_fd=top)
            else:
                os.unlink(below, dir_fd=place)
    finally:
        os.close(place)
    os.rmdir(name, dir_fd=top)


def _is_folder(name: str, place: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode)
