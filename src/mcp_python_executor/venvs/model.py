"""Virtual environments as values, and the rule for their names."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from mcp_python_executor.errors import InvalidArgument, shown

NAME_RULE = "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# Names that Windows gives to devices, with any extension: a base path may be shared with a Windows machine.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)


class VenvStatus(StrEnum):
    """Whether an environment can run code: `busy` while an operation on it is under way."""

    READY = "ready"
    BROKEN = "broken"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Generation:
    """An installed environment that never changes: what an execution runs in.

    `id` names its content (lock, Python, platform); `path` is where it stands; `python` is its interpreter there.
    `base_prefix` is the prefix of the interpreter it was made from, whose standard library it uses. `package_count` is
    None where nobody wrote it down.
    """

    id: str
    path: Path
    python: Path
    base_prefix: Path
    python_version: str
    package_count: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationSummary:
    """A generation that a venv is in (`is_current`) or may return to, as users see it; `made_at` if that is known."""

    id: str
    is_current: bool
    python_version: str
    package_count: int
    made_at: datetime | None


@dataclass(frozen=True, slots=True)
class Venv:
    """An environment as users see it.

    `problem` says what is wrong when `status` is not ready. `drift` says what somebody changed by hand in one that is
    ready, with the way back; it is looked for when one environment is asked for, not in lists.
    """

    name: str
    description: str
    is_default: bool
    path: Path
    python_version: str
    package_count: int
    created_at: datetime
    last_used_at: datetime | None
    status: VenvStatus = VenvStatus.READY
    problem: str = ""
    drift: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution; `requested` when somebody asked for it, not merely pulled in by another."""

    name: str
    version: str
    requested: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One distribution that a package operation added, changed or removed."""

    name: str
    version: str
    previous_version: str = ""


@dataclass(frozen=True, slots=True)
class PackageReport:
    """What a package operation did to environment `venv_name`; `created` when it made the environment first."""

    venv_name: str
    created: bool = False
    added: list[Change] = field(default_factory=list[Change])
    changed: list[Change] = field(default_factory=list[Change])
    removed: list[Change] = field(default_factory=list[Change])
    unchanged: list[Package] = field(default_factory=list[Package])
    duration_seconds: float = 0.0


def venv_name(value: str) -> str:
    """`value` itself, if it may name an environment.

    Raises:
        InvalidArgument: with the rule.
    """
    if not _NAME.fullmatch(value) or value.endswith(".") or value.lower().split(".")[0] in _DEVICES:
        raise InvalidArgument(
            f"{shown(value)} can't name an environment; a name has {NAME_RULE}, and is no device name"
        )
    return value
