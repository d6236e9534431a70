"""Trees of files: removed though read-only, sealed though linked to uv's cache, made to outlast a loss of power."""

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mcp_python_executor.process.folders import remove

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
# Linux: see rename(2). The constant is the kernel's.
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def exchange(one: Path, other: Path) -> None:
    """Let each of two names stand for what the other did, in one step: a link takes a folder's place so.

    Raises:
        OSError: the file system (or the system) can't.
    """
    library = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(library, "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def remove_tree(path: Path) -> None:
    """Remove the directory `path` and all below it, read-only directories too. Nothing there is no error."""
    if path.is_symlink():
        path.unlink()
        return
    with suppress(RecursionError):
        for directory, _, _ in os.walk(path):
            # An ordinary user removes nothing from a directory that is not writable. Files need no such thing.
            Path(directory).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    if path.is_dir():  # so deep that no path leads there, as a build may leave it
        with suppress(OSError):
            remove(path)


def walk(path: Path, deepest: int) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """What lies below the directory `path`, in up to so many folders, and in how many of them; no link is followed.

    A folder that can't be looked into is taken for empty.
    """
    folders = [(1, str(path))]
    while folders:
        depth, folder = folders.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                yield depth, entry
                if depth < deepest and entry.is_dir(follow_symlinks=False):
                    folders.append((depth + 1, entry.path))


def seal(path: Path) -> None:
    """Take the right to write from everything below the directory `path`, and from itself last.

    A file that uv linked from its cache is one file with the cache's: it becomes read-only there too, and so in every
    environment, which is what we want of it. uv itself links, unlinks and renames such files without writing to them.
    """
    for directory, _, names in os.walk(path, topdown=False):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) and mode & _WRITE:
                    os.chmod(name, stat.S_IMODE(mode) & ~_WRITE, dir_fd=descriptor)
            os.fchmod(descriptor, 0o555)
        finally:
            os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames in the directory `path` outlast a loss of power: see rename(2) and fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(path: Path) -> None:
    """Make everything that was written to the file system of `path` outlast a loss of power: see syncfs(2).

    uv does not: a package's files may be empty when the power comes back, though a file made later is whole. One call
    costs as much as a few fsync(2), one for each file of a large environment would take seconds.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # not Linux
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
