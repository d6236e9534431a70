"""What a process may read, write and reach: a value, and the ways to make one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Policy:
    """What stands inside the outer wall beside the system's own libraries, each at its host path.

    `read` and `write` are files or directories; `hide` are directories below a readable one that appear empty.
    `environment` is the whole environment of the process: the server's own never reaches it.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    hide: tuple[Path, ...] = ()
    network: bool = False
    environment: tuple[tuple[str, str], ...] = ()
