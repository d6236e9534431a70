"""How much memory a run uses, its own share over the whole tree of its processes, and how many these are."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
# What a process holds that no file backs, shared pages by their share, and its page tables. See
# proc_pid_smaps_rollup(5) and proc_pid_status(5).
_COUNTED = ("Pss_Anon:", "Pss_Shmem:", "VmPTE:")


def of_trees(roots: Sequence[int], temporary: Iterable[str], *, most: int) -> int:
    """Bytes that the processes `roots` and all their descendants hold, no more than `most` of them.

    Those that have gone hold nothing. `temporary` are the directories that are the run's own tmpfs, as its processes
    see them; none where they are not.
    """
    held = sum(_of_process(pid) for pid in _descendants(roots, most))
    return held + sum(_of_tmpfs(roots[-1], path) for path in temporary if roots)


def count(roots: Iterable[int], *, most: int) -> int:
    """How many processes the `roots` and all their descendants are; it is counted up to `most`."""
    return len(_descendants(roots, most))


def _of_tmpfs(pid: int, path: str) -> int:
    try:
        status = os.statvfs(_PROC / str(pid) / "root" / path.lstrip("/"))
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _descendants(roots: Iterable[int], most: int) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting and len(found) < most:
        pid = waiting.pop()
        if pid in found:
            continue
        found.add(pid)
        with suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def _of_process(pid: int) -> int:
    kilobytes = 0
    with suppress(OSError):
        for name in ("smaps_rollup", "status"):
            for line in (_PROC / str(pid) / name).read_text().splitlines():
                if line.startswith(_COUNTED):
                    kilobytes += int(line.split()[1])
    return kilobytes * 1024
