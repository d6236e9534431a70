"""A generation begun as a copy of the one before it: what stays the same is linked and not installed again."""

import os
import shutil
import stat
from pathlib import Path

from mcp_python_executor.venvs.bytecode import is_sealed
from mcp_python_executor.venvs.drift import is_sound
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import MARKER
from mcp_python_executor.venvs.store import Store

# Of an environment's own files, those that uv makes with it and expects.
_FILES = ("pyvenv.cfg", ".gitignore", "CACHEDIR.TAG")
# Wheels that were built are taken over with the lock that names them.
_LEFT_OUT = frozenset(["wheels"])
# A larger file in `bin` is a program, which names no place.
_SCRIPT_BYTES = 1024 * 1024


class _TouchedError(Exception):
    """Somebody was at it since it was finished."""


def clone(store: Store, generation: str, interpreter: Interpreter, target: Path) -> None:
    """Make `target`, on the same file system, what `generation` has installed, without its bytecode.

    There is no `target` afterwards where that can't be: it was made from another interpreter, or somebody changed it.
    """
    source = store.path(generation)
    record = store.record(generation)
    if record is None or (record.base_python, record.python_version) != (str(interpreter.python), interpreter.version):
        return
    # The marker is the last file that is sealed, and what is sealed is not changed by us.
    finished = (source / MARKER).stat().st_ctime_ns if is_sealed(store, generation) else None
    if not is_sound(store, generation):
        return
    target.mkdir()
    try:
        _begin(source, target, finished)
    except (_TouchedError, OSError):  # not linked: too many links to a file, say
        shutil.rmtree(target, ignore_errors=True)


def _begin(source: Path, target: Path, finished: int | None) -> None:
    for path in source.iterdir():
        if path.is_symlink():
            (target / path.name).symlink_to(path.readlink())
        elif path.is_dir() and path.name not in _LEFT_OUT:
            _link(str(path), str(target / path.name), finished)
        elif path.name in _FILES:
            shutil.copyfile(path, target / path.name)


def settle(path: Path, before: Path) -> None:
    """Let what a clone of `before` says of its own place name `path`, where it is now.

    Such files are replaced and never written to: they may be linked. Their hashes in RECORD stay those of before.
    """
    old, new = os.fsencode(before), os.fsencode(path)
    for file in (path / "bin").iterdir():
        if file.is_symlink() or file.stat().st_size > _SCRIPT_BYTES or old not in (content := file.read_bytes()):
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        file.unlink()
        file.write_bytes(content.replace(old, new))
        file.chmod(mode | stat.S_IWUSR)


def _link(source: str, target: str, finished: int | None) -> None:
    os.mkdir(target)  # noqa: PTH102 - thousands of times, while somebody waits
    if finished is not None and os.stat(source).st_mtime_ns > finished:  # noqa: PTH116
        raise _TouchedError
    with os.scandir(source) as entries:
        for entry in entries:
            place = f"{target}{os.sep}{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211
            elif not entry.is_dir():
                os.link(entry.path, place)
            elif entry.name != "__pycache__":
                _link(entry.path, place, finished)
