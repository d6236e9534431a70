"""The heap in huge pages: a fork copies one entry for each where it copies 512 of small ones, and so does its end."""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Iterator

# Of x86-64, and of arm64 where its pages have 4 KiB. Elsewhere nothing is that the kernel could gather.
_HUGE = 2 * 1024 * 1024
# Linux 6.1; see madvise(2). An older kernel refuses it.
_MADV_COLLAPSE = 25

_libc = ctypes.CDLL(None)


def gather() -> None:
    """Moves what this process has written so far into huge pages, as far as it lies together and the kernel can.

    Call it once what forks are to share is there. Whoever writes to such a page has small ones there again.
    """
    for start, end in _private():
        first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if first < last:
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_COLLAPSE)


def _private() -> Iterator[tuple[int, int]]:
    """Where memory lies that is no file's: see proc_pid_maps(5)."""
    with open("/proc/self/maps") as maps:
        for line in maps.read().splitlines():
            place, rights, _, _, inode = line.split()[:5]
            if rights == "rw-p" and inode == "0":
                start, end = place.split("-")
                yield int(start, 16), int(end, 16)
