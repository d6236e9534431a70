"""The wire: the two descriptors that carry the protocol, read and written as lines on the event loop.

No worker thread waits on them: one that does keeps the process alive after SIGTERM until its client closes the wire.
"""

import fcntl
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from mcp_python_executor.errors import ExecutorError

# What a pipe holds by default (pipe(7)).
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Wire:
    """The private descriptors that the client's messages come from and ours go to; both never block."""

    incoming: int
    outgoing: int


def claim_wire() -> Wire:
    """The wire, taken away from everything else in this process and its children.

    After it, descriptor 0 is empty and descriptor 1 writes to standard error: a stray print, or a child that was given
    no streams of its own, neither speaks nor listens on the wire. Call it before anything is printed or started.

    Raises:
        ExecutorError: standard input or output is closed.
    """
    try:
        wire = Wire(_private(0, os.O_RDONLY), _private(1, os.O_WRONLY))
    except OSError as error:
        raise ExecutorError(
            f"standard input or output can't be used: {error.strerror}; a host starts the server with both open"
        ) from error
    _divert(0, os.O_RDONLY)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        _divert(1, os.O_WRONLY)
    return wire


def _private(descriptor: int, direction: int) -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # O_NONBLOCK belongs to the open file description, which a duplicate shares with whoever started us (for a
        # terminal with standard error too): opened anew, it is ours alone.
        try:
            flags = direction | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            pass
    duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.set_blocking(duplicate, False)
    return duplicate


def _divert(descriptor: int, direction: int) -> None:
    null = os.open(os.devnull, direction)
    os.dup2(null, descriptor)
    os.close(null)


async def read_lines(descriptor: int) -> AsyncGenerator[bytes]:
    """Each line that comes, without its end, until end-of-file; what stands there without an end comes too."""
    begun: list[bytes] = []
    while chunk := await _read(descriptor):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for other in others:
            yield b"".join(begun)
            begun = [other]
    if rest := b"".join(begun):
        yield rest


async def _read(descriptor: int) -> bytes:
    await anyio.lowlevel.checkpoint()  # a client that never pauses is not alone here
    while True:
        try:
            return os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(descriptor)
        except OSError:  # reset by the peer, or the terminal hung up: nobody will write again
            return b""


async def write_line(descriptor: int, line: bytes) -> None:
    """Writes `line` and its end, waiting while the reader is slow.

    Raises:
        OSError: nobody reads any more.
    """
    rest = memoryview(line + b"\n")
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            await anyio.wait_writable(descriptor)
