"""What is written down beside the environments, as JSON: of each generation what it is, apart from that what is in it
(a list of environments needs no packages' names), and of each venv what users say of it and where it was."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from mcp_python_executor.venvs.files import sync_directory
from mcp_python_executor.venvs.model import Package

# The last of a generation's own files to be written.
MARKER = "generation.json"
PACKAGES = "packages.json"
# The last file to be written beside an interpreter that is downloaded.
_PYTHON = "python.json"
# Generations to return to. Each keeps its files, most of them shared with the next one.
HISTORY = 3
_FORMAT = 2
_TEXTS = ("id", "python_version", "base_prefix", "base_python", "implementation")


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A finished generation: the file that holds this is written last, so that its presence says so."""

    id: str
    python_version: str
    base_prefix: str
    base_python: str
    implementation: str
    package_count: int


@dataclass(frozen=True, slots=True)
class VenvRecord:
    """What users say of a venv, when it was made, and the generations it was in, the one left last at the end.

    It is written before the venv's link is switched, and must mean the same as before until that is done: so the
    generation that a venv is in may be among them, and one more than are kept. `past` tells what they mean.
    """

    description: str
    created_at: datetime
    history: tuple[str, ...] = field(default=())

    def leaving(self, generation: str) -> "VenvRecord":
        """This record for when the venv has left `generation`."""
        kept = [past for past in self.history if past != generation]
        return replace(self, history=(*kept, generation)[-HISTORY - 1 :])

    def past(self, current: str | None) -> tuple[str, ...]:
        """The generations to return to while the venv is in `current`, the one left last at the end."""
        return tuple(past for past in self.history if past != current)[-HISTORY:]


def read_generation(folder: Path) -> GenerationRecord | None:
    """The record of the generation in `folder`; None where there is none, or none that can be understood."""
    loaded = _read(f"{folder}{os.sep}{MARKER}")
    try:
        # Before they had a file of their own, the packages stood here.
        count = len(loaded["packages"]) if "packages" in loaded else int(loaded["package_count"])
        return GenerationRecord(**{key: str(loaded[key]) for key in _TEXTS}, package_count=count)
    except (KeyError, TypeError, ValueError):
        return None


def write_generation(folder: Path, record: GenerationRecord, workshop: Path) -> None:
    """Write `record` into `folder`, wholly or not at all, and lasting; `workshop` is on the same file system."""
    _write(folder / MARKER, {"format": _FORMAT, **asdict(record)}, workshop)


def read_packages(folder: Path) -> tuple[Package, ...]:
    """The packages that the generation in `folder` was made with."""
    loaded = _read(folder / PACKAGES) or _read(folder / MARKER)
    return tuple(Package(name, version, requested) for name, version, requested in loaded.get("packages", ()))


def write_packages(folder: Path, packages: Iterable[Package]) -> None:
    """Write `packages` into `folder`, which has no marker yet: nobody reads them before it has."""
    listed = [[package.name, package.version, package.requested] for package in packages]
    (folder / PACKAGES).write_text(json.dumps({"packages": listed}), encoding="utf-8")


def read_python(folder: Path) -> tuple[Path, str] | None:
    """The interpreter that was downloaded into `folder`, and its version; None for one that did not come whole."""
    loaded = _read(folder / _PYTHON)
    try:
        return folder / str(loaded["python"]), str(loaded["version"])
    except KeyError:
        return None


def write_python(folder: Path, python: Path, version: str, workshop: Path) -> None:
    """Write down that `folder` holds the whole interpreter `python`."""
    _write(folder / _PYTHON, {"python": str(python.relative_to(folder)), "version": version}, workshop)


def read_venv(path: Path | str) -> VenvRecord | None:
    """The record in the file `path`; None where there is none, or none that can be understood."""
    loaded = _read(path)
    try:
        created = datetime.fromisoformat(loaded["created_at"])
        return VenvRecord(str(loaded["description"]), created, tuple(map(str, loaded["history"])))
    except (KeyError, TypeError, ValueError):
        return None


def write_venv(path: Path, record: VenvRecord, workshop: Path) -> None:
    """Make the file `path` hold `record`, wholly or not at all, and lasting; `workshop` is on the same file system."""
    _write(path, {**asdict(record), "created_at": record.created_at.isoformat()}, workshop)


def read_old_description(base: Path, name: str) -> str:
    """The description of `name` in the file where servers before this one kept all of them."""
    entry: Any = _read(base / "venv_metadata.json").get(name)
    if isinstance(entry, dict):
        entry = cast("dict[str, Any]", entry).get("description")
    return entry if isinstance(entry, str) else ""


def now() -> datetime:
    """The time, with its zone, as records keep it."""
    return datetime.now(UTC)


def _read(path: Path | str) -> dict[str, Any]:
    try:
        loaded = json.loads(_content(path).decode())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}


def _content(path: Path | str) -> bytes:
    """All of a file, by the fewest calls: a list of environments reads hundreds of them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _write(path: Path, content: dict[str, Any], workshop: Path) -> None:
    new = workshop / path.name
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)
