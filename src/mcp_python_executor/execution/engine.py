"""What all interpreters of a server share, and what each is told: its command, and the order for each run."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from mcp_python_executor.execution import stacks
from mcp_python_executor.execution.cgroups import Cgroups
from mcp_python_executor.execution.learned import Place
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import Worker
from mcp_python_executor.limits import Limits
from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import readable
from mcp_python_executor.sandbox.probe import INSIDE, Confinement, bootstrap

Hold = Callable[[str], AbstractContextManager[bool]]
"""Keeps the files of a generation, by its id, while the context is open; gives whether it could."""

SPARES = 2
"""Workers forked ahead. A client that calls again at once finds the second, while the place of the first is filled."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What all zygotes of a server share; `runs` holds runs' directories."""

    confinement: Confinement
    runs: Path
    limits: Limits
    cgroups: Cgroups = field(default_factory=Cgroups)
    hold: Hold = lambda _generation: nullcontext(enter_result=True)
    learned: Place = lambda _generation: None

    def command(
        self, surroundings: Surroundings, directory: Path, control: int, modules: Iterable[str], *, ahead: bool
    ) -> tuple[list[str], dict[str, str]]:
        """A zygote as a command behind the outer wall, and the environment to start that in.

        It speaks on the descriptor `control`, and its runs have their directories in `directory`. It imports `modules`
        itself, or has each worker do that where it is not to be done `ahead`.
        """
        policy, confinement = surroundings.policy, self.confinement
        config = {**self._config(surroundings, directory), "preload": list(modules), "packages_in_worker": not ahead}
        argv = [str(surroundings.interpreter.python), *bootstrap("zygote"), str(control), json.dumps(config)]
        # What is imported ahead finds a home too, at the place where programs have theirs.
        environment = (*policy.environment, ("HOME", self._home(directory)))
        if confinement.bubblewrap is None:
            return argv, dict(environment)
        walled = replace(policy, read=(INSIDE, *policy.read), write=(directory, *policy.write))
        unprivileged = confinement.unprivileged
        return bubblewrap.command(confinement.bubblewrap, walled, argv, unprivileged=unprivileged), dict(environment)

    def _config(self, surroundings: Surroundings, directory: Path) -> dict[str, Any]:
        policy, limits, confinement = surroundings.policy, self.limits, self.confinement
        read, look = readable(policy, walled=confinement.bubblewrap is not None, apart=confinement.namespaces)
        processes, processes_of_all = _most_processes(limits, confinement)
        return {
            "walls": [name for name in ("namespaces", "landlock", "seccomp") if getattr(confinement, name)],
            "network": policy.network,
            "stack_signal": stacks.SIGNAL,
            "runs": str(directory),
            "usual_runs": limits.concurrent + SPARES,
            "preload_bytes": limits.preload_bytes,
            "read": [str(path) for path in read],
            "look": [str(path) for path in look],
            "keep": [str(path) for path in (*policy.read, *policy.write)],
            "limits": {
                "open_files": limits.open_files,
                "file_bytes": limits.file_bytes,
                "data_bytes": limits.data_bytes,
                "processes": processes,
                "processes_of_all": processes_of_all,
                "temporary_bytes": limits.temporary_bytes,
            },
        }

    def order(self, surroundings: Surroundings, worker: Worker) -> dict[str, Any]:
        """What a zygote for `surroundings` is sent to have it fork `worker`."""
        output = surroundings.output or worker.output
        own_temporary = self.confinement.namespaces
        return {
            "op": "fork",
            "id": worker.id,
            "work": str(worker.work),
            "directory": str(surroundings.directory or worker.work),
            "write": [str(worker.work), str(output), *map(str, surroundings.policy.write)],
            "environment": {
                "HOME": self._home(worker.directory),
                "TMPDIR": "/tmp" if own_temporary else str(worker.directory / "tmp"),  # noqa: S108 - its own
                "OUTPUT_PATH": str(output),
            },
        }

    def _home(self, directory: Path) -> str:
        return "/tmp/home" if self.confinement.namespaces else str(directory / "home")  # noqa: S108 - the run's own


def _most_processes(limits: Limits, confinement: Confinement) -> tuple[int, int]:
    """What RLIMIT_NPROC bounds a run to, and all of a zygote: a backstop, while what runs is counted by looking.

    The kernel counts by user namespace and user (see getrlimit(2)). A run with namespaces has its own; elsewhere it
    counts the runs of a zygote together behind bubblewrap, and all that the user runs without that.
    """
    one = limits.refused_processes
    if not confinement.strict:
        return 0, 0
    if confinement.namespaces:
        return one, one * limits.concurrent + limits.processes
    together = one + (0 if confinement.bubblewrap else _tasks_of_user())
    return together, together


def _tasks_of_user() -> int:
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it may have ended
            if process.uids().real == os.getuid():
                count += process.num_threads()
    return count
