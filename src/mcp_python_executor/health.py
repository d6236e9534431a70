"""What `health_check` and `doctor` tell about the server, its environments and its walls."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of the server. `status` is `ok`, `degraded` or `failing`, and `problems` says why.

    The mappings are JSON-ready, keys in camelCase, times in seconds or ISO 8601, sizes in bytes.
    """

    status: str
    problems: list[str]
    version: str
    uptime_seconds: float
    python: str
    uv: str
    isolation: dict[str, Any]
    limits: dict[str, Any]
    executions: dict[str, Any]
    disk: dict[str, Any]
    venvs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
