"""Create, delete, describe, install, uninstall, roll back, repair, list: each wholly or not at all, also among several
servers."""

import os
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import project, pythons, requirements
from mcp_python_executor.venvs.adoption import adopt
from mcp_python_executor.venvs.building import Builder, tell
from mcp_python_executor.venvs.catalog import Catalog
from mcp_python_executor.venvs.changes import Changes
from mcp_python_executor.venvs.checks import require_installed, require_unneeded
from mcp_python_executor.venvs.downloads import Downloads
from mcp_python_executor.venvs.drift import is_sound
from mcp_python_executor.venvs.interpreters import Interpreters, of_generation, of_plain
from mcp_python_executor.venvs.model import Generation, GenerationSummary, Package, PackageReport, Venv
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import VenvRecord, now
from mcp_python_executor.venvs.repair import Repair
from mcp_python_executor.venvs.reports import report
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Listener, Uv

_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _State:
    """What an environment is, for an operation that changes it; `packages` are those that are there, by hand or not."""

    generation: str
    packages: Sequence[Package]
    requests: list[Requirement]
    interpreter: Interpreter


@asynccontextmanager
async def open_venvs(
    base: Path,
    *,
    default_name: str,
    timeout_seconds: float,
    confine: Confine,
    may_build: bool = True,
    build_walls: Sequence[str] = ("landlock", "seccomp"),
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator["Venvs"]:
    """The environments below `base`, with what goes on behind them (collection, bytecode) while the block runs.

    `may_build` says whether strangers' code may run to build what exists only as source: not where `confine` puts up no
    walls, unless a person chose so. `build_walls` stand around it within those of `confine`. `environment` is where the
    index settings come from (ours by default).

    Raises:
        StoreError: `base` can't be used.
    """
    store = await run_sync(Store.open, base)
    uv = Uv.found(store.root, os.environ if environment is None else environment, confine)
    failure: Exception | None = None
    async with anyio.create_task_group() as background:
        changes = Changes(store, confine, background, timeout_seconds)
        interpreters = Interpreters(uv, Downloads(store, uv))
        builder = Builder(store, uv, may_build=may_build, build_walls=build_walls)
        venvs = Venvs(store, Catalog(store, default_name), changes, builder, interpreters)
        background.start_soon(venvs.tidy)
        try:
            yield venvs
        except Exception as error:  # noqa: BLE001 - raised again below: from in here it would come as a group
            failure = error
        background.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Venvs:
    """Every operation on the environments of one store. Made by `open_venvs`."""

    def __init__(
        self, store: Store, catalog: Catalog, changes: Changes, builder: Builder, interpreters: Interpreters
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._changes = changes
        self._builder = builder
        self._interpreters = interpreters

    async def get(self, name: str) -> Venv:
        """The environment `name`.

        Raises:
            InvalidArgument: there is none; names those there are.
        """
        self._catalog.require(name)
        return await run_sync(partial(self._catalog.venv, name, look_closer=True))

    async def create(
        self,
        name: str,
        *,
        description: str = "",
        python_version: str = "",
        python: Path | None = None,
        listener: Listener | None = None,
    ) -> Venv:
        """Make the environment `name`: the standard library and nothing else.

        `python` is an interpreter that a person chose at the terminal, never one that a call named. Where none on this
        machine fits `python_version` one is downloaded, of which `listener` is told.

        Raises:
            InvalidArgument: the name breaks the rule or is taken, or no interpreter fits `python_version`.
            PackageError: it can't be made.
        """
        async with self._changes.operation(name, listener):
            self._catalog.require_free(name)
            async with (
                await self._chosen(python_version, python, listener) as interpreter,
                self._builder.generation([], interpreter, offline_first=True, listener=listener) as record,
            ):
                tell(listener, "switching")
                self._changes.commit(name, record.id, VenvRecord(description, now()))
        return await self.get(name)

    async def delete(self, name: str, *, confirm: bool = False) -> bool:
        """Delete the environment `name`. What runs in it goes on to its end.

        Raises:
            InvalidArgument: there is none, or it is the default one and `confirm` is not given.
        """
        self._catalog.require(name)
        if name == self._catalog.default_name and not confirm:
            raise InvalidArgument(
                f"venv {name!r} is the default one; to delete it, call delete_venv with confirm: true"
            )
        async with self._changes.operation(name):
            self._catalog.require(name)
            await run_sync(self._store.remove, name)
        self._changes.collect_soon()
        return True

    async def describe(self, name: str, description: str) -> Venv:
        """Change the description of the environment `name`.

        Raises:
            InvalidArgument: there is none.
        """
        self._catalog.require(name)
        async with self._changes.operation(name):
            self._catalog.require(name)
            self._store.write_venv_record(name, replace(self._catalog.record(name), description=description))
        return await self.get(name)

    async def packages(self, name: str) -> list[Package]:
        """The distributions installed in the environment `name`, sorted by name.

        Raises:
            InvalidArgument: there is none.
            StoreError: its files are gone.
        """
        self._catalog.require(name)
        return await run_sync(self._catalog.packages, name)

    async def generations(self, name: str) -> list[GenerationSummary]:
        """What the environment `name` is made of now, then what it may return to, what it left last first.

        Raises:
            InvalidArgument: there is no such environment.
        """
        self._catalog.require(name)
        return await run_sync(self._catalog.generations, name)

    async def install(self, name: str, packages: list[str] | str, *, listener: Listener | None = None) -> PackageReport:
        """Install `packages` into the environment `name`, which is made where it is missing.

        `listener` is told what is being done.

        Raises:
            InvalidArgument: one of `packages` is no requirement.
            PackageError: they can't be installed; nothing was changed.
        """
        wanted = requirements.parse(packages)
        started = time.monotonic()
        async with self._changes.operation(name, listener):
            if self._store.exists(name):
                before = await self._state(name, listener)
            else:
                self._catalog.require_free(name)
                before = None
            merged = project.merge(before.requests if before else [], wanted)
            if before is not None and self._is(before, merged):
                after = before.packages
            else:
                after = await self._move(name, before, merged, listener=listener)
        asked = [canonicalize_name(requirement.name) for requirement in wanted]
        there = before.packages if before else ()
        return report(name, there, after, asked, created=before is None, seconds=time.monotonic() - started)

    async def uninstall(
        self, name: str, packages: list[str] | str, *, listener: Listener | None = None
    ) -> PackageReport:
        """Remove `packages` from the environment `name`, and what only they needed.

        Raises:
            InvalidArgument: there is no such environment, or one of them is not installed in it.
            PackageError: another request needs one of them; nothing was changed.
        """
        names = requirements.parse_names(packages)
        self._catalog.require(name)
        started = time.monotonic()
        async with self._changes.operation(name, listener):
            self._catalog.require(name)
            before = await self._state(name, listener)
            remaining = project.without(before.requests, names)
            asked = {canonicalize_name(requirement.name) for requirement in before.requests}
            # What a marker keeps out is asked for, and not installed: it may be taken back all the same.
            require_installed(name, before.packages, [one for one in names if one not in asked])
            require_unneeded(project.lock_text(self._store.path(before.generation)), remaining, names)
            after = await self._move(name, before, remaining, offline_first=True, listener=listener)
        return report(name, before.packages, after, [], created=False, seconds=time.monotonic() - started)

    async def rollback(self, name: str, *, listener: Listener | None = None) -> PackageReport:
        """Return the environment `name` to the generation before. Another call undoes that.

        Raises:
            InvalidArgument: there is no such environment, or it has no generation before.
            PackageError: that generation can't be used any more; nothing was changed.
        """
        self._catalog.require(name)
        started = time.monotonic()
        async with self._changes.operation(name, listener):
            self._catalog.require(name)
            target, current = self._catalog.before(name), self._store.current(name)
            async with self._kept(target):
                self._catalog.require_usable(name, target)
                tell(listener, "switching")
                before, record = self._there(current), self._catalog.record(name)
                # One that is broken is nothing to return to.
                if current is not None and self._store.generation(name) is not None:
                    record = record.leaving(current)
                self._changes.commit(name, target, record)
                after = self._there(target)
        return report(name, before, after, [], created=False, seconds=time.monotonic() - started)

    async def repair(self, name: str, *, listener: Listener | None = None) -> Venv:
        """Make the environment `name` again from what is written down of it, if it is broken or was changed by hand.

        It has the packages that it had, on the interpreter that it had or the closest one of the same minor version.

        Raises:
            InvalidArgument: there is no such environment.
            StoreError: it can't be repaired; says what is missing.
            PackageError: its packages can't be had any more.
        """
        self._catalog.require(name)
        async with self._changes.operation(name, listener):
            self._catalog.require(name)
            current, runs = self._store.current(name), self._store.generation(name) is not None
            repair = Repair(self._store, self._builder, self._interpreters, self._changes)
            if current is None and not runs:
                await repair.folder(name, self._catalog.record(name), listener)
            elif current is not None and not (runs and is_sound(self._store, current)):
                await repair.generation(name, self._catalog.record(name), listener)
        return await self.get(name)

    async def ensure(self, name: str, packages: Sequence[str]) -> None:
        """Make the environment `name` with `packages` in it, unless there is one: then it is left as it is.

        Raises:
            InvalidArgument: one of `packages` is no requirement.
            PackageError: it can't be made.
        """
        if self._store.exists(name):
            return
        if packages:
            await self.install(name, list(packages))
            return
        try:
            await self.create(name)
        except InvalidArgument:
            if not self._store.exists(name):  # another server was quicker
                raise

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncGenerator[Generation]:
        """What the environment `name` runs in now; it stays as it is while the block runs, whatever happens to `name`.

        Raises:
            InvalidArgument: there is no such environment.
            StoreError: it is broken; with the way out.
        """
        generation, lock = await self._catalog.leased(name)
        try:
            self._store.touch(name)
            yield generation
        finally:
            lock.release()

    @contextmanager
    def hold(self, generation: str) -> Generator[bool]:
        """Keep the generation `generation` from removal for the block; False where it is being made or removed."""
        lock = self._store.try_lease(generation)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()
                self._changes.collect_soon()

    def learned(self, generation: str) -> Path:
        """The file, beside the generation `generation`, that keeps what running programs in it teaches."""
        return self._store.learned(generation)

    def tell_before_collection(self, listener: Callable[[Collection[str]], None]) -> None:
        """Have `listener` told what environments run in, each time before what nobody uses is removed."""
        self._changes.before_collection = listener

    async def tidy(self) -> None:
        """Remove what earlier servers left, and finish what they did not."""
        await self._changes.collect()
        for name in await self.names():
            if (current := self._store.current(name)) is not None:
                await self._changes.finish(current)

    async def names(self) -> list[str]:
        """Every environment's name, sorted."""
        return await run_sync(self._store.names)

    async def _chosen(
        self, python_version: str, python: Path | None, listener: Listener | None
    ) -> AbstractAsyncContextManager[Interpreter]:
        if python is not None:
            return nullcontext(await self._interpreters.at(python))
        return self._interpreters.chosen(python_version, listener=listener)

    async def _move(
        self,
        name: str,
        before: _State | None,
        requests: Sequence[Requirement],
        *,
        offline_first: bool = False,
        listener: Listener | None,
    ) -> Sequence[Package]:
        """Make the generation for `requests`, let `name` name it, and tell its packages."""
        async with self._builder.generation(
            requests,
            before.interpreter if before else pythons.default(),
            before=before.generation if before else None,
            offline_first=offline_first,
            listener=listener,
        ) as after:
            if before is None or after.id != before.generation:
                tell(listener, "switching")
                # A record without its venv is what a server that died in the middle left.
                record = self._catalog.record(name).leaving(before.generation) if before else VenvRecord("", now())
                self._changes.commit(name, after.id, record, before.generation if before else None)
            return self._store.packages(after.id)

    async def _state(self, name: str, listener: Listener | None) -> _State:
        """What `name` is now, for an operation that changes it. A plain venv becomes a generation first."""
        generation = self._store.generation(name)
        if generation is None:
            raise self._catalog.broken(name)
        current = self._store.current(name)
        if current is None:
            interpreter = of_plain(generation)
            record = self._catalog.record(name)
            current = await adopt(self._store, self._builder, name, interpreter, record, listener)
            self._changes.follow(current)
        record = self._store.record(current)
        if record is None:
            raise self._catalog.broken(name)
        requests = project.requests(self._store.path(current) / project.PYPROJECT)
        return _State(current, self._there(current), requests, of_generation(record))

    def _is(self, state: _State, requests: Sequence[Requirement]) -> bool:
        """Whether what is there is already what `requests` ask for."""
        same = set(map(str, requests)) == set(map(str, state.requests))
        return same and is_sound(self._store, state.generation)

    def _there(self, generation: str | None) -> list[Package]:
        """The packages that are in `generation` now, whoever put them there; none where it is gone."""
        return self._catalog.installed(generation) if generation else []

    @asynccontextmanager
    async def _kept(self, generation: str) -> AsyncGenerator[None]:
        """Keep `generation` from removal for the block. One that is being removed is waited for, and then gone."""
        while (lease := self._store.try_lease(generation)) is None:  # noqa: ASYNC110 - another process tells nobody
            await anyio.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            lease.release()

    # Last, for its name hides the type's from what follows.
    async def list(self) -> list[Venv]:
        """Every environment, sorted by name."""
        return await run_sync(self._catalog.venvs)
