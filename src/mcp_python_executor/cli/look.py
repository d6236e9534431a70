"""Looking: which environments there are, and which walls this machine offers."""

import argparse
import json
from dataclasses import asdict
from typing import Any

import anyio

from mcp_python_executor.cli.terminal import open_terminal, say
from mcp_python_executor.sandbox.probe import Walls, probe
from mcp_python_executor.service import open_service
from mcp_python_executor.settings import Isolation, Settings

_WITHOUT_NAMESPACES = (
    "While a wall above is missing they have no /dev/shm, no locks that processes share and no file modes of "
    "their own; without bubblewrap, packages that exist only as source are not installed either."
)


def venv_list(options: argparse.Namespace) -> int:
    """Shows the environments."""
    settings = open_terminal(options)
    venvs = anyio.run(_list_venvs, settings)
    if options.json:
        say(json.dumps(venvs, indent=2))
        return 0
    rows = [("NAME", "PYTHON", "PACKAGES", "LAST USED", "STATUS", "DESCRIPTION")]
    rows += [_row(venv) for venv in venvs]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(venv: dict[str, Any]) -> tuple[str, ...]:
    name = f"{venv['name']} (default)" if venv["isDefault"] else venv["name"]
    used = venv["lastUsedAt"] or "never"
    status = f"{venv['status']}: {venv['problem']}" if "problem" in venv else venv["status"]
    return name, venv["pythonVersion"], str(venv["packageCount"]), used[:16], status, venv["description"]


async def _list_venvs(settings: Settings) -> list[dict[str, Any]]:
    async with open_service(settings) as service:
        await service.wait_for_default(settings.default_venv_name)
        return (await service.health()).venvs


def doctor(options: argparse.Namespace) -> int:
    """Shows which walls stand here; the exit status is 1 when they are too few for ISOLATION=strict."""
    settings = open_terminal(options)
    walls = anyio.run(probe)
    if options.json:
        report = {"strict": walls.strict, "walls": [asdict(wall) for wall in walls.walls]}
        say(json.dumps(report, indent=2))
    else:
        for wall in walls.walls:
            say(f"{'ok     ' if wall.stands else 'MISSING'}  {wall.name}: {wall.detail}")
            if not wall.stands:
                say(f"         {wall.remedy}")
        say("")
        say(_verdict(walls, settings))
    return 0 if walls.strict else 1


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
