"""A cgroup (version 2) for each run, where the server's own is delegated to it: see the kernel's admin-guide/cgroup-v2.

A cgroup whose children have controllers holds no process itself, so the server moves into one of two kinds of child:

    the server's own cgroup
        server          the server, its zygotes and package operations
        run-ID          one run, from its worker on

Memory is charged to the cgroup in which it was first touched, so a run is not charged what its zygote imported ahead.
"""

import os
import re
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from mcp_python_executor.limits import Limits

log = structlog.get_logger()

_SERVER, _RUN = "server", "run-"
_CONTROLLERS = ("memory", "pids")
# A process that was killed is gone from its cgroup within moments, once its memory is released.
_DYING_SECONDS = 1
_POLL_SECONDS = 0.01


class Leaf:
    """One run's cgroup. What it told last stays known when it is gone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.memory_exceeded = self._refused = False
        self.peak_memory_bytes = 0

    def make(self, limits: Limits) -> None:
        """Makes it, of so much memory and so many processes and threads."""
        self.directory.mkdir()
        _write(self.directory / "memory.max", str(limits.memory_bytes))
        with suppress(FileNotFoundError):  # no swap
            _write(self.directory / "memory.swap.max", "0")
        _write(self.directory / "memory.oom.group", "1")
        _write(self.directory / "pids.max", str(limits.processes))

    def enter(self, pids: Sequence[int]) -> None:
        """Moves processes here, with the children that they had by then: later ones begin here."""
        for pid in pids:
            self._enter(pid)
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                self._enter(int(child))

    def _enter(self, pid: int) -> None:
        if pid <= 0:  # the kernel takes 0 for whoever writes
            raise ProcessLookupError(f"no process {pid}")
        _write(self.directory / "cgroup.procs", str(pid))

    def refused_processes(self) -> bool:
        """Whether it was to have more processes and threads than it may, until now."""
        with suppress(OSError):  # it is gone, and was asked before
            self._refused = _fields(self.directory / "pids.events")["max"] > 0
        return self._refused

    def look(self) -> None:
        """Asks the kernel what became of its memory until now."""
        with suppress(OSError):  # it is gone, and was asked before
            memory = _fields(self.directory / "memory.events")
            # A run that fell to somebody else's bound, such as a container's, has not reached its own: `oom` is 0.
            self.memory_exceeded = memory["oom"] > 0 and memory["oom_kill"] > 0
            pages = _fields(self.directory / "memory.stat")
            cached = pages["file"] - pages["shmem"]  # of files on the disk: given up when memory is short
            peak = int((self.directory / "memory.peak").read_bytes()) - cached  # since Linux 5.19
            self.peak_memory_bytes = max(self.peak_memory_bytes, peak)

    def kill(self) -> None:
        """Ends every process in it at once, however fast it forks; where the kernel can (Linux 5.14)."""
        with suppress(OSError):
            _write(self.directory / "cgroup.kill", "1")

    def remove(self) -> bool:
        """Whether it is gone; while a process is in it, which is ended then, it is not."""
        self.look()
        self.refused_processes()
        if _remove(self.directory):
            return True
        self.kill()
        return False


class Cgroups:
    """Gives leaves where they can be made; `missing` says why they can't. Make it with `open_cgroups`."""

    def __init__(self, directory: Path | None = None, missing: str = "") -> None:
        self._directory = directory
        self.missing = missing
        self._dying = deque[Leaf]()

    @property
    def delegated(self) -> bool:
        """Whether a run's memory and processes are held by a cgroup of its own."""
        return self._directory is not None

    def leaf(self, name: str, pids: Sequence[int], limits: Limits) -> Leaf | None:
        """A leaf with the processes `pids` in it; None when it was refused, or they have ended.

        Moving waits for the whole machine's forks and exits, which takes milliseconds.
        """
        with suppress(IndexError):  # another thread does the same
            for _ in range(len(self._dying)):
                self.remove(self._dying.popleft())
        if self._directory is None:
            return None
        leaf = Leaf(self._directory / f"{_RUN}{name}")
        try:
            leaf.make(limits)
            leaf.enter(pids)
        except OSError as error:
            if not isinstance(error, ProcessLookupError):
                log.warning("no_cgroup_for_run", reason=str(error))
            self.remove(leaf)
            return None
        return leaf

    def remove(self, leaf: Leaf) -> None:
        """Removes `leaf`, now or when what is in it has died."""
        if not leaf.remove():
            self._dying.append(leaf)


