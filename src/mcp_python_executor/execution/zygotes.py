"""All warm interpreters of a server: for each environment and policy a bare one, and one with what programs import.

A fork copies page tables, so a heavy heap makes even a small program slow: with pandas and matplotlib imported ahead
`print(1)` takes two to three times as long. So a program that mentions none of the packages gets the bare one, and so
does every program while the other one is not there yet.
"""

import resource
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import preload
from mcp_python_executor.execution.engine import Engine
from mcp_python_executor.execution.learned import Learned
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.worker import Worker
from mcp_python_executor.execution.zygote import Zygote

log = structlog.get_logger()

# Each is an interpreter with what it preloaded, some 10 to 100 MB, most of it shared with its workers.
_MOST_ZYGOTES = 8

# One that nobody asks for has its memory better used by others; it comes back with what it had learned.
_IDLE_SECONDS = 1800
_LOOK_SECONDS = 60

# An answer leaves before the next spare is forked: rendering one takes about a millisecond.
_ANSWER_SECONDS = 0.002

# Programs name what they use near their beginning.
_LOOKED_AT_CHARACTERS = 10_000

# The kernel counts descriptors that are on their way between processes for all of a user, and lets nobody send one who
# may have no more of them (ETOOMANYREFS in unix(7)). So we may have more than a run (1024) or a build (4096).
_OPEN_FILES = 8192

# Surroundings, and whether packages are imported ahead.
_Key = tuple[Surroundings, bool]


