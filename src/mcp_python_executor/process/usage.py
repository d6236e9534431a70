"""What a run uses, over the whole tree of its processes: memory, tasks, processor time, bytes written to the disk."""

import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from mcp_python_executor.limits import Limits
from mcp_python_executor.process import kernel, proc

# What a process holds that no file backs, and its page tables: see proc_pid_status(5). Shared pages count for each.
_RESIDENT = (b"RssAnon", b"RssShmem", b"VmSwap")
_ITS_OWN = (b"VmPTE", b"HugetlbPages")
# Where `sandbox.bubblewrap` and `inside.worker` have file systems in memory, and what a file there costs besides.
_TEMPORARY = ("/tmp", "/var/tmp", "/dev", "/dev/shm")  # noqa: S108 - inside
_INODE = 1024
_NO_FILE = os.stat_result([0] * 10)
# The same with shared pages by their share: see proc_pid_smaps(5).
_SHARES = (b"Pss_Anon", b"Pss_Shmem", b"SwapPss")
# Below this part of the limit the kernel's counters will do, which lag a little behind what a walk over the pages says.
# That takes 60 ms for each gigabyte.
_SURELY_WITHIN = 0.9
# How much of what a look saw still weighs at the next: some two seconds count.
_FADES = 0.98


class _Process(NamedTuple):
    """A process's parent, its start, its own processor time and that of the children it waited for, in clock ticks.

    `kernel_ticks` are what of both was spent in the kernel.
    """

    parent: int
    started: int
    ticks: int
    waited_ticks: int
    kernel_ticks: int


_NEW = _Process(0, 0, 0, 0, 0)


class Use(NamedTuple):
    """What is told of a tree at once: see `Tree`."""

    tasks: int
    cpu_seconds: float
    memory_bytes: int
    written_bytes: int
    processes: list[int]


