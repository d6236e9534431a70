"""The directory that holds a server's runs, and the removal of those that dead servers left."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

from mcp_python_executor.errors import StoreError
from mcp_python_executor.process.folders import remove

log = structlog.get_logger()

_LOCK = "lock"


@contextmanager
def open_runs(parent: Path) -> Generator[Path]:
    """A fresh directory in `parent` for this server's runs, removed at the end; first removes what dead servers left.

    A live server holds a lock in its own.

    Raises:
        StoreError: `parent` can't be written.
    """
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(parent)
        directory = parent / secrets.token_hex(6)
        directory.mkdir(mode=0o700)
        lock = FileLock(directory / _LOCK)
        lock.acquire(blocking=False)
    except OSError as error:
        raise StoreError(f"{str(parent)!r} can't be written: {error.strerror}; set VENVS_BASE_PATH") from error
    try:
        yield directory
    finally:
        lock.release()
        remove(directory)


def _sweep(parent: Path) -> None:
    for entry in os.scandir(parent):
        lock = FileLock(Path(entry.path) / _LOCK)
        try:
            with lock.acquire(blocking=False):
                remove(Path(entry.path))
        except (Timeout, OSError) as error:  # its server lives, another one sweeps it, or it can't be removed
            log.debug("runs_not_swept", directory=entry.path, reason=str(error))
