"""A worker seen from the server: its directory, its streams, its channel, and how it ended."""

import json
import os
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import report
from mcp_python_executor.execution.report import Report

# A report carries pictures; past this the channel is read no further, and what it said does not count.
_REPORT_BYTES = 64 * 1024 * 1024
_CHUNK = 262_144


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended: its wait status (see waitpid(2)), processor time in seconds, peak memory in bytes."""

    status: int
    cpu_seconds: float
    peak_memory_bytes: int

    @property
    def code(self) -> int | None:
        """The exit status, or None after a signal."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> str:
        """The name of the signal that ended it, or nothing."""
        if not os.WIFSIGNALED(self.status):
            return ""
        number = os.WTERMSIG(self.status)
        with suppress(ValueError):
            return signal.Signals(number).name
        return f"signal {number}"


class Worker:
    """A forked process that runs one program in `directory`.

    `ended` is set when it and everything it started are gone, with `exit` (None when its zygote died with it).
    `pids` are its run's first process and the worker's, as the server sees them. `theirs` are the worker's ends of its
    streams and its channel, until it has them.
    """

    def __init__(self, execution_id: str, parent: Path) -> None:
        self.id = execution_id
        self.directory = parent / execution_id
        self.work = self.directory / "work"
        self.output = self.directory / "output"
        self.ended = anyio.Event()
        self.exit: Exit | None = None
        self.failure = ""
        self.pids: list[int] = []
        self.theirs: list[int] = []
        stdin, self.stdin = self._pipe(reading=True)
        stdout, self.stdout = self._pipe(reading=False)
        stderr, self.stderr = self._pipe(reading=False)
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.setblocking(False)
        self.theirs = [stdin, stdout, stderr, channel.detach()]

    @staticmethod
    def _pipe(*, reading: bool) -> tuple[int, int]:
        """(the worker's end, ours, which never blocks); `reading` when the worker reads."""
        read, write = os.pipe()
        theirs, ours = (read, write) if reading else (write, read)
        os.set_blocking(ours, False)
        return theirs, ours

    def make_directories(self) -> None:
        """Makes the run's own directory and what is in it.

        Raises:
            OSError: the disk is full or not writable.
        """
        for directory in (self.directory, self.work, self.output, self.directory / "tmp"):
            directory.mkdir(mode=0o700)

    def handed_over(self) -> None:
        """The worker has its ends; ours of them close."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    async def request(self, message: dict[str, Any], stdin: bytes) -> None:
        """Sends the program, then the whole of its standard input; a worker that reads neither is not waited for."""
        data = json.dumps(message).encode()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._write(self._channel.fileno(), struct.pack("!I", len(data)) + data)
        try:
            with suppress(BrokenPipeError):
                await self._write(self.stdin, stdin)
        finally:
            os.close(self.stdin)
            self.stdin = -1

    @staticmethod
    async def _write(descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                await anyio.wait_writable(descriptor)

    async def report(self) -> Report:
        """What the worker reported, when its channel has ended.

        Raises:
            EngineError: the worker could not put up its walls, so nothing of the program ran.
        """
        told = report.parse(await self._read_channel())
        if told.failed:
            raise EngineError(f"a worker could not put up its walls: {told.failed}")
        return told

    async def _read_channel(self) -> bytes:
        data = bytearray()
        while len(data) <= _REPORT_BYTES:
            try:
                piece = self._channel.recv(_CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._channel)
                continue
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    def end(self, exit_status: Exit | None, failure: str = "") -> None:
        """Notes how it ended."""
        self.exit, self.failure = exit_status, failure
        self.ended.set()

    def close(self) -> None:
        """Closes every descriptor that is still open; those being read close with their reader."""
        self.handed_over()
        self._channel.close()
        for name in ("stdin", "stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)
