"""Which interpreter an environment is made from."""

from pathlib import Path

from anyio.to_thread import run_sync

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import pythons
from mcp_python_executor.venvs.model import Generation
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import GenerationRecord
from mcp_python_executor.venvs.uv import Uv


class Interpreters:
    """The interpreters of this machine, looked for once, and only when the server's own will not do."""

    def __init__(self, uv: Uv) -> None:
        self._uv = uv
        self._found: list[Interpreter] | None = None

    async def choose(self, python_version: str) -> Interpreter:
        """The interpreter for the `pythonVersion` of a call; empty means the server's own.

        Raises:
            InvalidArgument: it is no version, or none will do.
            PackageError: they can't be looked for.
        """
        default = pythons.default()
        if not python_version or pythons.specifiers(python_version).contains(default.version):
            return default
        if self._found is None:
            directories = await run_sync(pythons.directories, Path.home())
            self._found = await self._uv.pythons(directories)
        return pythons.choose(python_version, default, self._found)

    async def at(self, python: Path) -> Interpreter:
        """The interpreter at the path `python`, which a person chose at the terminal.

        Raises:
            InvalidArgument: there is none that can be used.
        """
        chosen = await run_sync(python.resolve)
        for found in await self._uv.pythons([chosen.parent]):
            if found.python == chosen:
                return found
        raise InvalidArgument(f"{str(python)!r} is no Python interpreter that can be used")


def of_generation(record: GenerationRecord) -> Interpreter:
    """The interpreter that a generation was made from."""
    default = pythons.default()
    if str(default.python) == record.base_python:
        return default  # perhaps updated in its place since
    return Interpreter(Path(record.base_python), record.python_version, Path(record.base_prefix), record.implementation)


def of_plain(generation: Generation) -> Interpreter:
    """The interpreter that a plain venv was made from."""
    default = pythons.default()
    python = generation.python.resolve()
    if python == default.python.resolve():
        return default
    return Interpreter(python, generation.python_version, generation.base_prefix)
