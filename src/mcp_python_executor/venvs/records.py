"""What is written down beside the environments: one JSON file for each generation and for each venv."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from mcp_python_executor.venvs.model import Package

# Generations to return to. Each keeps its files, most of them shared with the next one.
HISTORY = 3
_TEXTS = ("id", "python_version", "base_prefix", "base_python", "implementation")


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A finished generation: the file that holds this is written last, so that its presence says so."""

    id: str
    python_version: str
    base_prefix: str
    base_python: str
    implementation: str
    packages: tuple[Package, ...]
    format: int = 1


@dataclass(frozen=True, slots=True)
class VenvRecord:
    """What users say of a venv, when it was made, and the generations it had before, the oldest first."""

    description: str
    created_at: datetime
    history: tuple[str, ...] = field(default=())

    def leaving(self, generation: str | None) -> "VenvRecord":
        """This record once the venv has left `generation`."""
        if not generation:
            return self
        kept = [past for past in self.history if past != generation]
        return replace(self, history=(*kept, generation)[-HISTORY:])


def read_generation(path: Path) -> GenerationRecord | None:
    """The record in the file `path`; None where there is none, or none that can be understood."""
    loaded = _read(path)
    try:
        packages = tuple(Package(name, version, requested) for name, version, requested in loaded["packages"])
        texts = {key: str(loaded[key]) for key in _TEXTS}
        return GenerationRecord(**texts, packages=packages, format=int(loaded["format"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_generation(path: Path, record: GenerationRecord, workshop: Path) -> None:
    """Make the file `path` hold `record`, wholly or not at all, and lasting; `workshop` is on the same file system."""
    packages = [[package.name, package.version, package.requested] for package in record.packages]
    _write(path, {**asdict(record), "packages": packages}, workshop)


def read_venv(path: Path) -> VenvRecord | None:
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


def sync_directory(path: Path) -> None:
    """Make renames in the directory `path` outlast a loss of power: see rename(2) and fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}


def _write(path: Path, content: dict[str, Any], workshop: Path) -> None:
    new = workshop / path.name
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)
