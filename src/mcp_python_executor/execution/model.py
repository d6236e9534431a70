"""One execution as values: what is asked and what came of it. Both can be sent to another machine as they are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mcp_python_executor.limits import LimitHit

OutputListener = Callable[[str, str], None]
"""Is told each piece of output as it comes: the stream (`stdout` or `stderr`) and the text. Must not block.

What is told of `queue` is no output, but where in the queue the execution is."""


class Status(StrEnum):
    """How an execution ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY_EXCEEDED = "memory_exceeded"
    KILLED = "killed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What an execution runs in: an environment's own Python, whose content `generation` names.

    `prefix` is the environment; `base_prefix` is where its standard library comes from, of `version`.
    """

    generation: str
    python: Path
    prefix: Path
    base_prefix: Path
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """A program to run: inline `code`, or the file `script` (exactly one).

    `stdin` is the whole of its standard input. `timeout_seconds` lowers the wall-clock limit, never raises it.
    """

    code: str = ""
    script: Path | None = None
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    venv_name: str
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ProgramError:
    """The exception that ended a program: `traceback` has the user's own frames, `line` is the last of them in it."""

    type: str
    message: str
    traceback: str
    line: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a program wrote: `path` on the host, `size` in bytes."""

    path: Path
    size: int
    mime_type: str
    uri: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that the code drew and left open or gave as its last value."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """What came of an execution. `stdout` and `stderr` are cut in the middle where the truncated flags say so.

    Times in seconds, `peak_memory_bytes` of the program with its children. `isolation` tells the walls it ran behind:
    `strict` or `none`. `skipped` tells of what the program left that is no regular file, `pictures_left_out` how many
    more it drew than a result carries.
    """

    execution_id: str
    venv_name: str
    status: Status
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    exit_code: int | None = None
    signal: str = ""
    error: ProgramError | None = None
    result: str | None = None
    files: list[Artifact] = field(default_factory=list[Artifact])
    skipped: list[str] = field(default_factory=list[str])
    pictures: list[Picture] = field(default_factory=list[Picture])
    pictures_left_out: int = 0
    limit: LimitHit | None = None
    isolation: str = "strict"
    duration_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    queued_seconds: float = 0.0
