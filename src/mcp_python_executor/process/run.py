"""Run a command to its end and keep what it says, within bounds."""

import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.process.group import kill_group, owned, wait_for_exit
from mcp_python_executor.process.tail import HeadAndTail

# What is left in the pipes once the whole group is dead is read in an instant. Longer means that a process which left
# the group holds them open.
_DRAIN_SECONDS = 2.0
# A line that is longer than this is no message for a person.
_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended: a negative `returncode` is minus the signal. `truncated` when output was dropped."""

    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool


async def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | None = None,
    kept_bytes: int = MEBIBYTE,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
    watch: Callable[[int], Awaitable[None]] | None = None,
) -> Completed:
    """Run `command` with empty standard input until it ends; cancellation kills its whole group.

    Of each of its outputs at most `kept_bytes` are kept, head and tail. `on_line` is told each line of its standard
    error as it comes. `watch` is called with its pid; when that returns, the command is ended.

    Raises:
        OSError: the command can't be started.
    """
    stdout, stderr = HeadAndTail(kept_bytes), HeadAndTail(kept_bytes)
    lines = _Lines(on_line) if on_line else None
    async with owned(
        command, environment=environment, directory=directory, stdin=subprocess.DEVNULL, pass_fds=pass_fds
    ) as process:
        async with anyio.create_task_group() as readers:
            if process.stdout and process.stderr:
                readers.start_soon(_read, process.stdout, [stdout.write])
                readers.start_soon(_read, process.stderr, [stderr.write, *([lines.write] if lines else [])])
            async with anyio.create_task_group() as watching:
                if watch:
                    watching.start_soon(_end_after, watch, process)
                await wait_for_exit(process)
                watching.cancel_scope.cancel()
            kill_group(process)
            readers.cancel_scope.deadline = anyio.current_time() + _DRAIN_SECONDS
        returncode = await _returncode(process)
    return Completed(returncode, stdout.getvalue(), stderr.getvalue(), stdout.truncated or stderr.truncated)


async def _end_after(watch: Callable[[int], Awaitable[None]], process: Process) -> None:
    await watch(process.pid)
    kill_group(process)


async def _returncode(process: Process) -> int:
    # asyncio learns of the end from a thread of its own, a moment later.
    while process.returncode is None:  # noqa: ASYNC110 - nothing else tells
        await anyio.sleep(0.001)
    return process.returncode


async def _read(stream: ByteReceiveStream, sinks: list[Callable[[bytes], None]]) -> None:
    async for chunk in stream:
        for write in sinks:
            write(chunk)


class _Lines:
    """Bytes in, whole lines out."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = b""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_BYTES:]
        for line in lines:
            if text := line[:_LINE_BYTES].decode("utf-8", "replace").strip():
                self._tell(text)
