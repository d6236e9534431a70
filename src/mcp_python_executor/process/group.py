"""A child process in a session and group of its own, owned until it is reaped."""

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import anyio
from anyio.abc import ByteReceiveStream, Process

# SIGKILL cannot be refused; only a process in an uninterruptible system call outlasts this, and nobody can end that.
_REAP_SECONDS = 5.0
_DRAIN_SECONDS = 1.0
_POLL_SECONDS = 0.01


@asynccontextmanager
async def owned(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | None = None,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> AsyncGenerator[Process]:
    """The running `command`; on leaving, however it is left, its whole group is killed and it is reaped.

    `environment` is all of its environment. It never shares our standard streams: one of ours is the protocol's wire.

    Raises:
        OSError: the command can't be started.
    """
    process = await _started(
        partial(
            anyio.open_process,
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            env=environment,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def wait_for_exit(process: Process) -> None:
    """Return when `process` itself has ended, though a descendant may still hold its pipes.

    asyncio's own wait also waits for the pipes: one forgotten background process would hold it up for ever.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # a kernel or system without pidfds
        while process.returncode is None:  # noqa: ASYNC110 - nothing else tells
            await anyio.sleep(_POLL_SECONDS)
        return
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def kill_group(process: Process) -> None:
    """SIGKILL for every process that is still in the group of `process`."""
    # The leader's pid is the group's id, also when the leader is gone and others are left in it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _started(start: Callable[[], Awaitable[Process]]) -> Process:
    # Cancelled between fork and answer, asyncio would leave a child that nobody owns. It takes a moment only.
    with anyio.CancelScope(shield=True):
        return await start()
    raise AssertionError("a shielded scope was cancelled")


async def _end(process: Process) -> None:
    kill_group(process)
    with anyio.move_on_after(_REAP_SECONDS):
        await wait_for_exit(process)
        await process.wait()
    # asyncio closes the pipes when they have been read to their end, which a process that left the group can delay.
    with anyio.move_on_after(_DRAIN_SECONDS):
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                await _drain(stream)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stream.aclose()


async def _drain(stream: ByteReceiveStream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for _ in stream:
            pass
