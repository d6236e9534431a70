"""What runs take of a disk: bytes, and files and folders, for empty ones take nothing but their place in its tables."""

import os
import stat
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mcp_python_executor.limits import Limits
from mcp_python_executor.process.folders import TICK_NS, enter, open_directory
from mcp_python_executor.process.usage import Tree

# A folder's owner needs both to see what is in it, and how much that is.
_LOOK_INSIDE = stat.S_IRUSR | stat.S_IXUSR
# A run that was in the kernel for less than that lately has not filled a disk: a tick is mostly 10 ms.
_AT_WORK_TICKS = 5
# Nothing tells what a process wrote that began and ended between two looks. A run of so many new ones may have others.
_MANY_STARTED = 10


@dataclass(slots=True)
class Usage:
    """Bytes on the disk, files and folders, and `depth` when more folders lie in one another than are looked into."""

    bytes: int = 0
    files: int = 0
    depth: int = 0
    _linked: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def exceeds(self, limits: Limits) -> str:
        """The name of the bound that it goes beyond, or nothing."""
        bounds = {"disk": self.bytes > limits.disk_bytes, "files": self.files > limits.files}
        bounds["depth"] = self.depth > limits.depth
        return next((name for name, is_exceeded in bounds.items() if is_exceeded), "")

    def add(self, status: os.stat_result) -> None:
        """Counts one more; a file that has several names holds its bytes once."""
        self.files += 1
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            inode = status.st_dev, status.st_ino
            if inode in self._linked:
                return
            self._linked.add(inode)
        self.bytes += status.st_blocks * 512


def usage(directories: Iterable[Path], limits: Limits, since_ns: int = 0) -> Usage:
    """What `directories` hold and what of it changed since then: all of it, or so much that a bound is exceeded.

    No link is followed. A folder into which its owner may not look is opened to him: else it would hide what is in it.
    Takes about 3 s for each million of files.
    """
    found = Usage()
    for directory in directories:
        with suppress(OSError):  # it is not there
            above = open_directory(directory.parent, directory.parent)
            try:
                found.add(os.stat(directory.name, dir_fd=above, follow_symlinks=False))
                place = enter(directory.name, above, _LOOK_INSIDE)
            finally:
                os.close(above)
            _measure(place, found, limits, since_ns)
    return found


def _measure(top: int, found: Usage, limits: Limits, since_ns: int) -> None:
    # Descriptors of folders, their depth, and the folders in them that are to be looked into: at most one a level.
    stack = [(top, 1, _look(top, found, limits, since_ns))]
    try:
        while stack and found.exceeds(limits) in ("", "depth"):
            place, depth, names = stack[-1]
            name = names.pop() if names else None
            below = None
            if name is not None and depth > limits.depth:
                found.depth = depth
            elif name is not None:
                with suppress(OSError):  # it has gone, or is something else by now
                    below = enter(name, place, _LOOK_INSIDE)
            if not names:
                stack.pop()
                os.close(place)
            if below is not None:
                stack.append((below, depth + 1, _look(below, found, limits, since_ns)))
    finally:
        for place, _, _ in stack:
            os.close(place)


def _look(place: int, found: Usage, limits: Limits, since_ns: int) -> list[str]:
    """Counts what is in a folder; gives the names of the folders in it."""
    folders: list[str] = []
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.name)
                if status.st_ctime_ns >= since_ns - TICK_NS:
                    found.add(status)
            if found.files > limits.files:
                break
    return folders


