"""What the programs of each generation import: how often, the latest counting most, kept for the next server."""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, Field, ValidationError

from mcp_python_executor.execution import preload

log = structlog.get_logger()

Place = Callable[[str], Path | None]
"""The file that keeps what was learned of a generation, by its id; None where nothing is kept."""

# A module that no program of a generation uses counts half after so many executions, and no more after ten times that.
_HALF_LIFE = 100
_FADES = 0.5 ** (1 / _HALF_LIFE)
_FORGOTTEN = 2.0**-10
# No file of ours has more: there are some two hundred names in all.
_MOST_BYTES = 65_536
_MOST = _HALF_LIFE * 2


class _File(BaseModel):
    """What the file of a generation holds. Only the server writes it; names come from what programs reported."""

    modules: dict[str, Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)]]


@dataclass(slots=True)
class _Counts:
    """Counts as they were when the file was last read, and what `executions` since then add to them."""

    kept: dict[str, float]
    gained: dict[str, float] = field(default_factory=dict[str, float])
    executions: int = 0

    def now(self) -> dict[str, float]:
        return _sum(self.kept, _FADES**self.executions, self.gained)


class Learned:
    """Counts by generation; `place` tells where each is kept, for this server and all others on the same directory."""

    def __init__(self, place: Place = lambda _: None) -> None:
        self._place = place
        self._counts: dict[str, _Counts] = {}
        self._unsaved: set[str] = set()

    def modules(self, generation: str) -> list[str]:
        """What to import ahead in `generation`, the most used first."""
        counts = self._of(generation).now()
        return sorted((name for name in counts if counts[name] >= _FORGOTTEN), key=lambda name: (-counts[name], name))

    def add(self, generation: str, modules: Iterable[str]) -> None:
        """Counts that a program imported `modules`, each of which is worthwhile."""
        gained = self._of(generation).gained
        for name in modules:
            gained[name] = gained.get(name, 0.0) + 1
            self._unsaved.add(generation)

    def count(self, generation: str, uses: Callable[[str], bool]) -> None:
        """Counts an execution that may have found modules imported ahead: `uses` tells whether it used one of a name.

        What was counted before it counts a little less.
        """
        counts = self._of(generation)
        counts.executions += 1
        gained = {name: count * _FADES for name, count in counts.gained.items()}
        for name in {*counts.kept, *gained}:
            if uses(name.split(".")[0]):
                gained[name] = gained.get(name, 0.0) + 1
        counts.gained = gained
        if gained or counts.kept:
            self._unsaved.add(generation)

    def forget(self, generation: str) -> None:
        """Lets go of `generation`; what its file holds stays."""
        self._counts.pop(generation, None)
        self._unsaved.discard(generation)

    def save(self) -> None:
        """Adds to each file what was counted since the last time; what other servers added meanwhile stays in it.

        It may be lost on a full disk, or with the power: nothing but time is lost with it.
        """
        for generation in list(self._unsaved):
            self._unsaved.discard(generation)
            counts, path = self._counts.get(generation), self._place(generation)
            if counts is None or path is None:
                continue
            latest = _Counts(_read(path), counts.gained, counts.executions).now()
            kept = {name: min(count, _MOST) for name, count in latest.items() if count >= _FORGOTTEN}
            self._counts[generation] = _Counts(kept)
            try:
                _write(path, kept)
            except OSError as error:
                log.warning("learned_not_kept", generation=generation, reason=error.strerror)

    def _of(self, generation: str) -> _Counts:
        if generation not in self._counts:
            path = self._place(generation)
            self._counts[generation] = _Counts(_read(path) if path else {})
        return self._counts[generation]


def _sum(kept: Mapping[str, float], share: float, gained: Mapping[str, float]) -> dict[str, float]:
    return {name: kept.get(name, 0.0) * share + gained.get(name, 0.0) for name in {*kept, *gained}}


def _read(path: Path) -> dict[str, float]:
    """The counts in the file `path`; none where it is missing, damaged, or no file of ours."""
    try:
        with path.open("rb") as file:
            modules = _File.model_validate_json(file.read(_MOST_BYTES)).modules
    except (OSError, ValidationError):
        return {}
    known = preload.known(modules)
    return {name: count for name, count in modules.items() if name in known}


def _write(path: Path, counts: Mapping[str, float]) -> None:
    """Wholly or not at all: another server may read it meanwhile."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        new.write_text(json.dumps({"modules": counts}), encoding="utf-8")
        new.replace(path)
    finally:
        with suppress(OSError):
            os.unlink(new)  # noqa: PTH108 - it is gone where all went well
