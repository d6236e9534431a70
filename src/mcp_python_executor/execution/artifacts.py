"""Files that a run left, found and opened without following links."""

import mimetypes
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mcp_python_executor.execution.model import Artifact, Picture
from mcp_python_executor.process.folders import DIRECTORY, TICK_NS, open_directory

_MOST_FILES = 200
_MOST_SKIPPED = 20
_MOST_ENTRIES = 10_000
_MOST_DEPTH = 16
# Images that a model is shown with the result: each kind, and how a file of it begins.
_SHOWN = {"image/png": b"\x89PNG\r\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
_MOST_SHOWN = 20
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
            with suppress(OSError):  # it has gone, or the program left a folder that nobody may look into
                status = os.stat(name, dir_fd=place, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode) and status.st_ctime_ns >= since_ns - TICK_NS:
                    yield os.path.normpath(f"{path}/{name}"), status


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
