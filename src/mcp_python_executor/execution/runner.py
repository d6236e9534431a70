"""One execution, from admission to result: its turn, its run, what of it is told and what is kept."""

import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import structlog

from mcp_python_executor.errors import Busy, EngineError
from mcp_python_executor.execution import artifacts, hints, stacks
from mcp_python_executor.execution.artifacts import Found
from mcp_python_executor.execution.conduct import Conduct
from mcp_python_executor.execution.metrics import Metrics
from mcp_python_executor.execution.model import (
    ExecutionRequest,
    ExecutionResult,
    OutputListener,
    ProgramError,
    Status,
)
from mcp_python_executor.execution.records import Record, Records
from mcp_python_executor.execution.report import ReportedError
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import KILLED, Worker
from mcp_python_executor.execution.zygotes import Zygotes
from mcp_python_executor.process.disk import Disk
from mcp_python_executor.process.folders import prune, remove

log = structlog.get_logger()

# The answer leaves before its run's directory is removed.
_REMOVE_SECONDS = 0.05
_EXPIRE_SECONDS = 600
# A program may name a file on a disk that never answers, and others may after it.
_LOOK_FOR_FILE_SECONDS = 1
_MOST_LOOKING = 2


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
        self._looking = threading.Semaphore(_MOST_LOOKING)
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
            conduct = Conduct(self._zygotes.engine, zygote, worker, surroundings, self._disks)
            with self._discarding_lost(worker):
                await conduct.run(request, listener)
        if conduct.failure:
            self._zygotes.distrust(zygote)
        with self._discarding_lost(worker):
            result = await self._result(request, conduct, queued)
        self.metrics.record(result)
        self._zygotes.learn(surroundings, conduct.report.modules)
        return result

    @contextmanager
    def _discarding_lost(self, worker: Worker) -> Generator[None]:
        """Of a run without a result nothing is kept."""
        try:
            yield
        except BaseException as error:
            self.metrics.totals[Status.CANCELLED] += isinstance(error, anyio.get_cancelled_exc_class())
            self._discard(worker.leftovers)
            raise

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

    async def _result(self, request: ExecutionRequest, conduct: Conduct, queued: float) -> ExecutionResult:
        worker = conduct.worker
        exit_ = worker.exit
        if exit_ is None and conduct.limit is not None:
            exit_ = KILLED  # its zygote had to be ended to end it
        if conduct.failure or exit_ is None:
            raise conduct.failure or EngineError(f"the program was lost: {worker.failure}; run it again")
        error = await self._error(request, conduct)
        found = await self._find_files(conduct)
        await anyio.lowlevel.checkpoint_if_cancelled()  # the look itself goes to its end
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

    async def _error(self, request: ExecutionRequest, conduct: Conduct) -> ProgramError | None:
        told = conduct.report.error
        if told is None:
            return await anyio.to_thread.run_sync(_stopped, request, conduct) if conduct.report.stack else None
        hint = hints.hint(told, request.venv_name, network=conduct.network, script=request.script)
        if not hint and conduct.strict and hints.may_be_hidden(told, conduct.visible):
            with anyio.move_on_after(_LOOK_FOR_FILE_SECONDS):
                hint = await anyio.to_thread.run_sync(self._of_hidden_path, told, abandon_on_cancel=True)
        return ProgramError(told.type, told.message, told.traceback, told.line, hint)

    def _of_hidden_path(self, told: ReportedError) -> str:
        """In a thread: one that nobody waits for any more still counts."""
        if not self._looking.acquire(blocking=False):
            return ""
        try:
            return hints.of_hidden_path(told)
        finally:
            self._looking.release()

    @staticmethod
    async def _find_files(conduct: Conduct) -> Found:
        if not any(artifacts.may_hold_files(root) for root in conduct.roots.values()):
            return Found()
        worker = conduct.worker
        look = partial(artifacts.find, conduct.roots, worker.directory, worker.id, conduct.began_ns, worker.program)
        return await anyio.to_thread.run_sync(look)

    def _keep(self, conduct: Conduct, found: Found) -> None:
        """Keeps outputs and files to be read later, and lets go of what is too much, or of no use."""
        worker, streams = conduct.worker, {"stdout": conduct.stdout.whole, "stderr": conduct.stderr.whole}
        spools = [whole for whole in streams.values() if isinstance(whole, Path)]
        own = [file for file in found.artifacts if file.path.is_relative_to(worker.directory)]
        kept = [worker.directory, *spools] if own else spools
        size = conduct.stdout.total + conduct.stderr.total
        size += sum(file.size for file in own)
        record = Record(worker.directory, streams, found.files, kept, size)
        if own:
            listed = {str(file.path.relative_to(worker.directory)) for file in own}
            self._tasks.start_soon(self._clear, [worker.directory], partial(prune, kept=listed))
        self._discard([path for path in worker.leftovers if path not in kept])
        self._discard(self.records.keep(worker.id, record))

    async def expire(self) -> None:
        """Removes what was kept for a day, when nobody runs anything any more. Never returns."""
        while True:
            await anyio.sleep(_EXPIRE_SECONDS)
            self._discard(self.records.expire())

    def _discard(self, paths: list[Path]) -> None:
        if paths:
            self._tasks.start_soon(self._clear, paths, remove)

    async def _clear(self, paths: list[Path], act: Callable[[Path], None]) -> None:
        await anyio.sleep(_REMOVE_SECONDS)
        async with self._removing:  # what is pruned may be dropped meanwhile
            gone = await anyio.to_thread.run_sync(_cleared, paths, act)
        for path in gone:
            await self._zygotes.removed(path)


def _cleared(paths: list[Path], act: Callable[[Path], None]) -> list[Path]:
    """Does `act` with each of `paths`, in one thread, for waking that is what takes time; gives those that are gone."""
    for path in paths:
        try:
            act(path)
        except OSError as error:  # the next start sweeps it
            log.warning("run_not_removed", path=str(path), reason=str(error))
    return [path for path in paths if not path.exists()]


def _status(conduct: Conduct, error: ProgramError | None) -> Status:
    if conduct.limit is not None:
        by_limit = {"time": Status.TIMEOUT, "memory": Status.MEMORY_EXCEEDED}
        return by_limit.get(conduct.limit.name, Status.KILLED)
    if conduct.worker.exit is None or conduct.worker.exit.signal:
        return Status.KILLED
    return Status.ERROR if error or conduct.worker.exit.code else Status.OK


def _stopped(request: ExecutionRequest, conduct: Conduct) -> ProgramError | None:
    """Where the program was when it was stopped, as far as its worker could tell."""
    program, code = request.script or conduct.worker.program, request.code
    if request.script:
        with suppress(OSError):
            code = request.script.read_text(errors="replace")
    return stacks.as_error(conduct.report.stack, program, code.splitlines(), conduct.libraries)
