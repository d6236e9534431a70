"""Trees of files: removed though read-only, sealed though linked to uv's cache."""

import os
import shutil
import stat
from pathlib import Path

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def remove_tree(path: Path) -> None:
    """Remove the directory `path` and all below it, read-only directories too. Nothing there is no error."""
    for directory, _, _ in os.walk(path):
        # An ordinary user removes nothing from a directory that is not writable. Files need no such thing.
        Path(directory).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


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
