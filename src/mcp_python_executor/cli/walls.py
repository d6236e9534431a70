"""Which walls this machine offers, and how to get the others."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import anyio

from mcp_python_executor.cli.terminal import open_terminal, say
from mcp_python_executor.execution.cgroups import Cgroups, open_cgroups
from mcp_python_executor.health import describe_limits
from mcp_python_executor.sandbox.probe import Walls, probe
from mcp_python_executor.settings import Isolation, Settings

_WITHOUT_NAMESPACES = (
    "While a wall above is missing they have no /dev/shm, no locks that processes share and no file modes of "
    "their own; without bubblewrap, packages that exist only as source are not installed either."
)


def doctor(options: argparse.Namespace) -> int:
    """Shows which walls stand here, and what holds each limit; the exit status is 1 when ISOLATION=strict fails."""
    settings = open_terminal(options)
    walls = anyio.run(probe, settings.venvs_base_path)
    with open_cgroups() as cgroups:
        bounds = {"heldBy": "cgroup" if cgroups.delegated else "watch", "missing": cgroups.missing}
        limits = describe_limits(settings, walls, cgroups)
    if options.json:
        report = {"strict": walls.strict, "walls": [asdict(wall) for wall in walls.walls], "memoryAndProcesses": bounds}
        say(json.dumps({**report, "limits": limits}, indent=2))
    else:
        for wall in walls.walls:
            say(f"{'ok     ' if wall.stands else 'MISSING'}  {wall.name}: {wall.detail}")
            if not wall.stands:
                say(f"         {wall.remedy}")
        say("")
        say(_verdict(walls, settings))
        say(_bounds(cgroups))
        say("")
        for line in _limits(limits):
            say(line)
    return 0 if walls.strict else 1


def _bounds(cgroups: Cgroups) -> str:
    if cgroups.delegated:
        return "Memory and processes of a run are held by a cgroup of its own."
    return (
        f"Memory and processes of a run are held by a watch over all its processes, not by a cgroup: {cgroups.missing}."
    )


def _limits(limits: dict[str, Any]) -> Iterator[str]:
    yield "Limits, and what holds them:"
    for name, mechanism in limits["mechanisms"].items():
        yield f"  {name} {limits[name]:.0f}: {mechanism}"


def _verdict(walls: Walls, settings: Settings) -> str:
    if walls.confinement is not None:
        verdict = f"ISOLATION=strict can be met: programs run behind {', '.join(walls.confinement.names)}."
        return verdict if walls.confinement.namespaces else f"{verdict} {_WITHOUT_NAMESPACES}"
    refuses = settings.isolation == Isolation.STRICT
    return (
        "ISOLATION=strict cannot be met: "
        + ("programs are refused until the walls above stand. " if refuses else "")
        + "ISOLATION=none (--isolation none) runs programs as plain processes, with all your rights: "
        "only for code that you have read."
    )
