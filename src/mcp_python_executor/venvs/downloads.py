"""Interpreters that were downloaded because no other would do, below the store, where executed code never writes.

Each has a folder, made at its final path: its file python.json is written last and says that it is whole. It is kept
while a generation was made from it, and while somebody holds the lease of its name.
"""

import re
from contextlib import ExitStack
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mcp_python_executor.errors import PackageError
from mcp_python_executor.process import Completed
from mcp_python_executor.venvs import reasons
from mcp_python_executor.venvs.files import remove_tree, sync_all, sync_directory
from mcp_python_executor.venvs.locks import locked
from mcp_python_executor.venvs.pythons import OLDEST, Interpreter
from mcp_python_executor.venvs.records import read_python, write_python
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Listener, Uv

# uv's name for an interpreter becomes a folder's and a lease's.
_KEY = re.compile(r"[a-z0-9][a-zA-Z0-9._+-]*")


class Downloads:
    """The interpreters below `store`, and those that `uv` can add."""

    def __init__(self, store: Store, uv: Uv) -> None:
        self._store = store
        self._uv = uv

    def there(self) -> list[Interpreter]:
        """Those that are whole."""
        return [found for folder in self._store.pythons.iterdir() if (found := _read(folder)) is not None]

    def hold(self, interpreter: Interpreter, held: ExitStack) -> bool:
        """Keep `interpreter` from removal as long as `held`, if it is one of ours; False when it is gone by now."""
        if not interpreter.python.is_relative_to(self._store.pythons):
            return True
        folder = self._store.pythons / interpreter.python.relative_to(self._store.pythons).parts[0]
        if (lease := self._store.try_lease(folder.name)) is None:
            return False
        held.callback(lease.release)
        return _read(folder) is not None

    async def get(self, accepted: SpecifierSet, held: ExitStack, listener: Listener | None) -> Interpreter:
        """The newest interpreter of an `accepted` version that there is to download, kept as long as `held`.

        Raises:
            PackageError: there is none, or it can't be had.
        """
        if not self._uv.may_download:
            raise PackageError("UV_PYTHON_DOWNLOADS=never forbids to download one")
        known = [(Version(version), key) for key, version in await self._uv.downloads() if _KEY.fullmatch(key)]
        fitting = [one for one in known if one[0] >= OLDEST and accepted.contains(one[0], prereleases=None)]
        if not fitting:
            raise PackageError("there is none to download")
        version, key = max(fitting)
        folder = self._store.pythons / key
        while True:
            async with locked(self._store.leases / key) as lease:
                if _read(folder) is None:
                    if listener is not None:
                        listener(f"downloading Python {version}")
                    await self._download(key, folder, lease.descriptor, listener)
            # No lock becomes a shared one in one step (flock(2)): in between another server may remove what we made.
            if (interpreter := _read(folder)) is not None and self.hold(interpreter, held):
                return interpreter

    async def _download(self, key: str, folder: Path, lease: int, listener: Listener | None) -> None:
        # Whoever died in the middle of it left a part: we hold its lock, so nobody works on it.
        await run_sync(remove_tree, folder)
        await run_sync(folder.mkdir, 0o700)
        try:
            # The lock goes with uv: should we be killed, nobody takes the place while it still writes there.
            completed = await self._uv.download(key, folder, pass_fds=(lease,), listener=listener)
            found = [] if completed.returncode else await self._uv.pythons(await run_sync(_bins, folder))
            await run_sync(self._finish, folder, completed, found)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await run_sync(remove_tree, folder)
            raise

    def _finish(self, folder: Path, completed: Completed, found: list[Interpreter]) -> None:
        """Write down that it is whole, when all of it outlasts a loss of power."""
        if completed.returncode:
            raise PackageError(reasons.download_reason(completed.stderr.decode("utf-8", "replace")))
        if not found:
            raise PackageError("what was downloaded is no interpreter that works here")
        interpreter = found[0]
        sync_all(folder)
        with self._store.workshop() as workshop:
            write_python(folder, interpreter.python, interpreter.version, workshop)
        sync_directory(folder.parent)


def _bins(folder: Path) -> list[Path]:
    """Where the interpreter is: beside it uv makes a link for its minor version."""
    return [path for path in folder.glob("cpython-*/bin") if not path.parent.is_symlink()]


def _read(folder: Path) -> Interpreter | None:
    if (found := read_python(folder)) is None or not found[0].exists():
        return None
    python, version = found
    return Interpreter(python, version, python.parent.parent)
