"""One warm interpreter, as the server holds it: started behind the outer wall, asked for workers, ended."""

import json
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import anyio
import anyio.to_thread
import psutil
from pydantic import BaseModel, Field, ValidationError

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution.ahead import Ahead
from mcp_python_executor.execution.engine import SPARES, Engine
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import Exit, Worker
from mcp_python_executor.process import owned
from mcp_python_executor.process.folders import remove

_START_SECONDS = 60
# A run that forks without end makes everybody slow, the zygote that ends it too.
_END_SECONDS = 5
_GONE_SECONDS = 30
_POLL_SECONDS = 0.01
# How often is looked at what packages use: while they are imported, and once nothing of theirs should go on.
_WARMING_LOOK_SECONDS, _WARM_LOOK_SECONDS = 0.05, 0.5
_MESSAGE_BYTES = 65_536
_COMPLAINT_BYTES = 4096
# `confined` and `ready`, or `failed`; `init`, `forked`, `exited` and `ended`. One more of each is too much.
_EVENTS_OF_START, _EVENTS_OF_A_RUN = 3, 4
_CREDENTIALS = struct.Struct("iII")


def _check_thread() -> None:
    """bubblewrap's --die-with-parent, PR_SET_PDEATHSIG in prctl(2), would end it with the thread that started it."""
    if threading.current_thread() is not threading.main_thread():
        raise EngineError("interpreters are started from the main thread alone")


class _Event(BaseModel):
    """What a zygote tells: hostile input, for packages run in it. Times in seconds, `peak` in bytes."""

    event: Literal["confined", "ready", "init", "forked", "exited", "ended", "failed"]
    id: str = ""
    reason: str = ""
    module: str = ""
    status: int = Field(0, ge=0, le=0xFFFF)
    cpu: float = Field(0.0, ge=0, allow_inf_nan=False)
    peak: int = Field(0, ge=0, le=2**63)