class Disk:
    """What one run takes of the disk: what it writes, what its `own` directories hold, and what is new in `shared`.

    `together` are those of all runs that are looked at, which share that directory.
    """

    def __init__(
        self, own: Collection[Path], shared: Path | None, tree: Tree, limits: Limits, together: "set[Disk]"
    ) -> None:
        self._own, self._shared, self._limits, self._together = own, shared, limits, together
        self.tree = tree
        self._since_ns = time.time_ns()
        self._growth: _Growth | None = None
        self.found_bytes = 0
        # Of its places in memory, how much is there that no run's own files tell of, at the first look.
        self._untold_before: dict[Path, int] | None = None

    def exceeds(self) -> str:
        """The name of the bound that the run goes beyond, or nothing."""
        own = usage(self._own, self._limits)
        self.found_bytes = own.bytes
        return (
            Usage(self.tree.written()).exceeds(self._limits)
            or own.exceeds(self._limits)
            or self._memory_exceeds()
            or self._shared_exceeds()
        )

    def _memory_exceeds(self) -> str:
        """The same of what it writes to memory, where the kernel counts no bytes that are written, and names may go.

        What is more there is taken for the run's that works most in the kernel.
        """
        if self._untold_before is None:
            places = {*list(self._own)[:1], *filter(None, [self._shared])}
            self._untold_before = {place: self._untold(place) for place in places if _is_in_memory(place)}
        grown = (self._untold(place) - before for place, before in self._untold_before.items())
        return "disk" if any(size > self._limits.disk_bytes for size in grown) and self._works_most() else ""

    def _untold(self, place: Path) -> int:
        found = 0 if place == self._shared else sum(run.found_bytes for run in self._together | {self})
        return _taken(place).bytes - found

    def _works_most(self) -> bool:
        most = max((other.tree.kernel_ticks for other in self._together - {self}), default=0)
        return self.tree.kernel_ticks >= max(most, _AT_WORK_TICKS)

    def _shared_exceeds(self) -> str:
        """The same of what is new in the directory that runs share, if it is taken to be this run's.

        Nothing tells who made a file. Bytes are taken for those of a run that wrote about as many; files, and bytes
        that short processes may have written, for those of whoever works most in the kernel.
        """
        if self._shared is None:
            return ""
        growth = self._growth = self._growth or _Growth(self._shared, self._limits, self._since_ns)
        name = growth.exceeds()
        if not name or growth is not self._growth:  # it began anew meanwhile
            return ""
        others = self._together - {self}
        if name == "disk" and not self._wrote_much() and self.tree.started < _MANY_STARTED:
            self.begin_anew()
            return ""
        if not (name == "disk" and self._wrote_much()) and not self._works_most():
            return ""
        for other in others:
            other.begin_anew()
        return name

    def _wrote_much(self) -> bool:
        """Whether the bytes may be its own: somebody else may have written them, be it no run."""
        return self.tree.written() >= self._limits.disk_bytes / 2

    def begin_anew(self) -> None:
        """What is in the shared directory by now is another run's."""
        self._since_ns, self._growth = time.time_ns(), None


class _Growth:
    """What is new since a time in a directory to which others write as well.

    The file system tells how full it is. Only where that grew by more than a bound the directory is looked through.
    """

    def __init__(self, place: Path, limits: Limits, since_ns: int) -> None:
        self._place, self._limits, self._since_ns = place, limits, since_ns
        self._most = self._after(_taken(place), Usage())

    def exceeds(self) -> str:
        """The name of the bound that it goes beyond, or nothing."""
        taken, most = _taken(self._place), self._most
        if taken.bytes <= most.bytes and taken.files <= most.files:
            return ""
        found = usage([self._place], self._limits, self._since_ns)
        self._most = self._after(taken, found)
        name = found.exceeds(self._limits)
        if name == "depth":  # it is too deep to be looked through, so it is taken to hold what is new
            return "files" if taken.files > most.files else "disk"
        return name

    def _after(self, taken: Usage, found: Usage) -> Usage:
        """How full the file system will be at least when a bound is exceeded."""
        limits = self._limits
        return Usage(taken.bytes + limits.disk_bytes - found.bytes, taken.files + limits.files - found.files)


def _is_in_memory(place: Path) -> bool:
    """Whether its file system is one of memory: see proc_pid_mountinfo(5)."""
    with suppress(OSError):
        device = place.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, system = line.partition(" - ")
            if mount.split()[2] == number:
                return system.split()[0] in ("tmpfs", "ramfs")
    return False


def _taken(place: Path) -> Usage:
    """What the file system of `place` holds; where it does not count files (btrfs), none."""
    try:
        status = os.statvfs(place)
    except OSError:
        return Usage()
    return Usage((status.f_blocks - status.f_bfree) * status.f_frsize, status.f_files - status.f_ffree)
