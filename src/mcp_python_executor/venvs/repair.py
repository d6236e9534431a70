"""An environment is made again from what is written down of it."""

from mcp_python_executor.errors import InvalidArgument, StoreError
from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.adoption import adopt
from mcp_python_executor.venvs.building import Builder, tell
from mcp_python_executor.venvs.changes import Changes
from mcp_python_executor.venvs.interpreters import Interpreters, as_recorded
from mcp_python_executor.venvs.records import VenvRecord, read_generation
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Listener


class Repair:
    """Makes environments of `store` again. The caller holds the right to change the one that it names."""

    def __init__(self, store: Store, builder: Builder, interpreters: Interpreters, changes: Changes) -> None:
        self._store = store
        self._builder = builder
        self._interpreters = interpreters
        self._changes = changes

    async def generation(self, name: str, record: VenvRecord, listener: Listener | None) -> None:
        """Let `name`, of which `record` is written down, name a generation with the requests and the lock that it had.

        Raises:
            StoreError: what it was is not known, or there is no interpreter for it.
            PackageError: its packages can't be had any more.
        """
        current = self._store.current(name)
        blueprint = self._store.blueprint(current) if current else None
        made = read_generation(blueprint) if blueprint else None
        if current is None or blueprint is None or made is None or pythons.is_too_old(made.python_version):
            raise StoreError(f"venv {name!r} can't be repaired: {self._store.problem(name)}")
        try:
            async with (
                self._interpreters.again(as_recorded(made), is_recorded=True, listener=listener) as interpreter,
                self._builder.again(blueprint, interpreter, listener=listener) as after,
            ):
                if after.id == current:  # its files are where its link leads
                    self._changes.follow(current)
                    return
                tell(listener, "switching")
                # One that is broken is nothing to return to; one that somebody changed may be.
                record = record.leaving(current) if self._store.generation(name) is not None else record
                self._changes.commit(name, after.id, record)
        except InvalidArgument as error:
            raise StoreError(f"venv {name!r} can't be repaired: {error}") from error

    async def folder(self, name: str, record: VenvRecord, listener: Listener | None) -> None:
        """Put a generation with the same packages in the place of the plain venv `name`, whose interpreter is gone.

        Raises:
            StoreError: nothing tells its version of Python, or there is no interpreter for it.
            PackageError: its packages can't be had any more.
        """
        had = plain.interpreter(self._store.base / name)
        if had is None or pythons.is_too_old(had.version):
            raise StoreError(f"venv {name!r} can't be repaired: {self._store.problem(name)}")
        try:
            async with self._interpreters.again(had, is_recorded=False, listener=listener) as interpreter:
                self._changes.follow(await adopt(self._store, self._builder, name, interpreter, record, listener))
        except InvalidArgument as error:
            raise StoreError(f"venv {name!r} can't be repaired: {error}") from error
