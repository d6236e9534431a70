"""Which files may be run as scripts, and how much of its folder a script sees."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from mcp_python_executor.errors import InvalidArgument, shown

# Past this many entries a folder is no project that a script needs, and looking through it costs more than a run.
_MOST_ENTRIES = 20_000
# A path is known by its end: only those are cut that nobody means.
_SHOWN_CHARACTERS = 300


def check(path: Path, roots: Sequence[Path]) -> Path:
    """The real path of the script at `path`.

    Raises:
        InvalidArgument: it is missing, no regular file, or outside `roots` or in a hidden folder of them.
    """
    asked = shown(str(path), most=_SHOWN_CHARACTERS)
    if not path.is_absolute():
        raise InvalidArgument(f"script {asked} is a relative path; give an absolute one")
    try:
        real = path.resolve(strict=True)
        is_file = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidArgument(f"script {asked} can't be read: {_reason(error)}; give the path of a file") from error
    if not is_file:
        raise InvalidArgument(f"script {asked} is not a regular file; give the path of a file")
    for root in roots:
        try:
            beneath = root.resolve()
        except (OSError, RuntimeError):  # a loop of links: nothing lies below it
            continue
        if real.is_relative_to(beneath) and not _hidden(real.relative_to(beneath)):
            return real
    names = ", ".join(repr(str(root)) for root in roots)
    raise InvalidArgument(
        f"script {asked} is outside SCRIPT_ROOTS or in a hidden folder; scripts may lie below {names}"
    )


def _reason(error: Exception) -> str:
    """Of a loop of links pathlib tells as an error of its own, up to Python 3.12."""
    if isinstance(error, RuntimeError):
        return os.strerror(errno.ELOOP)
    return (isinstance(error, OSError) and error.strerror) or "no file can have this name"


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def visible(script: Path, private: Sequence[Path]) -> Path:
    """What the script at `script` (a real path) may read: its folder, or only itself.

    Only itself when the folder is or contains one of `private` (the home directory, the environments), or contains a
    hidden entry, where keys and histories lie.
    """
    folder = script.parent
    if any(path.resolve().is_relative_to(folder) for path in private) or _holds_hidden(folder):
        return script
    return folder


def _holds_hidden(folder: Path) -> bool:
    seen = 0
    for _, directories, files in os.walk(folder):
        seen += len(directories) + len(files)
        if seen > _MOST_ENTRIES or any(name.startswith(".") for name in (*directories, *files)):
            return True
    return False
