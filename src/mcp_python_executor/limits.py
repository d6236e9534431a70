"""What one execution may use: every bound with its unit, and what a result says when one is hit."""

import os
from dataclasses import dataclass

MEBIBYTE = 1024 * 1024

# One program may keep half of the machine busy, and four cores anywhere: where there are no more, the time is enough.
_BUSY_CORES = max(4.0, (os.cpu_count() or 1) / 2)


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A bound that was hit: its name, its value in the unit of its setting, and the setting that raises it."""

    name: str
    value: float
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one execution. Sizes in bytes, times in seconds."""

    wall_seconds: float = 30.0
    # Processor time, over all of a program's processes: that many cores busy for all the wall-clock time.
    busy_cores: float = _BUSY_CORES
    memory_bytes: int = 512 * MEBIBYTE
    # A warm interpreter, which holds up to 100 MB where it imported pandas and matplotlib.
    ahead_bytes: int = 512 * MEBIBYTE
    inline_output_bytes: int = 32768
    # Beyond what a result carries inline, the whole output is kept for paging up to here, for each stream.
    kept_output_bytes: int = 64 * MEBIBYTE
    # Threads count: numerical libraries start one for each core, and there are several such libraries.
    processes: int = 512
    open_files: int = 1024
    # Pipes and sockets over all processes, four for each: the kernel may hold 208 KiB for one (wmem_default), which are
    # in nobody's memory.
    buffers: int = 2048
    file_bytes: int = 1024 * MEBIBYTE
    # What a program's own directories hold on the disk, and what it had written to a disk in all, wherever that lies.
    disk_bytes: int = 2048 * MEBIBYTE
    # Folders in one another. A look into them holds a descriptor of each, and the server has some hundreds in all.
    depth: int = 64
    # A third for each of the three temporary directories.
    temporary_bytes: int = 256 * MEBIBYTE
    concurrent: int = 5
    # Each waiting call holds its request in memory; past this many a caller is better told at once.
    queued: int = 200

    @property
    def preload_bytes(self) -> int:
        """What modules may hold that are imported ahead: the most used come first, and what would be more is left."""
        return self.ahead_bytes // 2

    @property
    def files(self) -> int:
        """Files and folders of a program's own, and new ones in `OUTPUT_PATH`.

        As many as a disk of `disk_bytes` can hold by default: see the ratio of bytes to inodes in mke2fs.conf(5).
        """
        return self.disk_bytes // 16_384

    @property
    def refused_processes(self) -> int:
        """From so many on the kernel refuses more: who goes beyond `processes` in between two looks is told by name."""
        return 2 * self.processes

    @property
    def data_bytes(self) -> int:
        """What one process may map to write to: so loose that only what could never be held fails by itself."""
        return 8192 * MEBIBYTE + 8 * self.memory_bytes

    def hit(self, name: str) -> LimitHit:
        """What a result says of the bound `name`: MB of memory, bytes, or how many of what it names.

        Those of time are the execution's own, for a call may lower them.
        """
        value, setting = {
            "memory": (self.memory_bytes // MEBIBYTE, "MAX_MEMORY_MB"),
            "processes": (self.processes, ""),
            "buffers": (self.buffers, ""),
            "open_files": (self.open_files, ""),
            "file_size": (self.file_bytes, ""),
            "disk": (self.disk_bytes, ""),
            "files": (self.files, ""),
            "depth": (self.depth, ""),
            "temporary": (self.temporary_bytes // 3, ""),
            "output": (self.kept_output_bytes, ""),
        }[name]
        return LimitHit(name, value, setting)

    def told(self, name: str) -> str:
        """The bound `name` in words, of what an execution or a build holds as a whole."""
        return {
            "processes": f"{self.processes} processes and threads",
            "buffers": f"{self.buffers} pipes and sockets",
            "memory": f"{self.memory_bytes // MEBIBYTE} MB of memory",
            "disk": f"{self.disk_bytes // MEBIBYTE} MB on the disk",
            "files": f"{self.files} files and folders",
            "depth": f"{self.depth} folders in one another",
        }[name]
