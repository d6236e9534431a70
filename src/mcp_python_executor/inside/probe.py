"""Tries each wall that a run needs, as a run does, and prints as JSON how each try went: empty where it stands."""

from __future__ import annotations

import json
import os
import sys

from . import landlock, namespaces, seccomp

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable

_TRIES = "namespaces", "mounts", "landlock", "seccomp"


def _try_in_worker(write: int) -> None:
    """In a fork: every wall of a worker, told one by one, so that a kill half-way shows what was tried last."""
    machine = os.uname().machine
    walls: dict[str, Callable[[], object]] = {
        "mounts": lambda: (namespaces.own_mounts({"/tmp": 1 << 20}, []), namespaces.own_user()),
        "landlock": lambda: (namespaces.no_new_privileges(), landlock.restrict(["/"], [], [], network=False)),
        "seccomp": lambda: seccomp.install(seccomp.program(machine, network=False, zygote=False)),
    }
    for name, put_up in walls.items():
        try:
            put_up()
            told = ""
        except OSError as error:
            told = str(error)
        os.write(write, json.dumps({name: told}).encode() + b"\n")
    os._exit(0)


def main() -> None:
    """The probe's whole life. Its argument: the program that keeps a run's PID namespace (see `namespaces.Inits`)."""
    found: dict[str, object] = dict.fromkeys(_TRIES, "not reached")
    found["abi"] = landlock.abi()
    try:
        home = namespaces.enter_locked()
        run = namespaces.Run(home, namespaces.Inits(home, sys.argv[1]))
        found["namespaces"] = ""
    except OSError as error:
        found["namespaces"] = str(error)
        run = None
    read, write = os.pipe()  # after the namespaces: a process stays outside them and would keep it open
    worker = os.fork()
    if worker == 0:
        _try_in_worker(write)
    os.close(write)
    if run is not None:
        run.leave()
    with open(read) as results:
        for line in results:
            found.update(json.loads(line))
    os.waitpid(worker, 0)
    if run is not None:
        run.close()
    print(json.dumps(found))
