"""What one execution may use: every bound with its unit, and what a result says when one is hit."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one execution. Sizes in bytes, times in seconds."""

    wall_seconds: float = 30.0
    memory_bytes: int = 512 * MEBIBYTE
    inline_output_bytes: int = 32768
    # Beyond what a result carries inline, the whole output is kept for paging up to here, for each stream.
    kept_output_bytes: int = 64 * MEBIBYTE
    processes: int = 256
    open_files: int = 1024
    file_bytes: int = 1024 * MEBIBYTE
    # Over all the files of its own directories; those in a shared OUTPUT_PATH are bounded by `file_bytes` each.
    disk_bytes: int = 2048 * MEBIBYTE
    temporary_bytes: int = 256 * MEBIBYTE
    concurrent: int = 5
    # Each waiting call holds its request in memory; past this many a caller is better told at once.
    queued: int = 200


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A bound that was hit: its name, its value in the unit of its setting, and the setting that raises it."""

    name: str
    value: float
    setting: str = ""
