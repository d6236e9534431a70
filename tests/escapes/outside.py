"""Processes outside the walls: one that no program may touch, and what can be seen of any."""

import os
import select
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.escapes.attack import CANARY

# Only one that was stopped takes so long.
_ANSWER_SECONDS = 10
# Says what it was sent, and when asked by a line, what its memory holds.
_BYSTANDER = """
import ctypes, os, signal, sys
canary = ctypes.create_string_buffer(sys.argv[1].encode())
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
    signal.signal(number, lambda number, _: os.write(1, b"signal %d\\n" % number))
print(ctypes.addressof(canary), flush=True)
while sys.stdin.readline():
    print("memory", canary.value.decode(), flush=True)
"""


class Bystander:
    """A process of the same user that takes no part, with a canary in its memory at `address` and its environment."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.address = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], _ANSWER_SECONDS)[0]
        return self._process.stdout.readline() if ready else "it is stopped"

    def told(self) -> str:
        """What it says now: `untouched`, or the first thing that happened to it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("say\n")
            self._process.stdin.flush()
        line = self._line()
        return "untouched" if line == f"memory {CANARY}\n" else line or "it is dead"


@contextmanager
def bystander() -> Generator[Bystander]:
    """A `Bystander`, until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _BYSTANDER, CANARY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"SECRET": CANARY},
        text=True,
    )
    with process:
        try:
            yield Bystander(process)
        finally:
            process.kill()


def family() -> list[int]:
    """This process, which is the server of a test, and everything below it."""
    return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]


def numbers(pids: list[int]) -> set[int]:
    """The numbers that these processes and their threads have, in every PID namespace that they are in."""
    return {number for pid in pids for line in _in_namespaces(pid) for number in line}


def _in_namespaces(pid: int) -> list[list[int]]:
    """The numbers of each thread, from the outermost PID namespace."""
    found: list[list[int]] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            line = next(line for line in (task / "status").read_text().splitlines() if line.startswith("NSpid:"))
            found.append([int(number) for number in line.split()[1:]])
    return found


def lasting(pids: list[int]) -> list[int]:
    """Those of `pids` that do not come and go with runs.

    The first process of a run's namespace is ready before the run: it may be that of the attack. The end of any ends
    all in its namespace, so that of another run is seen without it.
    """
    named = {pid: line for pid in pids for line in _in_namespaces(pid)[:1]}
    deepest = max(map(len, named.values()))
    return [pid for pid, line in named.items() if len(line) < deepest or line[-1] != 1 or deepest == 1]


def state(pid: int) -> dict[str, Any]:
    """What one process can change of another, and which process it is; empty when it has gone."""
    try:
        process = psutil.Process(pid)
        return {
            "began": process.create_time(),
            "stopped": process.status() == psutil.STATUS_STOPPED,
            "nice": process.nice(),
            "io priority": process.ionice(),
            "processors": process.cpu_affinity(),
            "scheduler": (os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority),
            "group": (os.getpgid(pid), os.getsid(pid)),
            "limits": Path(f"/proc/{pid}/limits").read_text(),  # prlimit(2) tells whom may also change them
            "oom score": Path(f"/proc/{pid}/oom_score_adj").read_text(),
        }
    except (OSError, psutil.Error):
        return {}


def mentioning(text: str) -> dict[int, str]:
    """Every process of the machine whose arguments have `text` in them, but this one."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if text in arguments:
                    found[int(entry.name)] = arguments
    return found
