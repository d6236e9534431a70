"""The pipes and sockets of a run: what the kernel holds for them is in no process's memory, and no file tells it."""

import os
from collections.abc import Iterable

from mcp_python_executor.process import proc

_KINDS = ("pipe:", "socket:")


def held(pids: Iterable[int], most: int) -> int:
    """How many pipes and sockets processes hold, each counted once: at least that many where it is more than `most`.

    Takes about 0.02 ms a process while all that is open together is less than that, else 3 ms a thousand.
    """
    opened = {pid: paths for pid in pids if (paths := _descriptors(pid))}
    if sum(map(len, opened.values())) <= most:
        return 0
    found: set[str] = set()
    for pid, paths in opened.items():
        targets = {target for path in paths if (target := _target(path)).startswith(_KINDS)}
        if not _is_ending(pid):
            found |= targets
        if len(found) > most:
            break
    return len(found)


def _descriptors(pid: int) -> list[str]:
    """A process's open descriptors. Of a first thread that ended while others go on the kernel tells none."""
    paths = _listed(pid)
    if paths:
        return paths
    others = (thread for thread in proc.threads(pid) if thread != str(pid))
    return next((paths for task in others if (paths := _listed(int(task)))), paths)


def _listed(task: int) -> list[str]:
    directory = f"/proc/{task}/fd"
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208 - thousands of names
    except PermissionError:  # it runs a file that nobody may read (see ptrace(2)): as many as there is room for
        if proc.is_first(task):  # no program is that; a sandbox's own lets nobody in
            return []
        return [f"{directory}/{number}" for number in range(proc.fields(f"{task}/status").get(b"FDSize", 0))]
    except OSError:
        return []


def _is_ending(pid: int) -> bool:
    """Whether it gave its memory back: its descriptors are next, and until then root alone may look at them."""
    return not any(b"VmSize" in proc.read(f"{task}/status") for task in (pid, *proc.threads(pid)))


def _target(path: str) -> str:
    """What a descriptor is open on; where nobody may know, a socket of its own."""
    try:
        return os.readlink(path)  # noqa: PTH115 - thousands of names
    except PermissionError:
        return f"socket:{path}"
    except OSError:
        return ""