class Zygote:
    """Gives workers while it is `alive`.

    `ahead`: it runs the environment's start and imports `modules`; else each worker does, within a run's limits.
    `modules` are in the order of their use. `unfit` is the one of them that can't be imported ahead, when it ended for
    that; `overran` is what they used too much of. `used` is when a worker was last asked for.
    """

    def __init__(self, engine: Engine, surroundings: Surroundings, modules: Iterable[str], *, ahead: bool) -> None:
        self._engine, self._surroundings = engine, surroundings
        self.generation = surroundings.interpreter.generation
        self.modules = dict.fromkeys(modules).keys()
        # The outer wall is what keeps packages from the host while they are imported.
        self.ahead = ahead and not (engine.confinement.strict and engine.confinement.bubblewrap is None)
        self.alive = True
        self.overran = self.unfit = ""
        self.used = time.monotonic()
        self._workers: dict[str, Worker] = {}
        # Those asked for, until they have ended for a while.
        self._given: list[Worker] = []
        # Directories of runs that are still there.
        self._kept: set[str] = set()
        # Forked ahead, the oldest first.
        self._spares: deque[Worker] = deque()
        self._refilling = anyio.Lock()
        self._retired = False
        self._pid = 0
        # How many events are to come: an interpreter that says more is no longer ours, and would keep us listening.
        self._due = _EVENTS_OF_START
        self._confined = anyio.Event()
        self._ready = anyio.Event()
        self._gone = anyio.Event()
        self._failure = ""
        self.directory = engine.runs / secrets.token_hex(6)
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._control.setblocking(False)

    async def run(self, started: anyio.Event) -> None:
        """The zygote's whole life: sets `started` once it is warm, returns when it has ended, ends it if cancelled.

        Raises:
            EngineError: it did not start.
        """
        with self._control, self._theirs, TemporaryFile() as complaints, self._engine.hold(self.generation) as held:
            if not held:
                raise EngineError("an interpreter did not start: its environment is being removed")
            self.directory.mkdir(mode=0o700, parents=True)
            control = self._theirs.fileno()
            argv, environment = self._engine.command(
                self._surroundings, self.directory, control, self.modules, ahead=self.ahead
            )
            try:
                _check_thread()
                async with owned(
                    argv,
                    directory=Path("/"),  # nothing there is a program's
                    environment=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    pass_fds=[self._theirs.fileno()],
                ) as process:
                    self._theirs.close()
                    await self._follow(started, process.pid)
                if not started.is_set():
                    complaints.seek(0)
                    said = complaints.read(_COMPLAINT_BYTES).decode(errors="replace").strip()
                    self._failure = self._failure or said or "it gave no sign in time"
            except OSError as error:
                self._failure = f"{argv[0]}: {error.strerror}"
            finally:
                self._lose_workers()
                await self._go()
        if not started.is_set():
            raise EngineError(f"an interpreter did not start: {self._failure}")

    async def _go(self) -> None:
        """Waits for what its packages run, which bubblewrap's end ends a moment later and which writes until then."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_END_SECONDS):
            while self._pid and psutil.pid_exists(self._pid):  # noqa: ASYNC110 - no child of ours
                await anyio.sleep(_POLL_SECONDS)
        self._gone.set()

    async def _follow(self, started: anyio.Event, outermost: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_events, tasks.cancel_scope)
            if self.ahead:
                tasks.start_soon(self._watch, outermost, tasks.cancel_scope)
            with anyio.move_on_after(_START_SECONDS):
                await self._ready.wait()
            if self._ready.is_set() and self.alive and not self._failure:
                started.set()
            else:
                tasks.cancel_scope.cancel()

    async def _follow_events(self, life: anyio.CancelScope) -> None:
        while self._due and (message := await self._receive()):
            self._due -= 1
            self._note(*message)
        self._lose_workers()
        life.cancel()

    async def _watch(self, outermost: int, life: anyio.CancelScope) -> None:
        """Ends the zygote when what is imported ahead uses too much, in all that descends from `outermost`."""
        await self._confined.wait()
        ahead = Ahead([outermost, self._pid], self.directory, self._engine.limits)
        while not self.overran:
            now = time.monotonic()
            self._given = [each for each in self._given if now - each.ended_at < _END_SECONDS]
            running = [each for each in self._given if not each.ended.is_set()]
            in_use = {pid for worker in self._workers.values() for pid in worker.pids}
            look = partial(
                ahead.exceeded,
                {pid for worker in running for pid in worker.pids},
                {pid for worker in self._given for pid in worker.pids[:1]} - in_use,
                set(self._kept),
                warm=self._ready.is_set(),
                idle=all(now - each.ended_at > 2 * _WARM_LOOK_SECONDS for each in self._given),
            )
            self.overran = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
            if not self.overran:
                await anyio.sleep(_WARM_LOOK_SECONDS if self._ready.is_set() else _WARMING_LOOK_SECONDS)
        self._failure = f"what it imports ahead used more than {self.overran}"
        life.cancel()

    async def _receive(self) -> "tuple[_Event, int] | None":
        """The next event with the PID that came as its credentials, or None when the zygote has gone."""
        while True:
            try:
                data, ancillary, _, _ = self._control.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                await anyio.wait_readable(self._control)
                continue
            except ConnectionResetError:
                return None
            pids = [_CREDENTIALS.unpack(value)[0] for _, kind, value in ancillary if kind == socket.SCM_CREDENTIALS]
            try:
                return _Event.model_validate_json(data), pids[0] if pids else 0
            except ValidationError:
                return None  # at the end there is no data; anything else comes from a package that took the zygote over

    def _note(self, event: "_Event", pid: int) -> None:
        worker = self._workers.get(event.id)
        if event.event == "confined" and not self._pid:
            self._pid = pid
            self._confined.set()
        elif event.event == "ready":
            self._ready.set()
        elif event.event == "failed" and worker is None:
            self._failure, self.unfit = event.reason, event.module
            self._ready.set()
        elif worker is None:
            return
        elif event.event in ("init", "forked"):
            worker.pids.append(pid)
            if event.event == "forked" or not self._engine.confinement.namespaces:  # a supervisor's worker is not told
                worker.forked.set()
        elif event.event == "exited":
            worker.exit = Exit(event.status, event.cpu, event.peak)
            if worker.is_alone():
                worker.end()  # what is left is the run's first process, and that is ours
        else:
            del self._workers[worker.id]
            self._lose(worker, event.reason)
            self._end_when_idle()

    def _lose_workers(self) -> None:
        self.alive = False
        for worker in self._workers.values():
            reason = f"its interpreter was ended, for {self._failure}" if self.overran else "its interpreter died"
            self._lose(worker, reason)
        self._workers.clear()
        self._drop_spares()

    def _lose(self, worker: Worker, reason: str) -> None:
        worker.failure = reason
        worker.forked.set()
        worker.end()
        if worker.leaf is not None:
            self._engine.cgroups.remove(worker.leaf)

    def _drop_spares(self) -> None:
        """Their directories are left to `sweep`: here a package that fills them would hold the server up."""
        while self._spares:
            self._drop(self._spares.popleft())

    def _drop(self, spare: Worker) -> None:
        spare.close()
        self._kept.discard(spare.id)

    async def worker(self) -> Worker:
        """A worker for one execution: the spare one, or a new fork.

        Raises:
            EngineError: the zygote has died.
        """
        self.used = time.monotonic()
        while self._spares:
            spare = self._spares.popleft()
            if not spare.ended.is_set():
                return self._give(spare)
            self._drop(spare)
        return self._give(await self._fork())

    def _give(self, worker: Worker) -> Worker:
        if self.ahead:  # then there is a watch, which forgets it
            self._given.append(worker)
        return worker

    async def refill(self) -> None:
        """Forks spares ahead of the next executions, where there are too few."""
        async with self._refilling:
            while len(self._spares) < SPARES and self.alive and not self._retired:
                self._spares.append(await self._fork())
                if not self.alive:  # it died, or was retired, while this one was put into its cgroup
                    self._drop_spares()
                self._end_when_idle()

    async def _fork(self) -> Worker:
        worker = Worker(secrets.token_hex(8), self.directory)
        self._workers[worker.id] = worker
        self._kept.add(worker.id)
        try:
            worker.open()
            self._due += _EVENTS_OF_A_RUN
            await self._send(self._engine.order(self._surroundings, worker), worker)
            if self._engine.cgroups.delegated:
                await self._put_in_leaf(worker)
        except BaseException as error:
            self._workers.pop(worker.id, None)
            self._kept.discard(worker.id)
            worker.close()
            if isinstance(error, OSError):
                self.alive = self.alive and not isinstance(error, BrokenPipeError)
                raise EngineError(f"no worker could be forked: {error.strerror}") from error
            raise
        return worker

    async def _put_in_leaf(self, worker: Worker) -> None:
        with anyio.move_on_after(_END_SECONDS):  # without one the watch holds it
            await worker.forked.wait()
            pids = worker.pids[-1:]  # the first process serves other runs too
            leaf = partial(self._engine.cgroups.leaf, worker.id, pids, self._engine.limits)
            worker.leaf = await anyio.to_thread.run_sync(leaf)

    async def kill(self, worker: Worker) -> None:
        """Ends the worker's whole run; when the zygote does not, it ends itself and all its runs with it."""
        if worker.ended.is_set():
            return
        if worker.leaf is not None:
            worker.leaf.kill()
        with suppress(OSError):
            await self._send({"op": "kill", "id": worker.id})
        with anyio.move_on_after(_END_SECONDS):
            await worker.ended.wait()
        if not worker.ended.is_set():
            self._control.shutdown(socket.SHUT_RDWR)
            self._lose_workers()
            with anyio.move_on_after(_GONE_SECONDS):
                await self._gone.wait()
                while worker.is_there():  # noqa: ASYNC110 - a process of somebody else's tells nobody
                    await anyio.sleep(_POLL_SECONDS)

    async def _send(self, order: dict[str, Any], worker: Worker | None = None) -> None:
        data = json.dumps(order).encode()
        while True:
            try:
                socket.send_fds(self._control, [data], worker.theirs if worker else [])
            except BlockingIOError:
                await anyio.wait_writable(self._control)
                continue
            if worker:
                worker.handed_over()
            return

    @property
    def is_idle(self) -> bool:
        """Whether no program runs in it."""
        return len(self._workers) == sum(not spare.ended.is_set() for spare in self._spares)

    @property
    def gone(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._gone.is_set()

    def forget(self, name: str) -> None:
        """The directory `name` of one of its runs has been removed."""
        self._kept.discard(name)

    def sweep(self) -> bool:
        """Removes what it left, and its directory after the last of its runs'; gives whether that is no more."""
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path.name not in self._kept:
                    remove(path)
            self.directory.rmdir()
        return not self.directory.exists()

    def retire(self) -> None:
        """Ends the zygote as soon as no program runs in it, one that is still starting at once."""
        self._retired = True
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self._retired and self.is_idle:
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
