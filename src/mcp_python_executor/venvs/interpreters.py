"""Which interpreter an environment is made from."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from anyio.to_thread import run_sync
from packaging.specifiers import SpecifierSet

from mcp_python_executor.errors import ExecutorError, InvalidArgument, PackageError
from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.downloads import Downloads
from mcp_python_executor.venvs.model import Generation
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import GenerationRecord
from mcp_python_executor.venvs.uv import Listener, Uv


class Interpreters:
    """The interpreters of this machine, looked for once, and only when the server's own will not do; then downloads."""

    def __init__(self, uv: Uv, downloads: Downloads) -> None:
        self._uv = uv
        self._downloads = downloads
        self._found: list[Interpreter] | None = None

    @asynccontextmanager
    async def chosen(self, python_version: str, *, listener: Listener | None = None) -> AsyncGenerator[Interpreter]:
        """The interpreter for the `pythonVersion` of a call; empty means the server's own. It stays for the block.

        Raises:
            InvalidArgument: it is no version, or none will do and none can be downloaded.
            PackageError: they can't be looked for.
        """
        default = pythons.default()
        if not python_version or pythons.specifiers(python_version).contains(default.version):
            yield default
            return
        accepted = pythons.specifiers(python_version)
        with ExitStack() as held:
            while True:
                others = [*await self._machines(), *self._downloads.there()]
                fitting = pythons.best(accepted, default, others)
                if fitting is None:
                    others = [*await self._machines(again=True), *self._downloads.there()]
                    fitting = pythons.best(accepted, default, others)
                if fitting is None:
                    fitting = await self._download(repr(python_version), accepted, [default, *others], held, listener)
                if self._downloads.hold(fitting, held):
                    break
            yield fitting

    @asynccontextmanager
    async def again(
        self, had: Interpreter, *, is_recorded: bool, listener: Listener | None = None
    ) -> AsyncGenerator[Interpreter]:
        """`had` where it still is, else the closest of the same minor version; it stays for the block.

        One that is not `is_recorded` by us is told by a file that any package may have brought, and started only where
        interpreters are looked for in any case.

        Raises:
            InvalidArgument: there is none and none can be downloaded; says what to install.
            PackageError: they can't be looked for.
        """
        default = pythons.default()
        if (had.python, had.minor) == (default.python, default.minor):
            yield default  # perhaps updated in its place since
            return
        with ExitStack() as held:
            while True:
                is_asked = had.python.exists() and (is_recorded or pythons.is_of_machine(had.python))
                beside = await self._uv.pythons([had.python.parent] if is_asked else [])
                if (had.python, had.minor) not in [(other.python, other.minor) for other in beside]:
                    beside += [default, *await self._machines(again=True), *self._downloads.there()]
                closest = pythons.closest(had, beside)
                if closest is None:
                    closest = await self._download(had.minor, pythons.specifiers(had.minor), beside, held, listener)
                if self._downloads.hold(closest, held):
                    break
            yield closest

    async def at(self, python: Path) -> Interpreter:
        """The interpreter at the path `python`, which a person chose at the terminal.

        Raises:
            InvalidArgument: there is none that can be used.
        """
        chosen = await run_sync(python.resolve)
        for found in await self._uv.pythons([chosen.parent]):
            if found.python == chosen and pythons.is_too_old(found.version):
                too_old = f"{str(python)!r} is Python {found.version}, which is too old"
                raise InvalidArgument(f"{too_old}; the oldest supported is {pythons.OLDEST}")
            if found.python == chosen:
                return found
        raise InvalidArgument(f"{str(python)!r} is no Python interpreter that can be used")

    async def _machines(self, *, again: bool = False) -> list[Interpreter]:
        if self._found is None or again:
            self._found = await self._uv.pythons(await run_sync(pythons.directories, Path.home()))
        return [found for found in self._found if found.python.exists()]

    async def _download(
        self,
        asked: str,
        accepted: SpecifierSet,
        others: list[Interpreter],
        held: ExitStack,
        listener: Listener | None,
    ) -> Interpreter:
        try:
            return await self._downloads.get(accepted, held, listener)
        except ExecutorError as error:
            raise InvalidArgument(
                f"no Python {asked} on this machine; {pythons.there_are(others)}; {error}; "
                "install it, or give another version"
            ) from error


def of_generation(record: GenerationRecord) -> Interpreter:
    """The interpreter that a generation was made from."""
    default = pythons.default()
    if str(default.python) == record.base_python:
        return default  # perhaps updated in its place since
    return as_recorded(record)


def as_recorded(record: GenerationRecord) -> Interpreter:
    """The interpreter that a generation was made from, as it was then."""
    return Interpreter(Path(record.base_python), record.python_version, Path(record.base_prefix), record.implementation)


def of_plain(generation: Generation) -> Interpreter:
    """The interpreter that a plain venv was made from, which may be a copy of.

    Raises:
        PackageError: nothing to be trusted tells which one that is.
    """
    default = pythons.default()
    python = generation.python.resolve()
    if not python.is_relative_to(generation.path.resolve()):
        same = python == default.python.resolve()
        return default if same else Interpreter(python, generation.python_version, generation.base_prefix)
    made_from = plain.interpreter(generation.path)
    if made_from is not None and made_from.python.resolve() == default.python.resolve():
        return default
    if made_from is None or not pythons.is_of_machine(made_from.python):
        raise PackageError(f"the Python of {str(generation.path)!r} is a copy, and of none that is known here")
    return made_from
