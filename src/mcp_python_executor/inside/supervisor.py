"""Where a run has no PID namespace: a process above the worker that gathers and ends all its descendants.

It is a child subreaper (see PR_SET_CHILD_SUBREAPER in prctl(2)): what the worker orphans becomes its child, so no
double fork and no session of its own hides a process from it. Where Landlock scopes signals it is in a domain with its
run and nobody else, so that one call reaches all of it, however fast it forks: killing one by one loses that race.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

from . import landlock
from .worker import limit_cores

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Orphans below the calling process become its children. Without prctl (not Linux) this does nothing."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(begin: Callable[[], None], worker: Callable[[], None], *, scoped: bool, passed_on: int) -> int:
    """The PID of a new supervisor, which ends last of its run, as the worker ended. SIGTERM has it end the run.

    `begin` is called in the supervisor, before it forks `worker`. `scoped`: Landlock keeps signals in. The supervisor
    passes the signal `passed_on` to the worker.
    """
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        _supervise(begin, worker, zygote, scoped, passed_on)
    return pid


def _supervise(
    begin: Callable[[], None], worker: Callable[[], None], zygote: int, scoped: bool, passed_on: int
) -> None:
    """Never returns."""
    try:
        os.setsid()  # whoever kills the zygote's group does not kill us before our work is done
        adopt_orphans()
        if hasattr(_libc, "prctl"):
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        blocked = {signal.SIGTERM, signal.SIGCHLD, passed_on}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        if os.getppid() != zygote:
            os._exit(1)
        if scoped:
            landlock.scope(network=True)
            scoped = _is_out_of_reach(zygote)
        begin()
        leader = os.fork()
        if leader == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            worker()
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        status = _wait(leader, passed_on)
        _end_children(scoped)
        _end_as(status)
    finally:
        os._exit(1)


def _wait(leader: int, passed_on: int) -> int:
    """The wait status of `leader`, killed first when SIGTERM comes."""
    while True:
        received = signal.sigwait({signal.SIGTERM, signal.SIGCHLD, passed_on})
        if received == signal.SIGTERM:
            os.kill(leader, signal.SIGKILL)
        elif received == passed_on:
            os.kill(leader, passed_on)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == leader:
                return status
            if pid == 0:
                break


def _end_children(scoped: bool) -> None:
    """Kills until no child is left: each death may orphan more processes to us."""
    while True:
        if scoped:
            with contextlib.suppress(OSError):  # nobody is left
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _is_out_of_reach(zygote: int) -> bool:
    """Whether the scope holds, seen by its own user's process beyond it: a kill of everybody would reach that too."""
    try:
        os.kill(zygote, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        limit_cores()
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))
