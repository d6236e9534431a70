"""Files that a run left, found, opened and removed without following links."""

import mimetypes
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mcp_python_executor.execution.model import Artifact, Picture

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder by, through no link."""

TICK_NS = 10_000_000
"""The kernel stamps files with the time of its last tick, up to so much before the clock's."""

_MOST_FILES = 200
_MOST_SKIPPED = 20
_MOST_ENTRIES = 10_000
_MOST_DEPTH = 16
# Images that a model is shown with the result: each kind, and how a file of it begins.
_SHOWN = {"image/png": b"\x89PNG\r\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
_MOST_SHOWN = 5
_MOST_SHOWN_BYTES = 256 * 1024
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SKIPPED = frozenset({"__pycache__"})


def may_hold_files(root: Path) -> bool:
    """Whether `root` holds more than the one file that every inline program leaves: a quick look."""
    try:
        with os.scandir(root) as entries:
            return any(entry.name != "main.py" for entry in entries)
    except OSError:
        return False


@dataclass(slots=True)
class Found:
    """What a run left: its `files`, by name a directory each and a path in it, and what is `skipped` and why.

    `pictures` are the small images among them.
    """

    files: dict[str, tuple[Path, str]] = field(default_factory=dict[str, tuple[Path, str]])
    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    skipped: list[str] = field(default_factory=list[str])
    pictures: list[Picture] = field(default_factory=list[Picture])


def find(roots: dict[str, Path], own: Path, execution_id: str, since_ns: int, program: Path) -> Found:
    """The regular files below `roots` that changed since the execution began, at most 200.

    `roots` maps a name to a directory; `own` is the execution's. `program` is the inline code's own file, left out
    while it is unchanged. Whatever is no file is skipped by name, at most 20.
    """
    found = Found()
    for label, root in roots.items():
        for relative, status in _changed(root, own, since_ns):
            if root / relative == program:
                continue
            if not stat.S_ISREG(status.st_mode):
                if len(found.skipped) < _MOST_SKIPPED:
                    found.skipped.append(f"{root / relative} ({_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')})")
                continue
            if len(found.artifacts) == _MOST_FILES:
                found.skipped.append(f"more than {_MOST_FILES} files")
                return found
            name = f"{label}/{relative}"
            found.files[name] = (root, relative)
            kind = mimetypes.guess_type(relative)[0] or "application/octet-stream"
            uri = f"execution://{execution_id}/files/{quote(name, errors='surrogateescape')}"
            found.artifacts.append(Artifact(root / relative, status.st_size, kind, uri))
            if kind in _SHOWN and status.st_size <= _MOST_SHOWN_BYTES and len(found.pictures) < _MOST_SHOWN:
                found.pictures += _picture(root, relative, own, kind)
    return found


def _picture(root: Path, relative: str, own: Path, kind: str) -> Iterator[Picture]:
    with suppress(OSError), open(open_beneath(root, relative, own), "rb") as file:
        data = file.read(_MOST_SHOWN_BYTES)
        if data.startswith(_SHOWN[kind]):
            yield Picture(data, kind)


def _changed(root: Path, own: Path, since_ns: int) -> Iterator[tuple[str, os.stat_result]]:
    """What is below `root`, no folder and changed since then, by path, never through a link."""
    for path, names, place in _walk(root, own):
        for name in sorted(names):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) and status.st_ctime_ns >= since_ns - TICK_NS:
                    yield os.path.normpath(f"{path}/{name}"), status


def open_directory(root: Path, own: Path) -> int:
    """A descriptor of the directory `root`. What lies in an execution's `own` is reached through no link.

    The warm interpreter that forked the program may write where executions have their directories, and packages run
    in it: any of them could be a link by now.
    """
    if not root.is_relative_to(own):
        return os.open(root, DIRECTORY)
    place = os.open(own.parent, DIRECTORY)
    for name in root.relative_to(own.parent).parts:
        try:
            below = os.open(name, DIRECTORY, dir_fd=place)
        finally:
            os.close(place)
        place = below
    return place


def _walk(root: Path, own: Path) -> Iterator[tuple[str, list[str], int]]:
    """Each folder's path below `root`, the names in it and a descriptor of it: never through a link, and bounded."""
    with suppress(OSError):
        top = open_directory(root, own)
        seen = 0
        try:
            for path, folders, names, place in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                seen += len(names) + len(folders)
                folders[:] = sorted(set(folders) - _SKIPPED)
                here = [*names, *folders][:_MOST_ENTRIES]  # a link to a folder is among the folders
                if path.count("/") >= _MOST_DEPTH or seen > _MOST_ENTRIES:
                    folders.clear()
                yield path, here, place
        finally:
            os.close(top)


def open_beneath(root: Path, relative: str, own: Path) -> int:
    """A descriptor to read a regular file by; no part of `relative` may be a link or lead out of `root`.

    Raises:
        OSError: it is not there, or no regular file.
    """
    *directories, name = relative.split("/")
    place = open_directory(root, own)
    try:
        for directory in directories:
            below = os.open(directory, DIRECTORY, dir_fd=place)
            os.close(place)
            place = below
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def remove(directory: Path) -> None:
    """Removes a run's directory (or file), whatever modes, depth or number of files its program left there.

    Every folder comes up to the top before it is emptied, so that neither paths nor recursion grow with the depth.
    """
    if directory.is_symlink() or not directory.is_dir():
        directory.unlink(missing_ok=True)
        return
    top = os.open(directory, DIRECTORY)
    try:
        while names := os.listdir(top):  # noqa: PTH208 - a descriptor has no Path
            for name in names:
                _remove_at_top(top, name)
    finally:
        os.close(top)
    directory.rmdir()


def prune(directory: Path, kept: Collection[str]) -> None:
    """Removes from a run's directory everything but the files `kept`, which are paths in it."""
    place = os.open(directory, DIRECTORY)
    try:
        _prune(place, kept)
    finally:
        os.close(place)


def _prune(place: int, kept: Iterable[str]) -> None:
    below: dict[str, list[str]] = {}
    for path in kept:
        name, _, rest = path.partition("/")
        below.setdefault(name, []).append(rest)
    os.fchmod(place, 0o700)
    while names := [name for name in os.listdir(place) if name not in below]:
        for name in names:
            _remove_at_top(place, name)
    for name, rests in below.items():
        if rests != [""]:
            folder = os.open(name, DIRECTORY, dir_fd=place)
            try:
                _prune(folder, rests)
            finally:
                os.close(folder)


def _remove_at_top(top: int, name: str) -> None:
    if not _is_folder(name, top):
        os.unlink(name, dir_fd=top)
        return
    os.chmod(name, 0o700, dir_fd=top)
    place = os.open(name, DIRECTORY, dir_fd=top)
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
