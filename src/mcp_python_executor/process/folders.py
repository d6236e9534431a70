"""Folders that a stranger's program wrote to: opened through no link, removed whatever it left of them."""

import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder by, through no link."""

TICK_NS = 10_000_000
"""The kernel stamps files with the time of its last tick, up to so much before the clock's."""

# One for each folder in another. A program may have made thousands before it was seen; without end somebody fills it.
_MOST_ROUNDS = 100_000


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


def enter(name: str, place: int, mode: int = stat.S_IRWXU) -> int:
    """A descriptor of the folder `name` in `place`, which its owner may use as `mode` says from now on.

    What is looked at is what is changed and opened, whatever stands under that name by then.

    Raises:
        OSError: it has gone, or is no folder.
    """
    folder = os.open(name, os.O_PATH | DIRECTORY, dir_fd=place)
    try:
        has = stat.S_IMODE(os.fstat(folder).st_mode)
        if has & mode != mode:
            Path(f"/proc/self/fd/{folder}").chmod(has | mode)
        return os.open(".", DIRECTORY, dir_fd=folder)
    finally:
        os.close(folder)


def remove(directory: Path) -> None:
    """Removes a directory (or file), whatever modes, depth or number of files a program left there.

    Every folder comes up to the top before it is emptied, so that neither paths nor recursion grow with the depth.

    Raises:
        OSError: something of it can't be removed, or somebody fills it all the while.
    """
    if directory.is_symlink() or not directory.is_dir():
        directory.unlink(missing_ok=True)
        return
    top = os.open(directory, DIRECTORY)
    try:
        _empty(top, ())
    finally:
        os.close(top)
    directory.rmdir()


def prune(directory: Path, kept: Collection[str]) -> None:
    """Removes from a directory everything but the files `kept`, which are paths in it.

    Raises:
        OSError: as `remove` does.
    """
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
    _empty(place, below)
    for name, rests in below.items():
        if rests != [""]:
            folder = enter(name, place)
            try:
                _prune(folder, rests)
            finally:
                os.close(folder)


def _empty(place: int, kept: Collection[str]) -> None:
    for _ in range(_MOST_ROUNDS):
        names = [name for name in os.listdir(place) if name not in kept]
        if not names:
            return
        for name in names:
            _remove_at_top(place, name)
    raise OSError(errno.ENOTEMPTY, "it was filled all the while")


def _remove_at_top(top: int, name: str) -> None:
    if not _is_folder(name, top):
        os.unlink(name, dir_fd=top)
        return
    place = enter(name, top)
    try:
        for below in os.listdir(place):  # noqa: PTH208
            if _is_folder(below, place):
                os.close(enter(below, place))  # moving a folder writes to it
                os.rename(below, secrets.token_hex(8), src_dir_fd=place, dst_dir_fd=top)
            else:
                os.unlink(below, dir_fd=place)
    finally:
        os.close(place)
    os.rmdir(name, dir_fd=top)


def _is_folder(name: str, place: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode)
