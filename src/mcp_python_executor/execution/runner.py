"""One execution, from admission to result: its turn, its deadline, its limits, its end however it comes."""

import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from mcp_python_executor.errors import Busy, EngineError
from mcp_python_executor.execution import artifacts, buffers, hints, refusals, stacks
from mcp_python_executor.execution.artifacts import Found
from mcp_python_executor.execution.metrics import Metrics
from mcp_python_executor.execution.model import (
    ExecutionRequest,
    ExecutionResult,
    OutputListener,
    ProgramError,
    Status,
)
from mcp_python_executor.execution.outputs import Output
from mcp_python_executor.execution.records import Record, Records
from mcp_python_executor.execution.report import Report
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import KILLED, Worker
from mcp_python_executor.execution.zygote import Engine, Zygote
from mcp_python_executor.execution.zygotes import Zygotes
from mcp_python_executor.limits import LimitHit
from mcp_python_executor.process.disk import Disk
from mcp_python_executor.process.folders import prune, remove
from mcp_python_executor.process.usage import Tree

log = structlog.get_logger()

# Often enough that a tree at full speed overshoots little; a look costs 0.4 ms a process.
LOOK_SECONDS = 0.05
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - as the run sees them, each its own
# The answer leaves before its run's directory is removed.
_REMOVE_SECONDS = 0.05
_EXPIRE_SECONDS = 600
# A disk with less free has refused a program's write, whatever else had room.
_FULL_DISK_BYTES = 1024 * 1024
_LIMITS_OF_TIME = ("time", "cpu")
# A program at work tells where it is within a millisecond; one that can't does not hold up its end.
_TELL_SECONDS = 0.05
# A program may name a file on a disk that never answers.
_LOOK_FOR_FILE_SECONDS = 1
# After a run's last process is gone its pipes end at once; more means that something else holds them.
_DRAIN_SECONDS = 2


