"""What `health_check` tells about the server, its executions, its walls and its environments."""

import platform
import shutil
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Any

import anyio.to_thread
import psutil
from pydantic import BaseModel, Field

from mcp_python_executor.execution.cgroups import Cgroups
from mcp_python_executor.execution.conduct import LOOK_SECONDS
from mcp_python_executor.execution.runner import Runner
from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.sandbox.probe import Walls
from mcp_python_executor.settings import Isolation, Settings
from mcp_python_executor.venvs.model import GenerationSummary, Venv, VenvStatus
from mcp_python_executor.venvs.operations import Venvs

# With less free than this an install of a plotting stack fails half-way.
_LOW_DISK_BYTES = 1024 * MEBIBYTE


class Health(BaseModel):
    """The state of the server. `problems` says why it is not `ok`.

    The mappings are JSON-ready, keys in camelCase, times in milliseconds or ISO 8601, sizes in bytes unless named else.
    """

    status: str = Field(description="ok, degraded or failing")
    problems: list[str]
    version: str
    uptime_seconds: float
    python: str
    uv: str
    isolation: dict[str, Any]
    limits: dict[str, Any]
    executions: dict[str, Any]
    disk: dict[str, Any]
    venvs: list[dict[str, Any]]


async def examine(
    settings: Settings,
    walls: Walls,
    venvs: Venvs,
    runner: Runner,
    *,
    cgroups: Cgroups,
    uptime_seconds: float,
    default_failure: str,
    venv_name: str,
) -> Health:
    """Looks at everything now; `venv_name` asks for one environment in depth.

    Raises:
        InvalidArgument: no such environment.
    """
    shown = [await venvs.get(venv_name)] if venv_name else await venvs.list()
    usage = await anyio.to_thread.run_sync(shutil.disk_usage, settings.venvs_base_path)
    failing = [f"default environment: {default_failure}"] if default_failure else []
    if settings.isolation is Isolation.STRICT and not walls.strict:
        failing.append(f"execution refuses, walls are missing: {walls.missing}")
    degraded = [f"environment {venv.name!r}: {venv.problem}" for venv in shown if venv.status is VenvStatus.BROKEN]
    degraded += [f"environment {venv.name!r}: {venv.drift}" for venv in shown if venv.drift]
    if usage.free < _LOW_DISK_BYTES:
        degraded.append(f"only {usage.free // MEBIBYTE} MB are free at {str(settings.venvs_base_path)!r}")
    return Health(
        status="failing" if failing else "degraded" if degraded else "ok",
        problems=[*failing, *degraded],
        version=version("mcp-python-executor"),
        uptime_seconds=uptime_seconds,
        python=platform.python_version(),
        uv=version("uv"),
        isolation=_isolation(settings, walls),
        limits=describe_limits(settings, walls, cgroups),
        executions={**_executions(runner), "memoryMb": await anyio.to_thread.run_sync(_memory_mb)},
        disk={"path": str(settings.venvs_base_path), "freeBytes": usage.free, "totalBytes": usage.total},
        venvs=[await _venv(venvs, venv, deep=bool(venv_name)) for venv in shown],
    )


def _isolation(settings: Settings, walls: Walls) -> dict[str, Any]:
    return {
        "mode": str(settings.isolation),
        "strictPossible": walls.strict,
        "network": str(settings.network_access),
        "landlockAbi": walls.landlock_abi,
        "walls": [
            {"name": wall.name, "stands": wall.stands, "detail": wall.detail, "remedy": wall.remedy}
            for wall in walls.walls
        ],
    }


