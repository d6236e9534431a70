"""What the kernel keeps for processes and tells of none: mappings, record locks, Landlock rules, filters, and more."""

import os

from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.process import proc

# See proc_meminfo(5): objects that it can't give up, and what it has mapped for itself.
_KEPT = (b"SUnreclaim", b"VmallocUsed")
# Splitting mappings and forking with them, which is what fills it most, takes a second in the kernel for as much.
_MOST_A_SECOND = 256 * MEBIBYTE
# What comes and goes on any machine.
_NOTHING = 64 * MEBIBYTE


class Kept:
    """How much more the kernel keeps for some processes since the first look at them.

    It tells only how much that is for all: what is more is theirs as far as they can have made it in the time that they
    spent in the kernel meanwhile, and what is less was theirs.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._before: tuple[int, int] | None = None

    def look(self, kernel_ticks: int) -> int:
        """Bytes; `kernel_ticks` are the clock ticks that the processes have spent in the kernel so far."""
        told = proc.fields("meminfo")
        kept = 1024 * sum(told.get(name, 0) for name in _KEPT)
        before, ticks = self._before or (kept, kernel_ticks)
        most = max(0, kernel_ticks - ticks) * _MOST_A_SECOND // os.sysconf("SC_CLK_TCK")
        self._bytes = max(0, self._bytes + min(kept - before, most))
        self._before = kept, kernel_ticks
        return self._bytes if self._bytes > _NOTHING else 0
