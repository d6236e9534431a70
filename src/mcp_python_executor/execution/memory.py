"""How much memory a run uses: its own share, over the whole tree of its processes."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
# What a process holds that no file backs; shared pages count by their share. See proc_pid_smaps_rollup(5).
_COUNTED = ("Pss_Anon:", "Pss_Shmem:")


def of_trees(roots: Iterable[int]) -> int:
    """Bytes of memory that the processes `roots` and all their descendants hold; those that have gone hold none."""
    return sum(_of_process(pid) for pid in _descendants(roots))


def _descendants(roots: Iterable[int]) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
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
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith(_COUNTED):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024
