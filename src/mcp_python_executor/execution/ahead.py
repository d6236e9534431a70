"""The bound on a warm interpreter: what packages may use of the machine that are imported ahead in it."""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mcp_python_executor.limits import Limits
from mcp_python_executor.process import buffers
from mcp_python_executor.process.disk import Usage, usage
from mcp_python_executor.process.usage import Tree

# An interpreter that waits for work takes no processor time, but for a moment after a run. More is something else's.
_BUSY_SECONDS = 10.0
_BUSY_SHARE = 0.05


class Ahead:
    """Looks at an interpreter and all that descends from it, but for its runs, which are looked at by themselves.

    `roots` are its outermost process and the first one of its namespaces, `directory` is where it may write.
    """

    def __init__(self, roots: list[int], directory: Path, limits: Limits) -> None:
        self._directory, self._limits = directory, replace(limits, memory_bytes=limits.ahead_bytes)
        self._tree = Tree(roots, self._limits)
        self._looked = time.monotonic()
        self._cpu_seconds = self._busy_seconds = 0.0
        self._written_bytes = self._own_written_bytes = 0

    def exceeded(
        self, pids: Collection[int], leaving: Collection[int], names: Collection[str], *, warm: bool, idle: bool
    ) -> str:
        """What it uses too much of, or nothing.

        `pids` and `names` are its runs' processes and directories, and `leaving` the first processes of runs that have
        just ended, which take away what those left. `warm`: it has imported what it was to import. `idle`: no run was
        under way for a while, for what they used is charged to whoever waited for them.
        """
        use = self._tree.all_use(pids, leaving)
        now = time.monotonic()
        elapsed, used = now - self._looked, use.cpu_seconds - self._cpu_seconds
        if idle:
            self._busy_seconds += used if warm and used > _BUSY_SHARE * elapsed else 0
            self._own_written_bytes += use.written_bytes - self._written_bytes
        self._looked, self._cpu_seconds, self._written_bytes = now, use.cpu_seconds, use.written_bytes
        limits = self._limits
        if use.tasks > limits.processes:
            return limits.told("processes")
        if use.memory_bytes > limits.memory_bytes:
            return limits.told("memory")
        if buffers.held(use.processes, limits.buffers) > limits.buffers:
            return limits.told("buffers")
        if exceeded := Usage(self._own_written_bytes).exceeds(limits) or self._on_disk(names).exceeds(limits):
            return limits.told(exceeded)
        if self._busy_seconds > _BUSY_SECONDS:
            return f"{_BUSY_SECONDS:.0f} s of processor time while it had nothing to do"
        return ""

    def _on_disk(self, names: Collection[str]) -> Usage:
        with suppress(OSError), os.scandir(self._directory) as entries:
            return usage((Path(entry.path) for entry in entries if entry.name not in names), self._limits)
        return Usage()