class _Conduct:
    """One run under way: what its outputs and its report say so far, and which bound ended it."""

    def __init__(
        self,
        engine: Engine,
        zygote: Zygote,
        worker: Worker,
        surroundings: Surroundings,
        disks: set[Disk],
    ) -> None:
        limits = engine.limits
        self.zygote, self.worker, self.limits = zygote, worker, limits
        self.strict = engine.confinement.strict
        self.network = surroundings.policy.network or not self.strict
        self.libraries = (surroundings.interpreter.prefix, surroundings.interpreter.base_prefix / "lib")
        self.roots = {"work": worker.work, "output": surroundings.output or worker.output}
        self.visible = (*self.roots.values(), *surroundings.policy.read, *surroundings.policy.write)
        self.began_ns = time.time_ns()
        self.began = time.perf_counter()
        inline, kept = limits.inline_output_bytes, limits.kept_output_bytes
        self.stdout = Output(worker.stdout, worker.spools["stdout"], inline=inline, kept=kept)
        self.stderr = Output(worker.stderr, worker.spools["stderr"], inline=inline, kept=kept)
        worker.stdout = worker.stderr = -1  # each output closes its own
        self._temporary = _TEMPORARY if engine.confinement.namespaces else ()
        self.report = Report()
        self.failure: EngineError | None = None
        self.limit: LimitHit | None = None
        # As far as the watch saw: a short run has ended before it looks.
        self.cpu_seconds = 0.0
        self.peak_memory_bytes = 0
        self._tree = Tree(worker.pids, self._temporary, limits)
        self._disk, self._disks = Disk(worker.places, surroundings.output, self._tree, limits, disks), disks
        self._stop = anyio.Event()

    def stop(self, limit: LimitHit) -> None:
        """Ends the run because it hit `limit`; the first one counts."""
        if self.limit is None:
            self.limit = limit
            self._stop.set()

    async def run(self, request: ExecutionRequest, listener: OutputListener | None) -> None:
        """Runs the program to its end, or to the first bound it hits. When cancelled, the run is gone on return."""
        message = {"code": request.code, "script": str(request.script or ""), "args": request.args}
        self.worker.begin(message)  # first: the program runs while we get ready to listen
        async with anyio.create_task_group() as tasks:
            for name, output in (("stdout", self.stdout), ("stderr", self.stderr)):
                heard = partial(listener, name) if listener else None
                tasks.start_soon(output.read, heard, self._too_much_output)
            tasks.start_soon(self.worker.feed, request.stdin)
            tasks.start_soon(self._read_report)
            tasks.start_soon(self._watch, request, tasks)
            try:
                await self.worker.ended.wait()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self.zygote.kill(self.worker)
                raise
            finally:
                self._disks.discard(self._disk)
            self._stop.set()
            self._ask_leaf()
            tasks.cancel_scope.deadline = anyio.current_time() + _DRAIN_SECONDS

    def _ask_leaf(self) -> None:
        """Of a run that is over: what its cgroup, if it had one, says that the watch could not see."""
        leaf = self.worker.leaf
        if leaf is None:
            return
        leaf.look()
        self.peak_memory_bytes = max(self.peak_memory_bytes, leaf.peak_memory_bytes)
        if leaf.memory_exceeded:
            self.stop(self.limits.hit("memory"))

    async def _read_report(self) -> None:
        try:
            self.report = await self.worker.report()
        except EngineError as error:
            self.failure = error

    async def _watch(self, request: ExecutionRequest, tasks: anyio.abc.TaskGroup) -> None:
        """Ends the run at its deadline, or at the first bound that it is seen to hit."""
        seconds = min(self.limits.wall_seconds, request.timeout_seconds or self.limits.wall_seconds)
        setting = "timeoutMs" if seconds < self.limits.wall_seconds else "EXECUTION_TIMEOUT_MS"
        cpu = LimitHit("cpu", round(seconds * self.limits.busy_cores * 1000), setting)
        deadline = anyio.current_time() + seconds
        if not await self._stops_within(min(seconds, LOOK_SECONDS)):
            self._disks.add(self._disk)
            # Each on its own: while a run forks without end, the kernel lets nobody see its memory for seconds.
            for look in (partial(self._look_at_activity, cpu), self._look_at_memory):
                tasks.start_soon(self._keep_looking, look)
            for look in (self._look_at_disk, self._look_at_buffers):
                tasks.start_soon(self._keep_looking, look, 1)
        if not await self._stops_within(deadline - anyio.current_time()):
            self.stop(LimitHit("time", round(seconds * 1000), setting))
        if self.limit is not None and self.limit.name in _LIMITS_OF_TIME:
            self.worker.tell_stack()
            await anyio.sleep(_TELL_SECONDS)
        await self.zygote.kill(self.worker)

    async def _stops_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._stop.wait()
        return self._stop.is_set()

    async def _keep_looking(self, look: Callable[[], LimitHit | None], rest: float = 0) -> None:
        """Looks every 50 ms, and rests at least for `rest` of the time that a look took."""
        while True:
            began = time.perf_counter()
            exceeded = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
            if exceeded is not None:
                self.stop(exceeded)
            if await self._stops_within(max(LOOK_SECONDS, rest * (time.perf_counter() - began))):
                return

    def _look_at_activity(self, cpu: LimitHit) -> LimitHit | None:
        if self._was_refused_processes():  # where many run at once, looking at each of them takes long
            return self.limits.hit("processes")
        tasks, self.cpu_seconds = self._tree.activity()
        if tasks > self.limits.processes:
            return self.limits.hit("processes")
        return cpu if self.cpu_seconds * 1000 > cpu.value else None

    def _was_refused_processes(self) -> bool:
        return self.worker.leaf is not None and self.worker.leaf.refused_processes()

    def _look_at_memory(self) -> LimitHit | None:
        memory_bytes = self._tree.memory()
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)
        return self.limits.hit("memory") if memory_bytes > self.limits.memory_bytes else None

    def _look_at_disk(self) -> LimitHit | None:
        name = self._disk.exceeds()
        return self.limits.hit(name) if name else None

    def _look_at_buffers(self) -> LimitHit | None:
        is_exceeded = buffers.held(self._tree.processes(), self.limits.buffers) > self.limits.buffers
        return self.limits.hit("buffers") if is_exceeded else None

    def refused_by(self, signal: str) -> LimitHit | None:
        """The bound of ours that the program's own failure tells of; `signal` is what ended it."""
        name = refusals.bound(self.report.error, signal)
        is_ours = {
            "processes": self.strict or self._was_refused_processes(),
            "temporary": bool(self._temporary) and not any(map(_is_full, self.roots.values())),
        }
        return self.limits.hit(name) if name and is_ours.get(name, True) else None

    def _too_much_output(self) -> None:
        self.stop(self.limits.hit("output"))


