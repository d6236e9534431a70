"""Which walls this machine offers, and how to get the others."""

import argparse
import json
from dataclasses import asdict

import anyio

from mcp_python_executor.cli.terminal import open_terminal, say
from mcp_python_executor.execution.cgroups import Cgroups, open_cgroups
from mcp_python_executor.sandbox.probe import Walls, probe
from mcp_python_executor.settings import Isolation, Settings

_WITHOUT_NAMESPACES = (
    "While a wall above is missing they have no /dev/shm, no locks that processes share and no file modes of "
    "their own; without bubblewrap, packages that exist only as source are not installed either."
)


def doctor(options: argparse.Namespace) -> int:
    """Shows which walls stand here; the exit status is 1 when they are too few for ISOLATION=strict."""
    settings = open_terminal(options)
    walls = anyio.run(probe, settings.venvs_base_path)
    with open_cgroups() as cgroups:
        bounds = {"heldBy": "cgroup" if cgroups.delegated else "watch", "missing": cgroups.missing}
    if options.json:
        report = {"strict": walls.strict, "walls": [asdict(wall) for wall in walls.walls], "memoryAndProcesses": bounds}
        say(json.dumps(report, indent=2))
    else:
        for wall in walls.walls:
            say(f"{'ok     ' if wall.stands else 'MISSING'}  {wall.name}: {wall.detail}")
            if not wall.stands:
                say(f"         {wall.remedy}")
        say("")
        say(_verdict(walls, settings))
        say(_bounds(cgroups))
    return 0 if walls.strict else 1


def _bounds(cgroups: Cgroups) -> str:
    if cgroups.delegated:
        return "Memory and processes of a run are held by a cgroup of its own."
    return (
        f"Memory and processes of a run are held by a watch over all its processes, not by a cgroup: {cgroups.missing}."
    )


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
