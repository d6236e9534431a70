"""What an import leaves that a fork does not carry over, or that a program would see though it never imported that."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time

from . import afresh

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_OUTPUT = 65536
# A thread that was told to end, or was joined, may still be listed: matplotlib's timer, OpenBLAS's.
_LAST_MOMENTS_SECONDS = 1.0


class Traces:
    """Looks at this process after each import; its standard output and error go here until `close`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._output, write = os.pipe()
        os.set_blocking(self._output, False)
        os.set_blocking(write, False)  # who fills it fails, and nobody waits
        for descriptor in (1, 2):
            os.dup2(write, descriptor)
        os.close(write)
        self._before = _state()

    def found(self) -> str:
        """What there is to be said against what was imported since the last look; nothing, as a rule."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            said = os.read(self._output, _MOST_OUTPUT)
        except BlockingIOError:
            said = b""
        if said:
            return "writes to the standard streams"
        if _has_thread_that_knows_no_fork():
            return "leaves a thread that does not survive a fork"
        after = _state()
        changed = [what for what, value in after.items() if value != self._before[what]]
        if changed:
            return f"leaves the interpreter with other {changed[0]}"
        if _anonymous_bytes() > self._most_bytes:
            return f"takes more than {self._most_bytes >> 20} MB of memory, with what is used more"
        try:
            afresh.take()
        except Exception as error:  # noqa: BLE001 - a version of it that is made in another way
            return f"can't be given to each run afresh: {error!r}"
        return ""

    def close(self) -> None:
        """Standard output and error go nowhere from now on."""
        os.close(self._output)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _state() -> dict[str, Any]:
    return {
        "descriptors": _descriptors(),
        "child processes": _children(),
        "environment variables": dict(os.environ),
        "directory": os.getcwd(),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "hooks": (sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile()),
        "recursion limit": sys.getrecursionlimit(),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "signal handlers": [signal.getsignal(number) for number in range(1, signal.NSIG)],
        "timers": [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)],
    }


def _descriptors() -> dict[str, str]:
    found: dict[str, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _children() -> list[str]:
    found: list[str] = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:  # not every kernel tells
            found += file.read().split()
    return sorted(found)


def _has_thread_that_knows_no_fork() -> bool:
    """A library whose threads end before a fork, and begin again when they are needed, has seen to it (OpenBLAS)."""
    if len(os.listdir("/proc/self/task")) == 1:
        return False
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    deadline = time.monotonic() + _LAST_MOMENTS_SECONDS
    while len(os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.001)
    return False


def _anonymous_bytes() -> int:
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * _PAGE
