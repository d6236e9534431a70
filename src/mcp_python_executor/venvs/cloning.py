"""What a generation has in common with the one before it: linked from there and not installed again.

uv starts the interpreter of an environment that it finds, and each start of one runs code of its packages (`.pth`
files, sitecustomize, and more): so uv makes a new environment, of what is new alone, and the rest is laid into that
afterwards.
"""

import csv
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from packaging.utils import canonicalize_name

from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.bytecode import is_sealed
from mcp_python_executor.venvs.drift import is_sound
from mcp_python_executor.venvs.files import remove_tree, sync_all
from mcp_python_executor.venvs.own import OWN
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import MARKER
from mcp_python_executor.venvs.store import Store

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
    try:
        # The marker is the last file that is sealed, and what is sealed is not changed by us.
        finished = (source / MARKER).stat().st_ctime_ns if is_sealed(store, generation) else None
        if not is_sound(store, generation):
            return
        target.mkdir()
        for path in source.iterdir():
            if path.is_symlink() or path.name in OWN:
                continue
            if path.is_dir():
                _link(str(path), str(target / path.name), finished)
            else:
                (target / path.name).hardlink_to(path)
        sync_all(target)  # while the index is waited for: at the end little is left to be written
    except (_TouchedError, OSError, RecursionError):  # not linked: too many links to a file, or a full disk
        remove_tree(target)


def leave(path: Path, kept: set[str]) -> bool:
    """Take from the clone `path` what only other distributions than `kept` brought.

    False where it can't be told who brought what: the clone is of no use then.
    """
    installed = {
        info: canonicalize_name(info.name.partition("-")[0]) in kept
        for packages in plain.site_packages(path)
        for info in packages.glob("*.dist-info")
    }
    if all(installed.values()):
        return True
    staying = {file for info, stays in installed.items() if stays for file in _recorded(info, path)}
    leaving = {file for info, stays in installed.items() if not stays for file in _recorded(info, path)} - staying
    for file in leaving:
        with suppress(OSError, ValueError):  # a record may hold a NUL
            os.unlink(file)  # noqa: PTH108 - hundreds of times, while somebody waits
            _remove_empty(os.path.dirname(file), path)  # noqa: PTH120
    left = (file for packages in plain.site_packages(path) for file in _files(packages))
    return all(file in staying for file in left)


def _recorded(info: Path, path: Path) -> Iterator[str]:
    """The files in the environment `path` that the distribution of the folder `info` says that it brought."""
    inside = f"{path}{os.sep}"
    with suppress(OSError, ValueError, csv.Error), (info / "RECORD").open(encoding="utf-8", newline="") as record:
        for row in csv.reader(record):
            file = os.path.normpath(info.parent / row[0]) if row else ""
            # Nothing is found by way of a link: a clone has none for a directory.
            if file.startswith(inside):
                yield file


def _remove_empty(directory: str, path: Path) -> None:
    while directory != str(path):
        os.rmdir(directory)  # noqa: PTH106 - until one is not empty
        directory = os.path.dirname(directory)  # noqa: PTH120


def _files(directory: Path) -> Iterator[str]:
    for folder, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(folder, name)  # noqa: PTH118 - thousands of times, while somebody waits


def lay(source: Path, target: Path) -> None:
    """Move what is in the directory `source` to `target`, but for what is there already."""
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if not os.path.lexists(place):
                os.rename(entry.path, place)  # noqa: PTH104
            elif entry.is_dir(follow_symlinks=False) and place.is_dir() and not place.is_symlink():
                lay(Path(entry.path), place)


def settle(path: Path, before: Path, after: Path) -> None:
    """Let what the clone `path` of `before` says of its own place name `after`, where it will be.

    Such files are replaced and never written to: they are linked. Their hashes in RECORD stay those of before.
    """
    old, new = os.fsencode(before), os.fsencode(after)
    for file in (path / "bin").iterdir() if (path / "bin").is_dir() else ():
        if not file.is_file() or file.stat().st_size > _SCRIPT_BYTES or old not in (content := file.read_bytes()):
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        file.unlink()
        file.write_bytes(content.replace(old, new))
        file.chmod(mode | stat.S_IWUSR)


def _link(source: str, target: str, finished: int | None) -> None:
    os.mkdir(target)  # noqa: PTH102 - thousands of times, while somebody waits
    if finished is not None and os.stat(source).st_mtime_ns > finished:  # noqa: PTH116
        raise _TouchedError
    folders: list[str] = []
    with _opened(source) as old, _opened(target) as new, os.scandir(old) as entries:
        for entry in entries:
            if entry.is_symlink():  # of an interpreter: no package brings one
                continue
            if entry.is_dir():
                folders.append(entry.name)
            else:  # by its name alone: walking the whole path each time takes longer than the link
                os.link(entry.name, entry.name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    for name in folders:
        if name != "__pycache__":
            _link(f"{source}{os.sep}{name}", f"{target}{os.sep}{name}", finished)


@contextmanager
def _opened(directory: str) -> Generator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
