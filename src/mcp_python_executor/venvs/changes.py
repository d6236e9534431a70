"""How environments change: the right to change one, the commit, and what follows it in its own time."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from mcp_python_executor.errors import PackageError, StoreError
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.building import tell
from mcp_python_executor.venvs.bytecode import compile_and_seal
from mcp_python_executor.venvs.collection import collect
from mcp_python_executor.venvs.locks import locked
from mcp_python_executor.venvs.model import venv_name
from mcp_python_executor.venvs.records import VenvRecord
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Listener

log = structlog.get_logger()


class Changes:
    """Changes to the environments of `store`. What follows each runs in `background`, behind `confine`'s walls."""

    def __init__(self, store: Store, confine: Confine, background: TaskGroup, timeout_seconds: float) -> None:
        self._store = store
        self._confine = confine
        self._background = background
        self._timeout_seconds = timeout_seconds
        self.before_collection: Callable[[Collection[str]], None] | None = None
        # One generation at a time: the machine is for executions.
        self._finishing = anyio.Lock()

    @asynccontextmanager
    async def operation(self, name: str, listener: Listener | None = None) -> AsyncGenerator[None]:
        """The right to change the environment `name`, for as long as a package operation may take.

        `listener` is told if somebody else has it.

        Raises:
            InvalidArgument: nothing can have this name.
            PackageError: time ran out.
            StoreError: the file system refused something.
        """
        if not plain.may_be_name(name):
            venv_name(name)
        late = f"another operation on it was not done within {self._timeout_seconds:g} s; call again later"
        try:
            if self._store.is_busy(name):
                tell(listener, "waiting for another operation on it")
            with anyio.fail_after(self._timeout_seconds):
                async with locked(self._store.locks / name):
                    late = (
                        f"not done within {self._timeout_seconds:g} s and nothing was changed; what was downloaded is "
                        "kept, so call again"
                    )
                    self._store.finish_move(name)
                    yield
        except TimeoutError:
            raise PackageError(f"venv {name!r}: {late}, or raise PACKAGE_TIMEOUT_MS") from None
        except OSError as error:
            raise StoreError(f"venv {name!r}: {self._store.refusal(error)}; nothing was changed") from error

    def commit(self, name: str, generation: str, record: VenvRecord, before: str | None = None) -> None:
        """Let `name` name `generation`, after `before`. The caller holds the right to it, and the generation's lease.

        The record first: without its link it means what the one before did, and a link without it would lose the
        description.
        """
        if before is not None:
            self._store.pass_on(before, generation)
        self._store.write_venv_record(name, record)
        self._store.switch(name, generation)
        self.follow(generation, before)

    def follow(self, generation: str, before: str | None = None) -> None:
        """Begin what follows a commit: collection, and what there is to be done for `generation`."""
        self._background.start_soon(self._settle, generation, before)

    def collect_soon(self) -> None:
        """Begin to remove what nobody names or uses."""
        self._background.start_soon(self.collect)

    async def collect(self) -> None:
        """Remove what nobody names or uses."""
        try:
            if self.before_collection is not None:
                self.before_collection(await run_sync(self._store.present))
            await run_sync(collect, self._store)
        except (OSError, RecursionError) as error:  # it is done again after the next operation
            log.warning("collect_failed", reason=str(error))

    async def finish(self, generation: str, before: str | None = None) -> None:
        """Compile and seal `generation`, unless that is done."""
        try:
            async with self._finishing:
                await compile_and_seal(self._store, self._confine, generation, before)
        except (OSError, RecursionError) as error:  # it is done again at the next start; code runs without it
            log.warning("finish_failed", generation=generation, reason=str(error))

    async def _settle(self, generation: str, before: str | None) -> None:
        await self.collect()
        await self.finish(generation, before)
        await self.collect()  # what was deleted while it was finished
