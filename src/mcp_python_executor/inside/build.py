"""Walls around the build of a package, put up before its command: nothing of a stranger runs here yet."""

from __future__ import annotations

import json
import os
import signal
import sys

from . import landlock, namespaces, seccomp, worker

TYPE_CHECKING = False  # typing's own costs 5 ms to import
if TYPE_CHECKING:
    from typing import Any

# Before it nothing is moved or linked from one directory to another, which uv does (LANDLOCK_ACCESS_FS_REFER).
_MOVES_SINCE = 2


def main() -> None:
    """Becomes the command. Its arguments: a JSON object of settings, and the command."""
    config, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        _confine(config)
        os.execv(command[0], command)  # noqa: S606 - what this is for
    except OSError as error:
        sys.exit(f"error: the walls of a build can't be put up: {error}")


def _confine(config: dict[str, Any]) -> None:
    walls, limits = config["walls"], config["limits"]
    worker.lower_limits(limits)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this interpreter ignores them, and no compiler does
        signal.signal(number, signal.SIG_DFL)
    if not walls:
        return
    worker.die_first()
    namespaces.drop_capabilities()
    namespaces.no_new_privileges()
    if "landlock" in walls and landlock.abi() >= _MOVES_SINCE:
        landlock.restrict([*config["read"], "/proc"], config["write"] + worker.TEMPORARY, worker.DEVICES, network=True)
    if "seccomp" in walls:
        seccomp.install(seccomp.program(os.uname().machine, network=True))
