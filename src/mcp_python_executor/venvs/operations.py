"""Create, delete, describe, install, uninstall, list: each wholly or not at all, also among several servers."""

import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import InvalidArgument, PackageError, StoreError
from mcp_python_executor.venvs import plain, project, pythons, requirements
from mcp_python_executor.venvs.adoption import adopt
from mcp_python_executor.venvs.building import Builder, tell
from mcp_python_executor.venvs.bytecode import compile_and_seal
from mcp_python_executor.venvs.catalog import Catalog
from mcp_python_executor.venvs.checks import require_installed, require_unneeded
from mcp_python_executor.venvs.collection import collect
from mcp_python_executor.venvs.interpreters import Interpreters, of_generation, of_plain
from mcp_python_executor.venvs.locks import locked
from mcp_python_executor.venvs.model import Generation, Package, PackageReport, Venv, venv_name
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import GenerationRecord, VenvRecord, now
from mcp_python_executor.venvs.reports import report
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Listener, Uv

log = structlog.get_logger()


@asynccontextmanager
async def open_venvs(
    base: Path,
    *,
    default_name: str,
    timeout_seconds: float,
    confine: Confine,
    may_build: bool = True,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator["Venvs"]:
    """The environments below `base`, with what goes on behind them (collection, bytecode) while the block runs.

    `may_build` says whether strangers' code may run to build what exists only as source: not where `confine` puts up no
    walls, unless a person chose so. `environment` is where the index settings come from (ours by default).

    Raises:
        StoreError: `base` can't be used.
    """
    store = await run_sync(Store.open, base)
    uv = Uv.found(store.root, os.environ if environment is None else environment, confine)
    failure: Exception | None = None
    async with anyio.create_task_group() as background:
        builder = Builder(store, uv, may_build=may_build)
        venvs = Venvs(store, uv, builder, background, default_name=default_name, timeout_seconds=timeout_seconds)
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
        self,
        store: Store,
        uv: Uv,
        builder: Builder,
        background: TaskGroup,
        *,
        default_name: str,
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._uv = uv
        self._builder = builder
        self._background = background
        # One generation at a time: the machine is for executions.
        self._finishing = anyio.Lock()
        self._catalog = Catalog(store, default_name)
        self._default_name = default_name
        self._timeout_seconds = timeout_seconds
        self._interpreters = Interpreters(uv)

    async def get(self, name: str) -> Venv:
        """The environment `name`.

        Raises:
            InvalidArgument: there is none; names those there are.
        """
        self._catalog.require(name)
        return await run_sync(self._catalog.venv, name)

    async def create(
        self, name: str, *, description: str = "", python_version: str = "", python: Path | None = None
    ) -> Venv:
        """Make the environment `name`: the standard library and nothing else.

        `python` is an interpreter that a person chose at the terminal, never one that a call named.

        Raises:
            InvalidArgument: the name breaks the rule or is taken, or no interpreter fits `python_version`.
            PackageError: it can't be made.
        """
        async with self._operation(name):
            self._catalog.require_free(name)
            interpreter = await (self._interpreters.at(python) if python else self._interpreters.choose(python_version))
            async with self._builder.generation([], interpreter, offline_first=True) as record:
                self._commit(name, record, VenvRecord(description, now()))
        return await self.get(name)

    async def delete(self, name: str, *, confirm: bool = False) -> bool:
        """Delete the environment `name`. What runs in it goes on to its end.

        Raises:
            InvalidArgument: there is none, or it is the default one and `confirm` is not given.
        """
        self._catalog.require(name)
        if name == self._default_name and not confirm:
            raise InvalidArgument(
                f"venv {name!r} is the default one; to delete it, call delete_venv with confirm: true"
            )
        async with self._operation(name):
            self._catalog.require(name)
            await run_sync(self._store.remove, name)
        self._background.start_soon(self._collect)
        return True

    async def describe(self, name: str, description: str) -> Venv:
        """Change the description of the environment `name`.

        Raises:
            InvalidArgument: there is none.
        """
        self._catalog.require(name)
        async with self._operation(name):
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

    async def install(self, name: str, packages: list[str] | str, *, listener: Listener | None = None) -> PackageReport:
        """Install `packages` into the environment `name`, which is made where it is missing.

        `listener` is told what is being done.

        Raises:
            InvalidArgument: one of `packages` is no requirement.
            PackageError: they can't be installed; nothing was changed.
        """
        wanted = requirements.parse(packages)
        started = time.monotonic()
        async with self._operation(name):
            created = not self._store.exists(name)
            if created:
                self._catalog.require_free(name)
                before, requests, interpreter = None, list[Requirement](), pythons.default()
            else:
                before, requests, interpreter = await self._state(name, listener)
            merged = project.merge(requests, wanted)
            if before is not None and set(map(str, merged)) == set(map(str, requests)):
                after = before
            else:
                after = await self._move(name, before, merged, interpreter, listener=listener)
        asked = [canonicalize_name(requirement.name) for requirement in wanted]
        return report(name, before, after, asked, created=created, seconds=time.monotonic() - started)

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
        async with self._operation(name):
            self._catalog.require(name)
            before, requests, interpreter = await self._state(name, listener)
            remaining = project.without(requests, names)
            asked = {canonicalize_name(requirement.name) for requirement in requests}
            # What a marker keeps out is asked for, and not installed: it may be taken back all the same.
            require_installed(name, before, [one for one in names if one not in asked])
            require_unneeded(project.lock_text(self._store.path(before.id)), remaining, names)
            after = await self._move(name, before, remaining, interpreter, offline_first=True, listener=listener)
        return report(name, before, after, [], created=False, seconds=time.monotonic() - started)

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

    async def tidy(self) -> None:
        """Remove what earlier servers left, and finish what they did not."""
        await self._collect()
        for name in await self.names():
            if (current := self._store.current(name)) is not None:
                await self._finish(current)

    async def names(self) -> list[str]:
        """Every environment's name, sorted."""
        return await run_sync(self._store.names)

    async def _move(
        self,
        name: str,
        before: GenerationRecord | None,
        requests: Sequence[Requirement],
        interpreter: Interpreter,
        *,
        offline_first: bool = False,
        listener: Listener | None,
    ) -> GenerationRecord:
        """Make the generation for `requests` and let `name` name it."""
        async with self._builder.generation(
            requests,
            interpreter,
            before=before.id if before else None,
            offline_first=offline_first,
            listener=listener,
        ) as after:
            if before is None or after.id != before.id:
                tell(listener, "switching")
                # A record without its venv is what a server that died in the middle left.
                record = self._catalog.record(name).leaving(before.id) if before else VenvRecord("", now())
                self._commit(name, after, record, before)
        return after

    def _commit(
        self, name: str, generation: GenerationRecord, record: VenvRecord, before: GenerationRecord | None = None
    ) -> None:
        """The record first: without its link it is nothing, and a link without it would lose the description."""
        self._store.write_venv_record(name, record)
        self._store.switch(name, generation.id)
        self._background.start_soon(self._settle, generation.id, before.id if before else None)

    async def _settle(self, generation: str, before: str | None) -> None:
        await self._collect()
        await self._finish(generation, before)
        await self._collect()  # what was deleted while it was finished

    async def _finish(self, generation: str, before: str | None = None) -> None:
        try:
            async with self._finishing:
                await compile_and_seal(self._store, self._uv.confine, generation, before)
        except OSError as error:  # it is done again at the next start; code runs without it
            log.warning("finish_failed", generation=generation, reason=str(error))

    async def _collect(self) -> None:
        try:
            await run_sync(collect, self._store)
        except OSError as error:  # it is done again after the next operation
            log.warning("collect_failed", reason=str(error))

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncGenerator[None]:
        """The right to change `name`, for as long as a package operation may take."""
        if not plain.may_be_name(name):
            venv_name(name)
        try:
            with anyio.fail_after(self._timeout_seconds):
                async with locked(self._store.locks / name):
                    yield
        except TimeoutError:
            raise PackageError(
                f"venv {name!r}: not done within {self._timeout_seconds:g} s and nothing was changed; what was "
                "downloaded is kept, so call again, or raise PACKAGE_TIMEOUT_MS"
            ) from None
        except OSError as error:
            raise StoreError(f"venv {name!r}: {self._store.refusal(error)}; nothing was changed") from error

    async def _state(
        self, name: str, listener: Listener | None
    ) -> tuple[GenerationRecord, list[Requirement], Interpreter]:
        """What `name` is now, for an operation that changes it. A plain venv becomes a generation first."""
        generation = self._store.generation(name)
        if generation is None:
            raise self._catalog.broken(name)
        current = self._store.current(name)
        if current is None:
            record = self._catalog.record(name)
            interpreter = of_plain(generation)
            current = await adopt(self._store, self._builder, name, interpreter, record, listener)
            self._background.start_soon(self._settle, current, None)
        record = self._store.record(current)
        if record is None:
            raise self._catalog.broken(name)
        return record, project.requests(self._store.path(current) / project.PYPROJECT), of_generation(record)

    # Last, for its name hides the type's from what follows.
    async def list(self) -> list[Venv]:
        """Every environment, sorted by name."""
        return await run_sync(self._catalog.venvs)
