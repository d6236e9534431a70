"""A worker seen from the server: its directory, its streams, its channel, and how it ended."""

import json
import math
import os
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from mcp_python_executor.execution import report, stacks
from mcp_python_executor.execution.cgroups import Leaf
from mcp_python_executor.execution.report import Report
from mcp_python_executor.process import proc

# A report carries up to 27 MiB of pictures; past this the channel is read no further, and what it said does not count.
_REPORT_BYTES = 32 * 1024 * 1024
_CHUNK = 262_144
# A larger report is parsed in a thread: other calls are not to wait for it.
_PARSED_AT_ONCE = 65_536
# A run's first process and the worker.
_PIDS = 2


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


# Of a worker whose end nobody saw.
KILLED = Exit(signal.SIGKILL, 0.0, 0)


class Worker:
    """A forked process that runs one program in `directory`.

    `ended` is set when it and everything it started are gone, with `exit` (None when its zygote died with it), at
    `ended_at` by the clock of time.monotonic(). `pids` are its run's first process and the worker's, as the server sees
    them, complete once `forked` is set; the last is in `leaf` where cgroups are delegated. `theirs` are the worker's
    ends of its streams and its channel, until it has them.
    """

    def __init__(self, execution_id: str, parent: Path) -> None:
        self.id = execution_id
        self.directory = parent / execution_id
        self.work = self.directory / "work"
        self.output = self.directory / "output"
        # Whole outputs: where neither the program nor what forked it writes.
        self.spools = {name: parent.parent / f"{execution_id}.{name}" for name in ("stdout", "stderr")}
        self.forked = anyio.Event()
        self.ended = anyio.Event()
        self.ended_at = math.inf
        self.exit: Exit | None = None
        self.failure = ""
        self.pids: list[int] = []
        self.leaf: Leaf | None = None
        self.theirs: list[int] = []
        self.stdin = self.stdout = self.stderr = -1
        self._channel: socket.socket | None = None
        self._unsent = self._input = b""
        self._received = bytearray()

    @property
    def program(self) -> Path:
        """The file of inline code."""
        return self.work / "main.py"

    @property
    def places(self) -> tuple[Path, ...]:
        """Where the program may write in its directory; the last two only where it has no /tmp of its own."""
        return self.work, self.output, self.directory / "home", self.directory / "tmp"

    def open(self) -> None:
        """Makes its directories, its streams and its channel. Whatever was made, `close` closes.

        Raises:
            OSError: the disk is full or not writable, or too many descriptors are open.
        """
        self._make_directories()
        self.stdin = self._pipe(reading=True)
        self.stdout = self._pipe(reading=False)
        self.stderr = self._pipe(reading=False)
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.setblocking(False)
        self.theirs.append(channel.detach())

    def _make_directories(self) -> None:
        """By descriptor: what forks the programs may put a link in the place of any of them (see `artifacts`)."""
        parent = os.open(self.directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.mkdir(self.id, 0o700, dir_fd=parent)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            own = os.open(self.id, flags, dir_fd=parent)
            try:
                for place in (self.work, self.output):
                    os.mkdir(place.name, 0o700, dir_fd=own)
            finally:
                os.close(own)
        finally:
            os.close(parent)

    @property
    def leftovers(self) -> list[Path]:
        """What stays of it on the disk, and goes with its record."""
        return [self.directory, *self.spools.values()]

    def _pipe(self, *, reading: bool) -> int:
        """Our end of a pipe, which never blocks; the worker's, which reads if `reading`, goes to `theirs`."""
        read, write = os.pipe()
        theirs, ours = (read, write) if reading else (write, read)
        os.fchmod(theirs, 0o666)  # programs open /dev/stdout by path, and may be another user
        self.theirs.append(theirs)
        os.set_blocking(ours, False)
        return ours

    def handed_over(self) -> None:
        """The worker has its ends; ours of them close."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def _open_channel(self) -> socket.socket:
        if self._channel is None:
            raise ValueError("the worker was never opened")
        return self._channel

    def begin(self, message: dict[str, Any], stdin: bytes) -> None:
        """Sends the program, as far as the channel takes it at once: most begin to run here. `feed` sends the rest."""
        data = json.dumps(message).encode()
        self._unsent = struct.pack("!I", len(data)) + data
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._unsent = self._unsent[self._open_channel().send(self._unsent) :]
        self._input = stdin
        if not stdin:
            self._close_stdin()

    async def feed(self) -> None:
        """Sends the rest, then the whole of its standard input; a worker that reads neither is not waited for."""
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._write(self._open_channel().fileno(), self._unsent)
        try:
            with suppress(BrokenPipeError):
                await self._write(self.stdin, self._input)
        finally:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self.stdin >= 0:
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
        """What the worker reported, once all of it has come.

        Raises:
            EngineError: the worker could not put up its walls, so nothing of the program ran.
        """
        while not self._receive():
            await anyio.wait_readable(self._open_channel())
        if len(self._received) < _PARSED_AT_ONCE:
            return report.parse(self._received)
        return await anyio.to_thread.run_sync(report.parse, self._received)

    def _receive(self) -> bool:
        """Reads what is there; gives whether that is all that is read of it."""
        data, channel = self._received, self._open_channel()
        while len(data) <= _REPORT_BYTES and not report.is_complete(data):
            try:
                piece = channel.recv(_CHUNK)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            if not piece:
                return True
            data += piece
        return True

    async def part(self, told: Exit) -> bool:
        """Sets `ended` once nothing of the program runs any more, while the kernel still takes the run apart.

        Gives whether nothing does, `exit` being what was `told` or what is known. If not, the zygote tells of the end.
        """
        if not self._has_parted(told.status):
            await anyio.wait_readable(self._open_channel())  # by its end
            if not self._has_parted(told.status):
                return False
        if not self.ended.is_set():
            self.exit = told
            self.end()
        return True

    def _has_parted(self, status: int) -> bool:
        if self.ended.is_set():
            return True
        if len(self.pids) != _PIDS:  # a supervisor's worker is not told
            return False
        first, last = self.pids
        # In this order: what the worker started is its own child, or its first process's once that one has ended.
        return proc.parting_status(last) == status and _is_childless(last) and _is_childless(first)

    def end(self) -> None:
        """Nothing of it runs any more."""
        if not self.ended.is_set():
            self.ended_at = time.monotonic()
            self.ended.set()

    def tell_stack(self) -> None:
        """Has the worker report where its program is, in place of its report."""
        if self.pids and not self.ended.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pids[-1], stacks.SIGNAL)  # a supervisor passes it on

    def is_alone(self) -> bool:
        """Whether the run's first process, to which the kernel gives every orphan of the run, has no child.

        Once the worker has been waited for, that means that nothing of the program is left (see pid_namespaces(7)).
        """
        return bool(self.pids) and _is_childless(self.pids[0])

    def is_there(self) -> bool:
        """Whether the run's first process is, which ends last."""
        return any(Path(f"/proc/{pid}").exists() for pid in self.pids[:1])

    def close(self) -> None:
        """Closes every descriptor that is still open; those being read close with their reader."""
        self.handed_over()
        if self._channel is not None:
            self._channel.close()
        for name in ("stdin", "stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)


def _is_childless(pid: int) -> bool:
    """Whether a process of one thread has no child; where the kernel does not tell, it may have one."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return not file.read(1)
    except OSError:
        return False
