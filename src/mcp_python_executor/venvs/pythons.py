"""Base interpreters: the one that runs the server, and what else the machine has for a `pythonVersion`."""

import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from mcp_python_executor.errors import InvalidArgument, shown
from mcp_python_executor.sandbox.policy import interpreter_paths

OLDEST = Version("3.9")
# Asking an interpreter costs its start: those that are too old are not asked. Follows OLDEST.
_SUPPORTED = re.compile(r"python3\.(9|[1-9][0-9])")
# Where interpreters are looked for: what a system and its administrator installed, and the user's pyenv and uv.
# Executed code can write to none of them.
SYSTEM_BINS = (Path("/usr/local/bin"), Path("/usr/bin"), Path("/bin"))
# No version that anybody means is as long, and numbers of thousands of digits can't be read at all.
_MOST_CHARACTERS = 100
_VERSION_HINT = "give a version like '3.12' or a specifier like '>=3.10'"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A base interpreter, on this machine's own platform."""

    python: Path
    version: str
    prefix: Path
    implementation: str = "cpython"

    @property
    def minor(self) -> str:
        """The version that code is written for: `3.12`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def paths(self) -> tuple[Path, ...]:
        """What must be read of it to run it."""
        return interpreter_paths(self.prefix, self.version)[0]

    @property
    def hidden(self) -> tuple[Path, ...]:
        """What below `paths` is none of its business: packages that a person installed into it."""
        return interpreter_paths(self.prefix, self.version)[1]


def default() -> Interpreter:
    """The interpreter beneath the one that runs us."""
    python = Path(getattr(sys, "_base_executable", "") or sys.executable)
    return Interpreter(python, platform.python_version(), Path(sys.base_prefix), sys.implementation.name)


def directories(home: Path) -> list[Path]:
    """Where to look for interpreters, the first ones preferred."""
    found = sorted((home / ".pyenv" / "versions").glob("*/bin"), reverse=True)
    found += sorted((home / ".local" / "share" / "uv" / "python").glob("*/bin"), reverse=True)
    return [path for path in (*SYSTEM_BINS, *found) if any(map(_SUPPORTED.fullmatch, _names(path)))]


def is_of_machine(python: Path) -> bool:
    """Whether the interpreter at `python` lies where executed code and packages can't write."""
    return python.resolve() == default().python.resolve() or python.parent in directories(Path.home())


def is_too_old(version: str) -> bool:
    """Whether nothing of ours runs in Python `version`. One of which that is not known may do."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", version)
    return numbers is not None and tuple(map(int, numbers.groups())) < OLDEST.release


def specifiers(text: str) -> SpecifierSet:
    """The versions that `text` accepts: `3.12` is any 3.12, `3.12.1` that one, `>=3.10` what it says.

    Raises:
        InvalidArgument: it is no version and no specifier, or asks for one that is too old.
    """
    text = text.strip()
    if len(text) > _MOST_CHARACTERS or not text.isascii():
        raise InvalidArgument(f"{shown(text)} is no Python version; {_VERSION_HINT}")
    try:
        version = Version(text)
    except InvalidVersion:
        version = None
    if version is not None and version.release[:2] < OLDEST.release[: len(version.release)]:
        raise InvalidArgument(f"python {text!r} is too old; the oldest supported is {OLDEST}")
    if version is not None:
        return SpecifierSet(f"=={text}" if len(version.release) > 2 else f"=={text}.*")
    try:
        accepted = SpecifierSet(text)
    except InvalidSpecifier:
        accepted = None
    # `===` compares whatever follows it as text.
    if accepted is None or any(specifier.operator == "===" for specifier in accepted):
        raise InvalidArgument(f"{shown(text)} is no Python version; {_VERSION_HINT}")
    return accepted


def best(accepted: SpecifierSet, preferred: Interpreter, others: Sequence[Interpreter]) -> Interpreter | None:
    """The interpreter of an `accepted` version: `preferred` where it will do, else the newest; None where none will."""
    fitting = [other for other in (preferred, *others) if accepted.contains(other.version, prereleases=None)]
    if preferred in fitting:
        return preferred
    return max(fitting, key=lambda other: Version(other.version), default=None)


def closest(had: Interpreter, others: Sequence[Interpreter]) -> Interpreter | None:
    """`had` itself if it is among `others`, else that of the same minor version which is closest; None without one.

    Of two that are as close the newer one: what was installed may need what `had` could do.
    """
    same = [other for other in others if (other.minor, other.implementation) == (had.minor, had.implementation)]
    if had.python in [other.python for other in same]:
        return next(other for other in same if other.python == had.python)

    def distance(other: Interpreter) -> tuple[int, int]:
        steps = Version(other.version).micro - Version(had.version).micro
        return abs(steps), -steps

    return min(same, key=distance, default=None)


def there_are(pythons: Sequence[Interpreter]) -> str:
    """The versions of `pythons`, for a person."""
    return "there are " + ", ".join(sorted({python.minor for python in pythons}, key=Version))


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


@cache
def libc() -> str:
    """The C library, on which the choice of wheels depends: `glibc 2.36`."""
    # Of an executable it would tell the oldest one that this can do with, and look through all of it for that.
    name, version = platform.libc_ver()
    return f"{name} {version}".strip()
