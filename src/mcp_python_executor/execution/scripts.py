"""Which files may be run as scripts, and how much of its folder a script sees."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from mcp_python_executor.errors import InvalidArgument

# Past this many entries a folder is no project that a script needs, and looking through it costs more than a run.
_MOST_ENTRIES = 20_000


def check(path: Path, roots: Sequence[Path]) -> Path:
    """The real path of the script at `path`.

    Raises:
        InvalidArgument: it is missing, no regular file, or outside `roots` or in a hidden folder of them.
    """
    if not path.is_absolute():
        raise InvalidArgument(f"script {str(path)!r} is a relative path; give an absolute one")
    try:
        real = path.resolve(strict=True)
        is_file = stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidArgument(f"script {str(path)!r} can't be read: {reason}; give the path of a file") from error
    if not is_file:
        raise InvalidArgument(f"script {str(path)!r} is not a regular file; give the path of a file")
    for root in roots:
        beneath = root.resolve()
        if real.is_relative_to(beneath) and not _hidden(real.relative_to(beneath)):
            return real
    names = ", ".join(repr(str(root)) for root in roots)
    raise InvalidArgument(
        f"script {str(path)!r} is outside SCRIPT_ROOTS or in a hidden folder; scripts may lie below {names}"
    )


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
