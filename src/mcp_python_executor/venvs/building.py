"""The next generation of a venv: resolve, build what exists only as source, link."""

import hashlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import PackageError
from mcp_python_executor.venvs import plain, project, reasons
from mcp_python_executor.venvs.builds import build_wheels
from mcp_python_executor.venvs.cloning import clone, lay, leave, settle
from mcp_python_executor.venvs.drift import is_sound
from mcp_python_executor.venvs.files import remove_tree, sync_all, sync_directory
from mcp_python_executor.venvs.locks import Lock, try_lock
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.own import require_own
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import GenerationRecord, read_generation, write_generation, write_packages
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Listener, Uv, raise_for

_POLL_SECONDS = 0.02
# A chain of packages without wheels is rare; each round finds at least one more of it.
_BUILD_ROUNDS = 8
_CLONE = "clone"


class Builder:
    """Makes generations in `store` with `uv`."""

    def __init__(self, store: Store, uv: Uv, *, may_build: bool, build_walls: Sequence[str]) -> None:
        self._store = store
        self._uv = uv
        self._may_build = may_build
        self._build_walls = build_walls

    @asynccontextmanager
    async def generation(
        self,
        requests: Sequence[Requirement],
        interpreter: Interpreter,
        *,
        before: str | None = None,
        offline_first: bool = False,
        listener: Listener | None = None,
    ) -> AsyncGenerator[GenerationRecord]:
        """The finished generation for `requests`, kept from removal while the block runs so that it can be named.

        The versions of the generation `before` are kept where they still fit.

        Raises:
            PackageError: it can't be made.
        """
        with self._store.workshop() as workshop:
            (workshop / project.PYPROJECT).write_text(project.render(requests, interpreter), encoding="utf-8")
            if before is not None and requests:
                await run_sync(_take_over, self._store.path(before), workshop)
            try:
                if requests:  # what asks for nothing needs no lock, and no uv to make one
                    resolve = partial(
                        self._resolve, workshop, interpreter, offline_first=offline_first, listener=listener
                    )
                    await (self._beside_clone(resolve, before, interpreter, workshop) if before else resolve())
                async with self._made(workshop, interpreter, requests, listener, before) as record:
                    yield record
            finally:  # it may be large, and the workshop is removed on the event loop
                with anyio.CancelScope(shield=True):
                    await run_sync(remove_tree, workshop / _CLONE)

    async def _beside_clone(
        self, resolve: Callable[[], Awaitable[None]], before: str, interpreter: Interpreter, workshop: Path
    ) -> None:
        """`resolve`, which waits for the index, while most of what it will ask for is laid ready in `workshop`."""
        failure: PackageError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_sync, clone, self._store, before, interpreter, workshop / _CLONE)
            try:
                await resolve()
            except PackageError as error:  # raised again below: from in here it would come as a group
                failure = error
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def again(
        self, blueprint: Path, interpreter: Interpreter, *, listener: Listener | None
    ) -> AsyncGenerator[GenerationRecord]:
        """The finished generation for the requests and the lock in the folder `blueprint`, kept from removal as above.

        `interpreter` is of the minor version that they are for.

        Raises:
            PackageError: it can't be made.
        """
        requests = project.requests(blueprint / project.PYPROJECT)
        with self._store.workshop() as workshop:
            pyproject = project.render(requests, interpreter)
            (workshop / project.PYPROJECT).write_text(pyproject, encoding="utf-8")
            await run_sync(_take_over, blueprint, workshop)
            if lock := project.lock_text(workshop):
                (workshop / project.LOCK).write_text(project.locked_for(interpreter, lock), encoding="utf-8")
            async with self._made(workshop, interpreter, requests, listener) as record:
                yield record

    @asynccontextmanager
    async def _made(
        self,
        workshop: Path,
        interpreter: Interpreter,
        requests: Sequence[Requirement],
        listener: Listener | None,
        before: str | None = None,
    ) -> AsyncGenerator[GenerationRecord]:
        """The finished generation for the project in `workshop`; what somebody changed or damaged is passed by."""
        pyproject = (workshop / project.PYPROJECT).read_text(encoding="utf-8")
        lock, hashes = project.lock_text(workshop), await run_sync(_hashes, workshop / project.WHEELS)
        for number in count():
            name = project.generation_id(pyproject, lock, interpreter, hashes, number)
            async with self._held(name) as (lease, record):
                if lease is None or (record is not None and not is_sound(self._store, name)):
                    continue
                if record is None:
                    record = await self._link(workshop, name, interpreter, requests, lease, listener, before)
                yield record
                return

    async def _resolve(
        self, workshop: Path, interpreter: Interpreter, *, offline_first: bool, listener: Listener | None
    ) -> None:
        if offline_first:
            completed = await self._uv.lock(workshop, interpreter, offline=True)
            if not completed.returncode:
                return
        tell(listener, "resolving")
        for _ in range(_BUILD_ROUNDS):
            completed = await self._uv.lock(workshop, interpreter, listener=listener)
            unbuilt = reasons.unbuilt(completed.stderr.decode("utf-8", "replace")) if completed.returncode else []
            if not unbuilt:
                break
            if not self._may_build:
                raise PackageError(
                    f"{unbuilt[0]!r} exists only as source here, and building it runs its code: "
                    "this machine offers too few walls; ask for another version of it, or see the doctor command"
                )
            await build_wheels(self._uv, workshop, interpreter, unbuilt, listener, walls=self._build_walls)
        raise_for(completed)  # pyright: ignore[reportPossiblyUnboundVariable] - at least one round

    async def _link(
        self,
        workshop: Path,
        name: str,
        interpreter: Interpreter,
        requests: Sequence[Requirement],
        lease: Lock,
        listener: Listener | None,
        before: str | None,
    ) -> GenerationRecord:
        target = self._store.path(name)
        # Whoever died in the middle of making it left a part: we hold its lock, so nobody works on it.
        await run_sync(remove_tree, target)
        await run_sync(target.mkdir, 0o700)
        kept = await run_sync(self._kept, workshop, target, before) if before else set[str]()
        tell(listener, "downloading and linking" if requests else "making an empty environment")
        try:
            # The lock goes with uv: should we be killed, nobody takes the place while it still writes there.
            link = partial(self._uv.sync, without=kept, listener=listener) if requests else self._uv.venv
            await link(workshop, interpreter, target, pass_fds=(lease.descriptor,))
            await run_sync(require_own, target, interpreter)
            if kept:
                await run_sync(lay, workshop / _CLONE, target)
            return await run_sync(self._finish, workshop, name, interpreter, requests)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await run_sync(remove_tree, target)
            raise

    def _kept(self, workshop: Path, target: Path, before: str) -> set[str]:
        """The packages that the clone of the generation `before` has for the one at `target`; it has no others then."""
        begun = workshop / _CLONE
        if not begun.exists():
            return set()
        kept = project.unchanged(project.lock_text(self._store.path(before)), project.lock_text(workshop))
        kept &= {package.name for package in plain.packages(begun)}
        if not leave(begun, kept):
            return set()
        settle(begun, self._store.path(before), target)
        return kept

    def _finish(
        self, workshop: Path, name: str, interpreter: Interpreter, requests: Sequence[Requirement]
    ) -> GenerationRecord:
        """Put the project beside what was made of it, and last, when all that outlasts a loss of power, the marker."""
        target, blueprint = self._store.path(name), workshop / "blueprint"
        asked = {canonicalize_name(requirement.name) for requirement in requests}
        packages = [Package(found.name, found.version, found.name in asked) for found in plain.packages(target)]
        record = GenerationRecord(
            id=name,
            python_version=interpreter.version,
            base_prefix=str(interpreter.prefix),
            base_python=str(interpreter.python),
            implementation=interpreter.implementation,
            package_count=len(packages),
        )
        blueprint.mkdir()
        for folder in (target, blueprint):
            shutil.copyfile(workshop / project.PYPROJECT, folder / project.PYPROJECT)
            _take_over(workshop, folder)
        write_packages(target, packages)
        sync_all(target)
        self._keep(blueprint, record, workshop)
        write_generation(target, record, workshop)
        sync_directory(target.parent)
        return record

    def _keep(self, blueprint: Path, record: GenerationRecord, workshop: Path) -> None:
        kept = self._store.blueprints / record.id
        if read_generation(kept) is not None:  # from before: what has the same id is the same
            return
        write_generation(blueprint, record, workshop)
        remove_tree(kept)
        blueprint.rename(kept)
        sync_directory(kept.parent)

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncGenerator[tuple[Lock | None, GenerationRecord | None]]:
        """A lease on the finished generation `name`, or the right to make it; neither where its users outlive it."""
        lease = self._store.leases / name
        while True:
            # Exclusive only where there is something to make: running code holds it shared.
            shared = self._store.record(name) is not None
            lock = try_lock(lease, shared=shared)
            if lock is not None:
                record = self._store.record(name)
                if shared == (record is not None):
                    break
                lock.release()
            elif not shared and self._is_used_unmade(name):
                yield None, None
                return
            await anyio.sleep(_POLL_SECONDS)
        try:
            yield lock, record
        finally:
            lock.release()

    def _is_used_unmade(self, name: str) -> bool:
        """Whether others hold a lease on the generation `name`, whose files are gone, and nobody makes it."""
        lock = try_lock(self._store.leases / name, shared=True)
        if lock is None:
            return False
        is_unmade = self._store.record(name) is None
        lock.release()
        return is_unmade


def tell(listener: Listener | None, stage: str) -> None:
    """Tell `listener`, if there is one, what is being done."""
    if listener is not None:
        listener(stage)


def _take_over(source: Path, target: Path) -> None:
    """Copy the lock, and the wheels that were built for it."""
    if (lock := source / project.LOCK).exists():
        shutil.copyfile(lock, target / project.LOCK)
    if (wheels := source / project.WHEELS).is_dir():
        shutil.copytree(wheels, target / project.WHEELS, copy_function=shutil.copyfile)


def _hashes(wheels: Path) -> dict[str, str]:
    if not wheels.is_dir():
        return {}
    return {path.name: _hash(path) for path in wheels.iterdir()}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
