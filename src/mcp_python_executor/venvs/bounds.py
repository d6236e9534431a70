"""What a build may use of the machine, over the tree of its processes. Its time is that of the package operation."""

import os
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.process import proc
from mcp_python_executor.process.disk import Usage, usage
from mcp_python_executor.process.usage import Tree
from mcp_python_executor.sandbox.bubblewrap import TEMPORARY

_MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# A large one compiles on all cores, with some processes and half a gigabyte for each.
LIMITS = Limits(
    memory_bytes=max(2048 * MEBIBYTE, _MACHINE_BYTES // 2),
    processes=max(1024, 16 * (os.cpu_count() or 1)),
    open_files=4096,
    file_bytes=4096 * MEBIBYTE,
    disk_bytes=16384 * MEBIBYTE,
)
_LOOK_SECONDS = 0.1


class Bounds:
    """Looks at a build that writes to the directory `private`, until it has `exceeded` a bound; then that is told."""

    def __init__(self, private: Path, limits: Limits) -> None:
        self._private, self._limits = private, limits
        self._tree: Tree | None = None
        self._sees_own = False
        self.exceeded = ""

    async def watch(self, pid: int) -> None:
        """Returns when a bound is exceeded by the process `pid` and all that descends from it."""
        while not self.exceeded:
            await anyio.sleep(_LOOK_SECONDS)
            self.exceeded = await run_sync(partial(self._look, pid), abandon_on_cancel=True)

    def _look(self, pid: int) -> str:
        tree, limits = self._found(pid), self._limits
        if tree.activity()[0] > limits.processes:
            return limits.told("processes")
        if tree.memory() > limits.memory_bytes:
            return limits.told("memory")
        exceeded = Usage(tree.written()).exceeds(limits) or usage([self._private], limits).exceeds(limits)
        return limits.told(exceeded) if exceeded else ""

    def _found(self, pid: int) -> Tree:
        """The build's processes, and the temporary directories that only these see, as soon as there are such.

        bubblewrap's first process inside sees them, once it has its mounts. Without walls there are none.
        """
        if self._tree is None or not self._sees_own:
            inside = [child for child in proc.children(pid, pid)[:1] if _has_own_root(child)]
            self._sees_own = bool(inside)
            if self._tree is None or inside:
                self._tree = Tree([pid, *inside], TEMPORARY if inside else (), self._limits)
        return self._tree


def _has_own_root(pid: int) -> bool:
    """Whether the process `pid` has another root than we have."""
    try:
        return not Path(f"/proc/{pid}/root").samefile("/")
    except OSError:  # it has ended
        return False