def describe_limits(settings: Settings, walls: Walls, cgroups: Cgroups) -> dict[str, Any]:
    """The value of each limit by its name, and under `mechanisms` what holds it; units are in the names."""
    limits, confinement = settings.limits, walls.confinement
    own_temporary = settings.isolation is Isolation.STRICT and confinement is not None and confinement.namespaces
    watched = f"watched every {LOOK_SECONDS * 1000:.0f} ms over all processes of an execution, which is ended past it"
    each = "rlimit of each process, which is refused more"
    by_cgroup = "cgroup of each execution, which is ended past it"
    held = by_cgroup if cgroups.delegated else watched
    told: dict[str, tuple[float, str]] = {
        "memoryMb": (settings.max_memory_mb, f"{held}; what its interpreter imported ahead is not charged"),
        "timeoutMs": (settings.execution_timeout_ms, "a deadline, at which an execution is ended"),
        "cpuMs": (limits.wall_seconds * limits.busy_cores * 1000, watched),
        "concurrentExecutions": (limits.concurrent, "more wait in order of arrival"),
        "queuedExecutions": (limits.queued, "more are refused"),
        "outputBytes": (limits.inline_output_bytes, "of each stream in a result, which is cut in the middle"),
        "keptOutputBytes": (limits.kept_output_bytes, "of each stream in all, past which an execution is ended"),
        "processes": (limits.processes, f"{held}; threads count"),
        "buffers": (limits.buffers, f"{watched}; pipes and sockets of all its processes"),
        "openFiles": (limits.open_files, each),
        "fileBytes": (limits.file_bytes, each),
        "files": (limits.files, f"{watched}; files and folders in its directories, and new ones in OUTPUT_PATH"),
        "depth": (limits.depth, f"{watched}; folders in one another"),
        "diskBytes": (
            limits.disk_bytes,
            f"{watched}; what its directories hold, what is new in OUTPUT_PATH, and what it writes in all",
        ),
        "temporaryBytes": (
            limits.temporary_bytes,
            "size of file systems in memory, a third for each of /tmp, /var/tmp and /dev/shm"
            if own_temporary
            else "not in use here: temporary files are on the disk and count there",
        ),
        "packageTimeoutMs": (settings.package_timeout_ms, "a deadline, at which a package operation is ended"),
    }
    return {
        **{name: value for name, (value, _) in told.items()},
        "mechanisms": {name: mechanism for name, (_, mechanism) in told.items()},
    }


def _executions(runner: Runner) -> dict[str, Any]:
    metrics = runner.metrics
    return {
        "running": runner.running,
        "queued": runner.queued,
        "totals": {str(status): count for status, count in metrics.totals.items()},
        "latencyMs": {name: round(seconds * 1000, 2) for name, seconds in metrics.percentiles().items()},
        "peakMemoryMb": round(metrics.peak_memory_bytes / MEBIBYTE, 1),
    }


def _memory_mb() -> float:
    """Memory of the server and all that runs below it; pages that they share count once for each."""
    server = psutil.Process()
    total = 0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.Error):  # it may have ended
            total += process.memory_info().rss
    return round(total / MEBIBYTE, 1)


async def _venv(venvs: Venvs, venv: Venv, *, deep: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": venv.name,
        "description": venv.description,
        "isDefault": venv.is_default,
        "path": str(venv.path),
        "pythonVersion": venv.python_version,
        "packageCount": venv.package_count,
        "createdAt": _iso(venv.created_at),
        "lastUsedAt": _iso(venv.last_used_at),
        "status": str(venv.status),
    }
    if venv.problem:
        told["problem"] = venv.problem
    if venv.drift:
        told["drift"] = venv.drift
    if deep:
        told["generations"] = [_generation(one) for one in await venvs.generations(venv.name)]
    if deep and venv.status is not VenvStatus.BROKEN:
        packages = await venvs.packages(venv.name)
        told["packages"] = [
            {"name": package.name, "version": package.version, "requested": package.requested} for package in packages
        ]
    return told


def _generation(generation: GenerationSummary) -> dict[str, Any]:
    return {
        "id": generation.id,
        "isCurrent": generation.is_current,
        "pythonVersion": generation.python_version,
        "packageCount": generation.package_count,
        "madeAt": _iso(generation.made_at),
    }


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
