"""One run under way: what it says, and the watch that ends it at its deadline or at the first bound that it hits."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import refusals
from mcp_python_executor.execution.engine import Engine
from mcp_python_executor.execution.model import ExecutionRequest, OutputListener
from mcp_python_executor.execution.outputs import Output
from mcp_python_executor.execution.report import Report
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import Exit, Worker
from mcp_python_executor.execution.zygote import Zygote
from mcp_python_executor.limits import LimitHit
from mcp_python_executor.process import buffers
from mcp_python_executor.process.disk import Disk
from mcp_python_executor.process.usage import Tree

# Often enough that a tree at full speed overshoots little. Of the four looks those at activity and memory cost some
# 0.4 ms a process, those at disk and buffers more with each file and descriptor, and they rest for as long.
LOOK_SECONDS = 0.05
# A disk with less free has refused a program's write, whatever else had room.
_FULL_DISK_BYTES = 1024 * 1024
_CORES = os.cpu_count() or 1
_LIMITS_OF_TIME = ("time", "cpu")
# A program at work tells where it is within a millisecond; one that can't does not hold up its end.
_TELL_SECONDS = 0.05
# A program that takes longer is followed: its output told, its limits watched. Until then a pipe holds what it prints.
_AT_ONCE_SECONDS = 0.005
# After a run's last process is gone its pipes end at once; more means that something else holds them.
_DRAIN_SECONDS = 2


class Conduct:
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
        self.roots = {"work": worker.work, "output": surroundings.output or worker.output}
        self._surroundings = surroundings
        self.began_ns = time.time_ns()
        self.began = time.perf_counter()
        inline, kept = limits.inline_output_bytes, limits.kept_output_bytes
        self.stdout = Output(worker.stdout, worker.spools["stdout"], inline=inline, kept=kept)
        self.stderr = Output(worker.stderr, worker.spools["stderr"], inline=inline, kept=kept)
        self._outputs = {"stdout": self.stdout, "stderr": self.stderr}
        worker.stdout = worker.stderr = -1  # each output closes its own
        self._has_temporary = engine.confinement.namespaces
        self.report = Report()
        self.failure: EngineError | None = None
        self.limit: LimitHit | None = None
        # As far as the watch saw: a short run has ended before it looks.
        self.cpu_seconds = 0.0
        self.peak_memory_bytes = 0
        self._tree = Tree(worker.pids, limits)
        self._disk, self._disks = Disk(worker.places, surroundings.output, self._tree, limits, disks), disks
        self._stop = anyio.Event()
        # Whether all that the program had to say is here, though its streams have not ended.
        self._complete = False

    @property
    def libraries(self) -> tuple[Path, ...]:
        """Where code lies that is not the user's."""
        interpreter = self._surroundings.interpreter
        return interpreter.prefix, interpreter.base_prefix / "lib"

    @property
    def visible(self) -> tuple[Path, ...]:
        """What the program sees beside the system's own."""
        policy = self._surroundings.policy
        return (*self.roots.values(), *policy.read, *policy.write)

    def stop(self, limit: LimitHit) -> None:
        """Ends the run because it hit `limit`; the first one counts."""
        if self.limit is None:
            self.limit = limit
            self._stop.set()

    async def run(self, request: ExecutionRequest, listener: OutputListener | None) -> None:
        """Runs the program to its end, or to the first bound it hits. When cancelled, the run is gone on return."""
        message = {"code": request.code, "script": str(request.script or ""), "args": request.args}
        self.worker.begin(message, request.stdin)  # first: the program runs while we get ready to listen
        for name, output in self._outputs.items():
            output.tell(partial(listener, name) if listener else None, self._too_much_output)
        try:
            if not await self._is_over_at_once():
                await self._follow(request)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self.zygote.kill(self.worker)
            raise
        finally:
            for output in self._outputs.values():
                output.end()
        self._ask_leaf()

    async def _is_over_at_once(self) -> bool:
        """Whether the program ends so soon, as most do, that nothing needs to be followed while it runs."""
        with anyio.move_on_after(_AT_ONCE_SECONDS):
            await self._read_report()
        return self._complete

    async def _follow(self, request: ExecutionRequest) -> None:
        async with anyio.create_task_group() as tasks:
            for output in self._outputs.values():
                tasks.start_soon(output.read)
            tasks.start_soon(self.worker.feed)
            tasks.start_soon(self._read_report)
            tasks.start_soon(self._watch, request)
            try:
                await self.worker.ended.wait()
            finally:
                self._disks.discard(self._disk)
            self._stop.set()
            tasks.cancel_scope.deadline = anyio.current_time() + (0 if self._complete else _DRAIN_SECONDS)

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
            return
        told, seconds = self.report, time.perf_counter() - self.began
        if told.status is not None:
            cpu = min(told.cpu, seconds * _CORES)
            exit_ = Exit(told.status << 8, cpu, min(told.peak, self.limits.memory_bytes))
            self._complete = await self.worker.part(exit_)

    async def _watch(self, request: ExecutionRequest) -> None:
        """Ends the run at its deadline, or at the first bound that it is seen to hit."""
        seconds = min(self.limits.wall_seconds, request.timeout_seconds or self.limits.wall_seconds)
        setting = "timeoutMs" if seconds < self.limits.wall_seconds else "EXECUTION_TIMEOUT_MS"
        cpu = LimitHit("cpu", round(seconds * self.limits.busy_cores * 1000), setting)
        deadline = anyio.current_time() + seconds - (time.perf_counter() - self.began)
        async with anyio.create_task_group() as looks:
            if not await self._stops_within(min(seconds, LOOK_SECONDS)):
                self._disks.add(self._disk)
                # Each on its own: while a run forks without end, the kernel lets nobody see its memory for seconds.
                for look in (partial(self._look_at_activity, cpu), self._look_at_memory):
                    looks.start_soon(self._keep_looking, look)
                for look in (self._look_at_disk, self._look_at_buffers):
                    looks.start_soon(self._keep_looking, look, 1)
            if not await self._stops_within(deadline - anyio.current_time()):
                self.stop(LimitHit("time", round(seconds * 1000), setting))
            looks.cancel_scope.cancel()  # the answer waits for none
        if self.limit is not None and self.limit.name in _LIMITS_OF_TIME:
            self.worker.tell_stack()
            await anyio.sleep(_TELL_SECONDS)
        await self.zygote.kill(self.worker)

    async def _stops_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._stop.wait()
        return self._stop.is_set()

    async def _keep_looking(self, look: Callable[[], LimitHit | None], rest: float = 0) -> None:
        """Looks every 50 ms, and rests at least for `rest` of the time that a look took. Never returns."""
        while True:
            began = time.perf_counter()
            exceeded = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
            if exceeded is not None and not self.worker.ended.is_set():  # of a run that is over it ends nothing
                self.stop(exceeded)
            await anyio.sleep(max(LOOK_SECONDS, rest * (time.perf_counter() - began)))

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
        is_ours = bool(name)
        if name == "processes":
            is_ours = self.strict or self._was_refused_processes()
        elif name == "temporary":
            is_ours = self._has_temporary and not any(map(_is_full, self.roots.values()))
        return self.limits.hit(name) if is_ours else None

    def _too_much_output(self) -> None:
        self.stop(self.limits.hit("output"))


def _is_full(directory: Path) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _FULL_DISK_BYTES