class Tree:
    """The processes `roots` and all that descend from them.

    Of a run `roots` begin with its first process and end with the zygote's child. What the first of them used before
    the first look is not counted: it has served other runs.
    """

    def __init__(self, roots: Sequence[int], limits: Limits) -> None:
        self._roots, self._limits = roots, limits
        self._earlier: _Process | None = None
        self._present: dict[int, _Process] = {}
        self._ended_ticks = 0
        self._cpu_ticks = 0
        self.kernel_ticks = 0.0
        """How much time in the kernel it took lately, in clock ticks, of which older ones weigh less."""
        self.started = 0.0
        """How many of its processes were seen for the first time lately, of which older ones weigh less."""
        # What each process, and the children it waited for, had written by the last look.
        self._written: dict[int, int] = {}
        self._ended_written_bytes = 0
        self._written_bytes = 0
        self._kept = kernel.Kept()

    def activity(self) -> tuple[int, float]:
        """How many tasks there are, which are processes and their threads, and the processor time of all there were.

        Takes about 0.05 ms a process and waits for none. Past the most that may be it does not count on.
        """
        found, tasks = self._walk()
        return tasks, self._cpu_seconds(found)

    def memory(self) -> int:
        """Bytes of memory that the processes hold, temporary files and what the kernel keeps for them included.

        Takes up to 0.4 ms a process, and waits for one that forks.
        """
        return self._memory(self._walk()[0])

    def written(self) -> int:
        """Bytes that all processes there were had written to a disk, by what the kernel tells of each.

        Takes about 0.1 ms a process.
        """
        return self._all_written(self._walk()[0])

    def processes(self) -> list[int]:
        """Those that there are."""
        return list(self._walk()[0])

    def all_use(self, apart: Collection[int] = (), leaving: Collection[int] = ()) -> Use:
        """All of the above at once, without processes that are `apart`, and what descends from these.

        Temporary files that those see which are `leaving` do not count.
        """
        found, tasks = self._walk(apart)
        cpu_seconds, written_bytes = self._cpu_seconds(found), self._all_written(found)
        return Use(tasks, cpu_seconds, self._memory(found, leaving), written_bytes, list(found))

    def _cpu_seconds(self, found: dict[int, _Process]) -> float:
        # Processor time in two ways, of which neither counts anything twice: the larger is nearer. One misses what a
        # parent did not wait for (SIGCHLD ignored), the other what began and ended between two looks.
        self._ended_ticks += sum(process.ticks for pid, process in self._present.items() if pid not in found)
        own = sum(process.ticks for process in found.values())
        waited = sum(process.waited_ticks for process in found.values())
        self._cpu_ticks = max(self._cpu_ticks, own + waited, own + self._ended_ticks)
        grown = (process.kernel_ticks - self._present.get(pid, _NEW).kernel_ticks for pid, process in found.items())
        self.kernel_ticks = _FADES * self.kernel_ticks + sum(grown)
        self.started = _FADES * self.started + len(found.keys() - self._present.keys())
        self._present = found
        return self._cpu_ticks / os.sysconf("SC_CLK_TCK")

    def _all_written(self, found: Iterable[int]) -> int:
        before = self._written
        self._written = {pid: _written(pid) for pid in found}
        # What a process that ended had written is its parent's now, where that waited for it: then others grew by it.
        ended = sum(size for pid, size in before.items() if pid not in self._written)
        grown = sum(size - before.get(pid, 0) for pid, size in self._written.items())
        self._ended_written_bytes += max(0, ended - max(0, grown))
        self._written_bytes = max(self._written_bytes, sum(self._written.values()) + self._ended_written_bytes)
        return self._written_bytes

    def _walk(self, apart: Collection[int] = ()) -> tuple[dict[int, _Process], int]:
        """The processes there are, and the number of their tasks.

        The kernel may leave out a child while another ends (proc_pid_tid_children(5)), so known ones are asked again.
        """
        known, most = self._present, self._limits.processes
        found: dict[int, _Process] = {}
        tasks = 0
        waiting = [*(pid for pid in known if not self._descends(pid, apart)), *self._roots]
        while waiting and tasks <= most:
            pid = waiting.pop()
            process = None if pid in found or pid in apart else _process(pid)
            if process is None or known.get(pid, process).started != process.started:
                continue
            found[pid] = process
            threads = proc.threads(pid)
            tasks += len(threads)
            for thread in threads[:most]:
                waiting += proc.children(pid, thread)
        if self._roots and (first := found.get(self._roots[0])):
            self._earlier = self._earlier or first
            ticks, kernel_ticks = first.ticks - self._earlier.ticks, first.kernel_ticks - self._earlier.kernel_ticks
            found[self._roots[0]] = first._replace(ticks=ticks, kernel_ticks=kernel_ticks)
        return found, tasks

    def _descends(self, pid: int, apart: Collection[int]) -> bool:
        """Whether a known process was below one of `apart` when it was looked at last, itself not yet apart."""
        for _ in self._present if apart else ():
            process = self._present.get(pid)
            if process is None:
                return False
            if process.parent in apart:
                return True
            pid = process.parent
        return False

    def _memory(self, found: Mapping[int, _Process], leaving: Collection[int] = ()) -> int:
        statuses = dict(map(_status, found))
        own = 1024 * sum(_sum(status, _ITS_OWN) for status in statuses.values())
        own += _temporary(pid for pid in found if pid not in leaving)
        own += self._kept.look(sum(process.kernel_ticks for process in found.values()))
        at_most = own + 1024 * sum(_sum(status, _RESIDENT) for status in statuses.values())
        if at_most <= _SURELY_WITHIN * self._limits.memory_bytes:
            return at_most
        forked = _process(self._roots[-1]) if self._roots else None
        return own + 1024 * _shares(statuses, forked.parent if forked else 0)


