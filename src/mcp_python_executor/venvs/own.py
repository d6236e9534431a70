"""What makes an environment one, and is no package's to bring: a wheel may hold a file for any place in it.

The interpreter reads some of it before anything else (getpath.py of CPython): whoever writes it chooses the standard
library that each start runs, also one without `site`.
"""

from pathlib import Path

from mcp_python_executor.errors import PackageError
from mcp_python_executor.venvs.files import walk
from mcp_python_executor.venvs.project import LOCK, PYPROJECT, WHEELS
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import MARKER, PACKAGES

_CONFIG = "pyvenv.cfg"
_OURS = (MARKER, PACKAGES, PYPROJECT, LOCK, WHEELS)
# In the folder of an environment, uv's and ours.
OWN = frozenset([_CONFIG, ".gitignore", ".lock", "CACHEDIR.TAG", *_OURS])
# Whoever goes through an environment, compileall too, does it by recursion; no package comes near that.
_DEEPEST = 64


def require_own(path: Path, interpreter: Interpreter) -> None:
    """Nothing, where the environment `path` is still as uv made it of `interpreter`, before anything of ours is in it.

    Raises:
        PackageError: a package has put a file there that is none of its business, or folders too deep in one another.
    """
    found = [name for name in _OURS if (path / name).exists()]
    found += [f"bin/{file.name}" for file in (path / "bin").iterdir() if _is_read_at_start(file)]
    if (path / "bin" / "python").resolve() != interpreter.python.resolve():
        found.append("bin/python")
    if not _is_of(path / _CONFIG, interpreter):
        found.append(_CONFIG)
    if found:
        raise PackageError(f"they can't be installed: one brings {found[0]!r}, which is the environment's own")
    if any(depth > _DEEPEST for depth, _ in walk(path, _DEEPEST + 1)):
        raise PackageError(f"they can't be installed: one brings more than {_DEEPEST} folders in one another")


def _is_read_at_start(file: Path) -> bool:
    return file.name == _CONFIG or file.name.endswith("._pth")


def _is_of(config: Path, interpreter: Interpreter) -> bool:
    """Whether it names `interpreter`, by no way that might change, and in words that can't be read in another way."""
    text = config.read_text(encoding="utf-8", errors="surrogateescape")
    pairs = [line.partition("=") for line in text.split("\n")]
    homes = [value.strip() for key, _, value in pairs if key.strip().lower() == "home"]
    python = interpreter.python
    there = {str(place) for place in (python.parent, python.resolve().parent, interpreter.prefix / "bin")}
    return all(char.isprintable() or char == "\n" for char in text) and len(homes) == 1 and homes[0] in there