class Zygotes:
    """Finds, starts and replaces zygotes. Make it with `open_zygotes`."""

    def __init__(self, engine: Engine, tasks: anyio.abc.TaskGroup) -> None:
        self.engine = engine
        self._tasks = tasks
        self._zygotes: OrderedDict[_Key, Zygote] = OrderedDict()
        self._starting: defaultdict[_Key, anyio.Lock] = defaultdict(partial(anyio.Lock, fast_acquire=True))
        self._warming: defaultdict[_Key, anyio.Lock] = defaultdict(anyio.Lock)
        self._learned = Learned(engine.learned)
        # By generation: the packages that its programs have used, by their top-level names.
        self._packages: dict[str, set[str]] = {}
        # By generation: modules that could not be imported ahead. Another server may find them different.
        self._unfit: defaultdict[str, set[str]] = defaultdict(set)
        # Generations of which nothing is imported ahead any more: that used too much, or no zygote started with it.
        self._barred: set[str] = set()
        self._directories: dict[Path, Zygote] = {}

    @asynccontextmanager
    async def worker(self, surroundings: Surroundings, code: str | None) -> AsyncGenerator[tuple[Zygote, Worker]]:
        """A worker to run `code` (None: not known), and the zygote that ends it; afterwards the next spare is forked.

        Raises:
            EngineError: no interpreter could be started.
        """
        zygote, worker = await self._fork(surroundings, code)
        try:
            yield zygote, worker
        finally:
            worker.close()
            self._tasks.start_soon(self._follow_up, zygote, surroundings, code)

    async def _fork(self, surroundings: Surroundings, code: str | None) -> tuple[Zygote, Worker]:
        zygote = await self.zygote(surroundings, code)
        try:
            return zygote, await zygote.worker()
        except EngineError:
            if zygote.alive:
                raise
        zygote = await self.zygote(surroundings, code)  # it had died since; nothing of the program has run yet
        return zygote, await zygote.worker()

    async def zygote(self, surroundings: Surroundings, code: str | None = "") -> Zygote:
        """The warm interpreter that suits `code` best of those that are there, and at least a bare one."""
        sets_packages_up = code is not None and preload.is_set_up_by(code)
        if not sets_packages_up and any(code is None or name in code for name in self._packages_for(surroundings)):
            key = surroundings, True
            zygote = self._zygotes.get(key)
            if zygote is not None and zygote.alive:
                self._zygotes.move_to_end(key)
                return zygote
            self._tasks.start_soon(self._rewarm, key)
        return await self._present((surroundings, False))

    async def warm(self, surroundings: Surroundings) -> None:
        """Has the interpreters ready that programs in `surroundings` are likely to need.

        Raises:
            EngineError: no interpreter could be started.
        """
        await (await self.zygote(surroundings)).refill()
        if self._packages_for(surroundings):
            await self._rewarm((surroundings, True))

    def _packages_for(self, surroundings: Surroundings) -> set[str]:
        """The packages that may be imported ahead there."""
        return set[str]() if surroundings.sets_packages_up else self._packages_of(surroundings)

    def _packages_of(self, surroundings: Surroundings) -> set[str]:
        generation = surroundings.interpreter.generation
        if generation not in self._packages:
            self._packages[generation] = preload.packages(self._learned.modules(generation))
        return self._packages[generation]

    async def _present(self, key: _Key) -> Zygote:
        async with self._starting[key]:
            zygote = self._zygotes.get(key)
            if zygote is None or not zygote.alive:
                zygote = await self._start(key)
            self._put(key, zygote)
        return zygote

    def _put(self, key: _Key, zygote: Zygote) -> None:
        replaced = self._zygotes.get(key)
        if replaced is not None and replaced is not zygote:
            replaced.retire()
        self._zygotes[key] = zygote
        self._zygotes.move_to_end(key)
        while len(self._zygotes) > _MOST_ZYGOTES:
            self._retire([next(iter(self._zygotes))])

    def let_go(self, generations: Collection[str]) -> None:
        """Ends the interpreters of all but `generations`, which alone are asked for now; those at work end later."""
        self._learned.save()
        for generation in self._packages.keys() - set(generations):
            del self._packages[generation]
            self._unfit.pop(generation, None)
            self._learned.forget(generation)
        self._retire([key for key in self._zygotes if key[0].interpreter.generation not in generations])

    async def let_idle_go(self) -> None:
        """Ends, for as long as it runs, the interpreters that nobody has asked for in a long time."""
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            long_ago = time.monotonic() - _IDLE_SECONDS
            self._retire([key for key, zygote in self._zygotes.items() if zygote.is_idle and zygote.used < long_ago])
            self._learned.save()

    def _retire(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            if zygote := self._zygotes.pop(key, None):
                zygote.retire()

    def _modules(self, key: _Key) -> list[str]:
        surroundings, with_packages = key
        generation = surroundings.interpreter.generation
        if generation in self._barred:
            return []
        learned = [name for name in self._learned.modules(generation) if name not in self._unfit[generation]]
        return learned if with_packages else [name for name in learned if preload.is_standard(name)]

    async def _start(self, key: _Key) -> Zygote:
        """A new zygote for `key`: without what can't be imported ahead, and bare where none starts else.

        Raises:
            EngineError: it does not start without packages either.
        """
        generation = key[0].interpreter.generation
        while generation not in self._barred:
            zygote = Zygote(self.engine, key[0], self._modules(key), ahead=True)
            try:
                return await self._started(zygote)
            except EngineError as error:
                if zygote.unfit in zygote.modules:
                    self._unfit[generation].add(zygote.unfit)
                    log.info("not_imported_ahead", generation=generation, module=zygote.unfit, reason=str(error))
                    continue
                zygote = await self._started(Zygote(self.engine, key[0], (), ahead=False))
                self._bar(generation, str(error))
                return zygote
        return await self._started(Zygote(self.engine, key[0], (), ahead=False))

    def distrust(self, zygote: Zygote) -> None:
        """A worker of `zygote` had no walls, which what is imported there may have caused: the next run has another."""
        self._retire([key for key, present in self._zygotes.items() if present is zygote and zygote.ahead])

    def _bar(self, generation: str, reason: str) -> None:
        if generation not in self._barred:
            self._barred.add(generation)
            log.warning("nothing_imported_ahead", generation=generation, reason=reason)

    async def _started(self, zygote: Zygote) -> Zygote:
        started = anyio.Event()
        failures: list[EngineError] = []
        self._tasks.start_soon(self._live, zygote, started, failures)
        try:
            await started.wait()
        except BaseException:
            zygote.retire()  # nobody knows of it
            raise
        if failures:
            raise failures[0]
        return zygote

    async def _live(self, zygote: Zygote, started: anyio.Event, failures: list[EngineError]) -> None:
        self._directories[zygote.directory] = zygote
        try:
            await zygote.run(started)
        except EngineError as error:
            if not zygote.unfit:
                log.warning("zygote_failed", reason=str(error))
            failures.append(error)
        except Exception:
            log.exception("zygote_lost")
            failures.append(EngineError("an interpreter was lost; see the server's log"))
        finally:
            started.set()
        if zygote.overran:
            self._bar(zygote.generation, f"what it imports ahead used more than {zygote.overran}")
        await self._sweep(zygote)

    async def _sweep(self, zygote: Zygote) -> None:
        if zygote.gone and await anyio.to_thread.run_sync(zygote.sweep):
            self._directories.pop(zygote.directory, None)

    async def removed(self, directory: Path) -> None:
        """A run's `directory` is no more; its zygote's goes after the last, once that has ended."""
        zygote = self._directories.get(directory.parent)
        if zygote is not None:
            zygote.forget(directory.name)
            await self._sweep(zygote)

    async def _follow_up(self, zygote: Zygote, surroundings: Surroundings, code: str | None) -> None:
        """What a run leaves to be done once its answer has left."""
        await anyio.sleep(_ANSWER_SECONDS)
        try:
            await zygote.refill()
        except EngineError as error:
            log.warning("no_spare_worker", reason=str(error))
        start = code and code[:_LOOKED_AT_CHARACTERS]
        self._learned.count(surroundings.interpreter.generation, lambda name: start is None or name in start)

    def warmed(self, surroundings: Surroundings) -> frozenset[str]:
        """The modules that the present interpreters for `surroundings` have imported ahead."""
        present = [self._zygotes.get((surroundings, with_packages)) for with_packages in (False, True)]
        return frozenset[str]().union(*(zygote.modules for zygote in present if zygote))

    def learn(self, surroundings: Surroundings, modules: Iterable[str]) -> None:
        """Notes what a program had to import; warmer zygotes, if there can be any, take the place of the present ones.

        `modules` are top-level names, and hostile input.
        """
        useful = preload.worthwhile(modules)
        if not useful:
            return
        generation, packages = surroundings.interpreter.generation, preload.packages(useful)
        self._packages_of(surroundings).update(packages)
        self._learned.add(generation, useful)
        for with_packages in (True, False) if packages and not surroundings.sets_packages_up else (False,):
            self._tasks.start_soon(self._rewarm, (surroundings, with_packages))

    async def _rewarm(self, key: _Key) -> None:
        """Gives `key` a zygote that has imported all that was learned; the present one serves until it is there."""
        async with self._warming[key]:
            present = self._zygotes.get(key)
            if present is not None and not present.alive:
                present = None
            if not self._is_wanted(key) or (present is not None and present.modules >= set(self._modules(key))):
                return
            try:
                if present is None:
                    warmer = await self._present(key)
                else:
                    warmer = await self._start(key)
                    self._put(key, warmer)
                if not self._is_wanted(key):
                    self._retire([key])
                    return
                await warmer.refill()
                self._learned.save()
            except EngineError as error:
                log.warning("no_warmer_zygote", reason=str(error))

    def _is_wanted(self, key: _Key) -> bool:
        return key[0].interpreter.generation in self._packages

    def save(self) -> None:
        """Keeps what was learned for the next server."""
        self._learned.save()


@asynccontextmanager
async def open_zygotes(engine: Engine) -> AsyncGenerator[Zygotes]:
    """The server's zygotes; all of them, and all that they run, are gone when the context ends."""
    _allow_more_descriptors()
    async with anyio.create_task_group() as tasks:
        zygotes = Zygotes(engine, tasks)
        tasks.start_soon(zygotes.let_idle_go)
        try:
            yield zygotes
        finally:
            tasks.cancel_scope.cancel()
            zygotes.save()


def _allow_more_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems have a limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