@contextmanager
def open_cgroups(told: Path = Path("/proc/self")) -> Generator[Cgroups]:
    """Leaves for runs, if the server's own cgroup is delegated to it and holds nobody else; found out by trying.

    The calling process, whose directory in /proc is `told`, is in a leaf of its own until the context ends; then all is
    as it was.
    """
    directory, missing = _divided(told)
    try:
        yield Cgroups(directory, missing)
    finally:
        if directory is not None:
            _undo(directory)


def _divided(told: Path) -> tuple[Path | None, str]:
    """The server's own cgroup, ready to have leaves; or why it is left as it was."""
    try:
        directory = _own_cgroup(*(os.fsdecode((told / name).read_bytes()) for name in ("cgroup", "mountinfo")))
        _check(directory)
        _sweep(directory)
    except OSError as error:
        return None, str(error)
    try:
        _divide(directory)
    except OSError as error:
        _undo(directory)
        return None, str(error)
    return directory, ""


def _own_cgroup(membership: str, mounts: str) -> Path:
    """The calling process's cgroup as a directory: see cgroups(7) and proc_pid_mountinfo(5) for the two texts.

    Raises:
        OSError: there is no cgroup of version 2, or it is not mounted where we see it.
    """
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None:
        raise OSError("there are no cgroups of version 2")
    for line in mounts.splitlines():
        mount, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            root, point = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), it) for it in mount.split()[3:5])
            if Path(path).is_relative_to(root) and ".." not in path.split("/"):
                return Path(point) / Path(path).relative_to(root)
    raise OSError(f"the cgroup {path!r} is not mounted")


def _check(directory: Path) -> None:
    """Raises OSError where the cgroup is not ours alone, or not of use; changes nothing."""
    controllers = (directory / "cgroup.controllers").read_text().split()
    if missing := [name for name in _CONTROLLERS if name not in controllers]:
        raise OSError(f"the cgroup {str(directory)!r} has no controller {' and '.join(missing)}")
    if (directory / "cgroup.procs").read_text().split() != [str(os.getpid())]:
        raise OSError(f"the cgroup {str(directory)!r} holds other processes than the server")
    others = [path.name for path in directory.iterdir() if path.is_dir() and not _is_ours(path)]
    if others:
        raise OSError(f"the cgroup {str(directory)!r} holds other cgroups: {', '.join(others)}")


def _is_ours(path: Path) -> bool:
    return path.name == _SERVER or path.name.startswith(_RUN)


def _sweep(directory: Path) -> None:
    """Removes what a dead server left; raises OSError where one lives."""
    with suppress(FileNotFoundError):
        (directory / _SERVER).rmdir()
    _remove_runs(directory)


def _divide(directory: Path) -> None:
    """Moves the server into its leaf, and makes and removes one for a run, to see that all of it works."""
    server = directory / _SERVER
    server.mkdir()
    _write(server / "cgroup.procs", str(os.getpid()))
    _write(directory / "cgroup.subtree_control", " ".join(f"+{name}" for name in _CONTROLLERS))
    trial = Leaf(directory / f"{_RUN}trial")
    trial.make(Limits())
    trial.directory.rmdir()


def _undo(directory: Path) -> None:
    _remove_runs(directory)
    with suppress(OSError):
        _write(directory / "cgroup.subtree_control", " ".join(f"-{name}" for name in _CONTROLLERS))
    with suppress(OSError):
        _write(directory / "cgroup.procs", str(os.getpid()))
    _remove_in_time(directory / _SERVER)


def _remove_runs(directory: Path) -> None:
    for path in directory.glob(f"{_RUN}*"):
        with suppress(OSError):
            _write(path / "cgroup.kill", "1")
        _remove_in_time(path)


def _remove_in_time(directory: Path) -> None:
    """Waits for processes in it that end already, but not for others."""
    deadline = time.monotonic() + _DYING_SECONDS
    while not _remove(directory) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    """In one write(2), to a file that is there: see the kernel's admin-guide/cgroup-v2."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _fields(path: Path) -> Counter[str]:
    return Counter({name: int(value) for name, value in map(str.split, path.read_text().splitlines())})
