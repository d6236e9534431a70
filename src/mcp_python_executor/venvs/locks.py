"""Locks between servers: flock(2) on files, polled so that the event loop never blocks.

A flock belongs to the open file: it ends with the last process that holds the descriptor, however that one ends. A
child that is given the descriptor keeps the lock after our own death, until its work is over too.
"""

import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio

# How long to wait between two tries: short for a person, long for a processor.
_POLL_SECONDS = 0.02


class Lock:
    """A lock that is held, until released: at the latest with the block that it is entered for."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock up. Its file stays, unless the holder removed it."""
        os.close(self.descriptor)


def try_lock(path: Path | str, *, shared: bool = False) -> Lock | None:
    """The lock on the file `path`, made where it is missing; None while somebody holds it against us."""
    while True:
        # Read and write: a network file system grants an exclusive lock only so (flock(2)).
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_linked(descriptor, path):
            return Lock(descriptor)
        os.close(descriptor)  # its last holder removed the file between our two steps


@asynccontextmanager
async def locked(path: Path, *, shared: bool = False) -> AsyncGenerator[Lock]:
    """The lock on the file `path`, waited for."""
    while (lock := try_lock(path, shared=shared)) is None:  # noqa: ASYNC110 - another process tells nobody
        await anyio.sleep(_POLL_SECONDS)
    try:
        yield lock
    finally:
        lock.release()


def is_locked(path: Path | str) -> bool:
    """Whether somebody holds the exclusive lock on the file `path`. Makes no file, and may write to none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_linked(descriptor: int, path: Path | str) -> bool:
    mine = os.fstat(descriptor)
    try:
        there = os.stat(path)  # noqa: PTH116 - on the way of each execution
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def lock_directory(path: Path) -> Lock | None:
    """The exclusive lock on the directory `path`; None where somebody holds it, or where there is none any more.

    Such a descriptor must never reach a child: it opens a way out of any mount namespace.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if _is_linked(descriptor, path):
        return Lock(descriptor)
    os.close(descriptor)
    return None
