"""All warm interpreters of a server: one for each environment and policy, re-warmed as programs show what they use."""

from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import structlog

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import preload
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import Worker
from mcp_python_executor.execution.zygote import Engine, Zygote

log = structlog.get_logger()

# Each is an interpreter with what it preloaded, some 10 to 100 MB, most of it shared with its workers.
_MOST_ZYGOTES = 8


class Zygotes:
    """Finds, starts and replaces zygotes. Make it with `open_zygotes`."""

    def __init__(self, engine: Engine, tasks: anyio.abc.TaskGroup) -> None:
        self.engine = engine
        self._tasks = tasks
        self._zygotes: OrderedDict[Surroundings, Zygote] = OrderedDict()
        self._starting: defaultdict[Surroundings, anyio.Lock] = defaultdict(anyio.Lock)
        self._learned: defaultdict[str, frozenset[str]] = defaultdict(frozenset)

    @asynccontextmanager
    async def worker(self, surroundings: Surroundings) -> AsyncGenerator[tuple[Zygote, Worker]]:
        """A worker for one execution, and the zygote that ends it; afterwards the next spare is forked.

        Raises:
            EngineError: no interpreter could be started.
        """
        zygote, worker = await self._fork(surroundings)
        try:
            yield zygote, worker
        finally:
            worker.close()
            self._tasks.start_soon(self._refill, zygote)

    async def _fork(self, surroundings: Surroundings) -> tuple[Zygote, Worker]:
        zygote = await self.zygote(surroundings)
        try:
            return zygote, await zygote.worker()
        except EngineError:
            if zygote.alive:
                raise
        zygote = await self.zygote(surroundings)  # it had died since; nothing of the program has run yet
        return zygote, await zygote.worker()

    async def zygote(self, surroundings: Surroundings) -> Zygote:
        """The warm interpreter for `surroundings`, started when there is none."""
        async with self._starting[surroundings]:
            zygote = self._zygotes.get(surroundings)
            if zygote is None or not zygote.alive:
                zygote = await self._start(surroundings, self._learned[surroundings.interpreter.generation])
            self._zygotes[surroundings] = zygote
            self._zygotes.move_to_end(surroundings)
        while len(self._zygotes) > _MOST_ZYGOTES:
            gone, oldest = self._zygotes.popitem(last=False)
            self._starting.pop(gone, None)
            oldest.retire()
        return zygote

    async def _start(self, surroundings: Surroundings, modules: Iterable[str]) -> Zygote:
        zygote = Zygote(self.engine, surroundings, modules)
        started = anyio.Event()
        failures: list[EngineError] = []
        self._tasks.start_soon(self._live, zygote, started, failures)
        await started.wait()
        if failures:
            raise failures[0]
        return zygote

    async def _live(self, zygote: Zygote, started: anyio.Event, failures: list[EngineError]) -> None:
        try:
            await zygote.run(started)
        except EngineError as error:
            log.warning("zygote_failed", reason=str(error))
            failures.append(error)
        finally:
            started.set()

    async def _refill(self, zygote: Zygote) -> None:
        try:
            await zygote.refill()
        except EngineError as error:
            log.warning("no_spare_worker", reason=str(error))

    def warmed(self, surroundings: Surroundings) -> frozenset[str]:
        """The modules that the present interpreter for `surroundings` has imported ahead."""
        present = self._zygotes.get(surroundings)
        return present.modules if present else frozenset()

    def learn(self, surroundings: Surroundings, modules: Iterable[str]) -> None:
        """Notes what a program imported; when that is new, a warmer zygote takes the place of the present one."""
        generation = surroundings.interpreter.generation
        useful = preload.worthwhile(modules)
        if useful <= self._learned[generation]:
            return
        self._learned[generation] |= useful
        self._tasks.start_soon(self._rewarm, surroundings)

    async def _rewarm(self, surroundings: Surroundings) -> None:
        modules = self._learned[surroundings.interpreter.generation]
        present = self._zygotes.get(surroundings)
        if present is None or modules <= present.modules:
            return
        try:
            warmer = await self._start(surroundings, modules)
            await warmer.refill()
        except EngineError as error:
            log.warning("no_warmer_zygote", reason=str(error))
            return
        replaced = self._zygotes.get(surroundings)
        if replaced is None:
            warmer.retire()
            return
        self._zygotes[surroundings] = warmer
        replaced.retire()


@asynccontextmanager
async def open_zygotes(engine: Engine) -> AsyncGenerator[Zygotes]:
    """The server's zygotes; all of them, and all that they run, are gone when the context ends."""
    async with anyio.create_task_group() as tasks:
        try:
            yield Zygotes(engine, tasks)
        finally:
            tasks.cancel_scope.cancel()