def _shares(statuses: Mapping[int, Mapping[bytes, int]], zygote: int) -> int:
    """Kilobytes in pages that processes hold, each by its share and without what the zygote preloaded.

    A page that a fork still has in common with the zygote weighs the same on both, so nobody's part of such pages is
    larger than the zygote's, and all others' parts together are what these pages hold less the zygote's part.
    """
    preloaded = _pages(zygote) or {}
    part = preloaded.get(b"Pss_Anon", 0)
    total = common = 0
    for pid, status in statuses.items():
        pages = _pages(pid)
        if pages is None:
            total += _sum(status, _RESIDENT)  # it started a program of its own, so it has nothing of the zygote's
            continue
        share = _sum(pages, _SHARES)
        total += share
        common += min(part, max(0, share - pages.get(b"Private_Dirty", 0)))
    return total - min(common, preloaded.get(b"Anonymous", 0) - part)


def _pages(pid: int) -> dict[bytes, int] | None:
    """What is told of a process's pages, in kB; None where it runs a file that nobody may read (see ptrace(2))."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            return proc.parsed(file.read())
    except PermissionError:
        return None
    except OSError:  # it has ended
        return {}


def _status(pid: int) -> tuple[int, dict[bytes, int]]:
    """What is told of a process's memory, and the task by which the kernel tells it.

    Where the first thread has ended and others go on, that is one of these: of the first nothing is told any more.
    """
    fields: dict[bytes, int] = {}
    for task in (pid, *(int(thread) for thread in proc.threads(pid) if int(thread) != pid)):
        fields = proc.fields(f"{task}/status")
        if _RESIDENT[0] in fields:
            return task, fields
    return pid, fields


def _sum(fields: Mapping[bytes, int], names: Iterable[bytes]) -> int:
    return sum(fields.get(name, 0) for name in names)


def _process(pid: int) -> _Process | None:
    """See proc_pid_stat(5), whose third field is the first of these."""
    fields = proc.stat(pid)
    if not fields:
        return None
    parent, user, system, waited_user, waited_system, started = (int(fields[n - 3]) for n in (4, 14, 15, 16, 17, 22))
    return _Process(parent, started, user + system, waited_user + waited_system, system + waited_system)


def _written(pid: int) -> int:
    """Bytes that a process, and the children it waited for, had written to a disk: see proc_pid_io(5)."""
    # Once its first thread has ended, the file of the process is root's, and those of its threads are not.
    whole = proc.fields(f"{pid}/io")
    found = [whole] if whole else [proc.fields(f"{pid}/task/{thread}/io") for thread in proc.threads(pid)]
    return sum(fields.get(b"write_bytes", 0) - fields.get(b"cancelled_write_bytes", 0) for fields in found)


def _temporary(pids: Iterable[int]) -> int:
    """Bytes in the file systems that processes see where a sandbox has some in memory, and that are not ours too."""
    namespaces: dict[int, list[int]] = defaultdict(list)
    for pid in pids:
        namespaces[_status_of(f"/proc/{pid}/ns/mnt").st_ino].append(pid)
    ours = {_status_of(path).st_dev for path in _TEMPORARY}
    held: dict[int, int] = {}
    for seers in namespaces.values():
        for path in _TEMPORARY:
            found = filter(None, (_held_at(f"/proc/{pid}/root{path}") for pid in seers))
            held.update(itertools.islice(found, 1))
    return sum(size for device, size in held.items() if device not in ours)


def _held_at(place: str) -> tuple[int, int] | None:
    """The device of the file system at `place`, and the bytes it holds with what the kernel has for each file."""
    try:
        device, found = os.stat(place).st_dev, os.statvfs(place)  # noqa: PTH116 - a link into /proc
    except OSError:  # the process has ended
        return None
    files = (found.f_files - found.f_ffree) * _INODE
    return device, (found.f_blocks - found.f_bfree) * found.f_frsize + files


def _status_of(path: str) -> os.stat_result:
    """What stat(2) tells of a file: nothing but zeros where there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - a link into /proc, many times a second
    except OSError:
        return _NO_FILE
