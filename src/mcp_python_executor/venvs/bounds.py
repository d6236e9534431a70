"""What a build or uv may use of the machine, over the tree of its processes, within the time of the operation."""

import os
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.process.disk import Usage, usage
from mcp_python_executor.process.usage import Tree

_MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# A large one compiles on all cores, with some processes and half a gigabyte for each.
LIMITS = Limits(
    memory_bytes=max(2048 * MEBIBYTE, _MACHINE_BYTES // 2),
    processes=max(1024, 16 * (os.cpu_count() or 1)),
    open_files=4096,
    file_bytes=4096 * MEBIBYTE,
    disk_bytes=16384 * MEBIBYTE,
)
# What uv may write for one operation: the largest environments hold some 20 GB, beside the downloads.
INSTALLS = Limits(disk_bytes=65536 * MEBIBYTE)
_LOOK_SECONDS = 0.1


class Bounds:
    """Looks at a build that writes to the directory `private`, until it has `exceeded` a bound; then that is told.

    Where nothing runs but uv there is no such directory, and what it writes is all that is looked at.
    """

    def __init__(self, private: Path | None, limits: Limits) -> None:
        self._private, self._limits = private, limits
        self.exceeded = ""

    async def watch(self, pid: int) -> None:
        """Returns when a bound is exceeded by the process `pid` and all that descends from it."""
        tree = Tree([pid], self._limits)
        while not self.exceeded:
            await anyio.sleep(_LOOK_SECONDS)
            self.exceeded = await run_sync(partial(self._look, tree), abandon_on_cancel=True)

    def _look(self, tree: Tree) -> str:
        limits = self._limits
        if self._private is None:
            return limits.told("disk") if tree.written() > limits.disk_bytes else ""
        if tree.activity()[0] > limits.processes:
            return limits.told("processes")
        if tree.memory() > limits.memory_bytes:
            return limits.told("memory")
        exceeded = Usage(tree.written()).exceeds(limits) or usage([self._private], limits).exceeds(limits)
        return limits.told(exceeded) if exceeded else ""