class _Waiting:
    """A call that waits for its turn, and hears of its place."""

    def __init__(self, listener: OutputListener | None) -> None:
        self._listener = listener

    def tell(self, running: int, before: int) -> None:
        """So many executions are running, and so many wait before this one."""
        if self._listener:
            self._listener("queue", f"{running} executions are running and {before} wait before this one\n")


class Runner:
    """Runs programs, so many at once, the others in order of arrival."""

    def __init__(self, zygotes: Zygotes, tasks: anyio.abc.TaskGroup) -> None:
        self._zygotes, self._tasks = zygotes, tasks
        self._limits = zygotes.engine.limits
        self._turns = anyio.CapacityLimiter(self._limits.concurrent)
        # Of the runs that are looked at.
        self._disks: set[Disk] = set()
        self._waiting: list[_Waiting] = []
        self._removing = anyio.Lock()
        self.records = Records()
        self.metrics = Metrics()

    @property
    def running(self) -> int:
        """How many executions are under way."""
        return self._turns.borrowed_tokens

    @property
    def queued(self) -> int:
        """How many wait for their turn."""
        return self._turns.statistics().tasks_waiting

    async def execute(
        self, request: ExecutionRequest, surroundings: Surroundings, listener: OutputListener | None = None
    ) -> ExecutionResult:
        """Runs `request` and gives what came of it; when cancelled, nothing of the run is left.

        Raises:
            Busy: too many executions wait already.
            EngineError: no worker could run it, or its interpreter died.
        """
        arrived = time.perf_counter()
        code = None if request.script else request.code
        async with self._turn(listener), self._zygotes.worker(surroundings, code) as (zygote, worker):
            queued = time.perf_counter() - arrived
            conduct = _Conduct(self._zygotes.engine, zygote, worker, surroundings, self._disks)
            try:
                await conduct.run(request, listener)
            except BaseException:
                self.metrics.totals[Status.CANCELLED] += 1
                self._discard(worker.leftovers)
                raise
        result = await self._result(request, conduct, queued)
        self.metrics.record(result)
        self._zygotes.learn(surroundings, conduct.report.modules)
        return result

    @asynccontextmanager
    async def _turn(self, listener: OutputListener | None) -> AsyncGenerator[None]:
        if self.queued >= self._limits.queued:
            raise Busy(
                f"{self.queued} executions wait already, which is the limit; call again when some have ended, or let "
                f"more run at once than MAX_CONCURRENT_EXECUTIONS={self._limits.concurrent}"
            )
        waiting = _Waiting(listener)
        self._waiting.append(waiting)
        try:
            if self.running >= self._limits.concurrent:
                waiting.tell(self.running, len(self._waiting) - 1)
            await self._turns.acquire_on_behalf_of(waiting)
        finally:
            place = self._waiting.index(waiting)
            del self._waiting[place]
            for before, other in enumerate(self._waiting[place:], place):
                other.tell(self.running, before)
        try:
            yield
        finally:
            self._turns.release_on_behalf_of(waiting)

    async def _result(self, request: ExecutionRequest, conduct: _Conduct, queued: float) -> ExecutionResult:
        worker = conduct.worker
        exit_ = worker.exit
        if exit_ is None and conduct.limit is not None:
            exit_ = KILLED  # its zygote had to be ended to end it
        if conduct.failure or exit_ is None:
            self._discard(worker.leftovers)
            raise conduct.failure or EngineError(f"the program was lost: {worker.failure}; run it again")
        error = await self._error(request, conduct)
        found = await self._find_files(conduct)
        self._keep(conduct, found)
        drawn = conduct.report.images
        return ExecutionResult(
            execution_id=worker.id,
            venv_name=request.venv_name,
            status=_status(conduct, error),
            stdout=conduct.stdout.text,
            stderr=conduct.stderr.text,
            stdout_truncated=conduct.stdout.truncated,
            stderr_truncated=conduct.stderr.truncated,
            exit_code=exit_.code,
            signal=exit_.signal,
            error=error,
            result=conduct.report.result,
            files=found.artifacts,
            skipped=found.skipped,
            pictures=[*drawn, *(picture for picture in found.pictures if picture not in drawn)],
            pictures_left_out=conduct.report.pictures_left_out,
            limit=conduct.limit or conduct.refused_by(exit_.signal),
            isolation="strict" if self._zygotes.engine.confinement.strict else "none",
            duration_seconds=time.perf_counter() - conduct.began,
            cpu_seconds=max(exit_.cpu_seconds, conduct.cpu_seconds),
            peak_memory_bytes=max(exit_.peak_memory_bytes, conduct.peak_memory_bytes),
            queued_seconds=queued,
        )

    async def _error(self, request: ExecutionRequest, conduct: _Conduct) -> ProgramError | None:
        told = conduct.report.error
        if told is None:
            return await anyio.to_thread.run_sync(_stopped, request, conduct) if conduct.report.stack else None
        hint = hints.hint(told, request.venv_name, network=conduct.network, script=request.script)
        if not hint and conduct.strict and hints.may_be_hidden(told, conduct.visible):
            with anyio.move_on_after(_LOOK_FOR_FILE_SECONDS):
                hint = await anyio.to_thread.run_sync(hints.of_hidden_path, told, abandon_on_cancel=True)
        return ProgramError(told.type, told.message, told.traceback, told.line, hint)

    @staticmethod
    async def _find_files(conduct: _Conduct) -> Found:
        if not any(artifacts.may_hold_files(root) for root in conduct.roots.values()):
            return Found()
        worker = conduct.worker
        look = partial(artifacts.find, conduct.roots, worker.directory, worker.id, conduct.began_ns, worker.program)
        return await anyio.to_thread.run_sync(look)

    def _keep(self, conduct: _Conduct, found: Found) -> None:
        """Keeps outputs and files to be read later, and lets go of what is too much, or of no use."""
        worker, streams = conduct.worker, {"stdout": conduct.stdout.whole, "stderr": conduct.stderr.whole}
        spools = [whole for whole in streams.values() if isinstance(whole, Path)]
        own = [file.path for file in found.artifacts if file.path.is_relative_to(worker.directory)]
        kept = [worker.directory, *spools] if own else spools
        size = conduct.stdout.total + conduct.stderr.total
        size += sum(file.size for file in found.artifacts if file.path in own)
        record = Record(worker.directory, streams, found.files, kept, size)
        if own:
            listed = {str(path.relative_to(worker.directory)) for path in own}
            self._tasks.start_soon(self._remove, [worker.directory], partial(prune, kept=listed))
        self._discard([path for path in worker.leftovers if path not in kept])
        self._discard(self.records.keep(worker.id, record))

    async def expire(self) -> None:
        """Removes what was kept for a day, when nobody runs anything any more. Never returns."""
        while True:
            await anyio.sleep(_EXPIRE_SECONDS)
            self._discard(self.records.expire())

    def _discard(self, paths: list[Path]) -> None:
        if paths:
            self._tasks.start_soon(self._remove, paths, remove)

    async def _remove(self, paths: list[Path], remove: Callable[[Path], None]) -> None:
        await anyio.sleep(_REMOVE_SECONDS)
        for path in paths:
            try:
                async with self._removing:  # what is pruned may be dropped meanwhile
                    await anyio.to_thread.run_sync(remove, path)
                if not path.exists():
                    await self._zygotes.removed(path)
            except OSError as error:  # the next start sweeps it
                log.warning("run_not_removed", path=str(path), reason=str(error))


def _status(conduct: _Conduct, error: ProgramError | None) -> Status:
    if conduct.limit is not None:
        by_limit = {"time": Status.TIMEOUT, "memory": Status.MEMORY_EXCEEDED}
        return by_limit.get(conduct.limit.name, Status.KILLED)
    if conduct.worker.exit is None or conduct.worker.exit.signal:
        return Status.KILLED
    return Status.ERROR if error or conduct.worker.exit.code else Status.OK


def _stopped(request: ExecutionRequest, conduct: _Conduct) -> ProgramError | None:
    """Where the program was when it was stopped, as far as its worker could tell."""
    program, code = request.script or conduct.worker.program, request.code
    if request.script:
        with suppress(OSError):
            code = request.script.read_text(errors="replace")
    return stacks.as_error(conduct.report.stack, program, code.splitlines(), conduct.libraries)


def _is_full(directory: Path) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _FULL_DISK_BYTES
