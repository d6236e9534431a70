"""Where is measured: a directory with environments, the servers over it, and plain processes beside them."""

import os
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from benchmarks.programs import PACKAGES

# The default environment, without packages, and the one with those of the programs.
BARE, FULL = "bare", "full"


@dataclass(frozen=True, slots=True)
class Adapter:
    """Which tool runs a program, and its arguments: $CODE stands for the program, $VENV for the environment."""

    tool: str
    arguments: Mapping[str, Any]

    def call(self, code: str, venv: str) -> dict[str, Any]:
        """The arguments for a program."""
        values = {"$CODE": code, "$VENV": venv}
        return {
            name: values.get(value, value) if isinstance(value, str) else value
            for name, value in self.arguments.items()
        }


OURS = Adapter("execute_python", {"code": "$CODE", "venvName": "$VENV"})


@dataclass(frozen=True, slots=True)
class Rival:
    """Another server that runs Python, started by `command`."""

    name: str
    command: tuple[str, ...]
    adapter: Adapter


class Failed(Exception):
    """A server does not do what is to be measured."""


class Bench:
    """A client that is connected to a server, and calls its tools, which have to succeed."""

    def __init__(self, client: Client, adapter: Adapter = OURS) -> None:
        self.client, self._adapter = client, adapter

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Calls a tool."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise Failed(f"{tool} failed: {result.content}")
        return result

    async def execute(self, code: str, venv: str = BARE) -> CallToolResult:
        """Runs a program by the tool."""
        return await self.call(self._adapter.tool, **self._adapter.call(code, venv))


class Site:
    """A directory to measure in, how many rounds of each program, of each environment and of the memory's runs."""

    def __init__(self, directory: Path, *, rounds: int, installs: int, executions: int) -> None:
        self.directory, self.rounds, self.installs, self.executions = directory, rounds, installs, executions
        self._rival: Rival | None = None
        self.venvs = directory / "venvs"
        self._environment = os.environ | {"UV_CACHE_DIR": str(directory / "cache"), "OUTPUT_PATH": str(directory)}

    def beside(self, name: str) -> "Site":
        """Another one below this one."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return Site(directory, rounds=self.rounds, installs=self.installs, executions=self.executions)

    def for_rival(self, rival: Rival) -> "Site":
        """The same one, where what is measured is a rival."""
        site = Site(self.directory, rounds=self.rounds, installs=self.installs, executions=self.executions)
        site._rival = rival
        return site

    def parameters(self, *command: str, **settings: str) -> StdioServerParameters:
        """A server run by the module and arguments `command`, ours by default."""
        log = str(self.directory / "log")
        ours = {"VENVS_BASE_PATH": str(self.venvs), "DEFAULT_VENV_NAME": BARE, "LOG_FILE": log} | settings
        args = ["-m", *(command or ("mcp_python_executor",))]
        return StdioServerParameters(command=sys.executable, args=args, env=os.environ | ours)

    @asynccontextmanager
    async def client(self, *command: str, **settings: str) -> AsyncGenerator[Bench]:
        """A server alone, whatever it serves."""
        async with Client(self.parameters(*command, **settings)) as client:
            yield Bench(client)

    @asynccontextmanager
    async def server(self, *command: str, venv: str = BARE, **settings: str) -> AsyncGenerator[Bench]:
        """A server over an environment `venv`, BARE or FULL, which is made where it is missing."""
        async with self.client(*command, **settings) as bench:
            await bench.execute("pass")  # once the default environment is there
            if not (self.venvs / venv).exists():
                await bench.call("install_packages", packages=[*PACKAGES], venvName=venv)
            await settled(self.venvs / venv)
            yield bench

    @asynccontextmanager
    async def measured(self, venv: str = BARE, **settings: str) -> AsyncGenerator[Bench]:
        """The server that is measured: ours, or a rival beside the environment that its floor runs in."""
        if self._rival is None or not (self.venvs / venv).exists():
            async with self.server(venv=venv, **settings) as bench:
                if self._rival is None:
                    yield bench
                    return
        async with self.started() as bench:
            yield bench

    @asynccontextmanager
    async def started(self) -> AsyncGenerator[Bench]:
        """The server that is measured, as soon as it is connected to."""
        if self._rival is None:
            async with self.client() as bench:
                yield bench
            return
        program, *arguments = self._rival.command
        rival = StdioServerParameters(command=program, args=arguments, env=dict(os.environ), cwd=self.directory)
        async with Client(rival) as client:
            yield Bench(client, self._rival.adapter)

    async def warm(self, bench: Bench, code: str, venv: str) -> None:
        """Runs a program until the server has learned what it imports, which goes on behind the answers.

        What a plain process prints last must be told.
        """
        printed = self.run(self.python(venv), "-I", "-c", code).split("\n")[-1]
        for _ in range(5):
            result = await bench.execute(code, venv)
            told = "".join(part.text for part in result.content if isinstance(part, TextContent))
            if printed not in told:
                raise Failed(f"{code!r} prints {printed!r}, and that is not in {told!r}")
            await anyio.sleep(0.2)

    def python(self, venv: str) -> Path:
        """The environment's own interpreter."""
        return self.venvs / venv / "bin" / "python"

    def run(self, *command: str | Path) -> str:
        """What a plain process prints, once it has ended."""
        ran = subprocess.run(
            command, env=self._environment, cwd=self.directory, capture_output=True, check=True, text=True
        )
        return ran.stdout.strip()


async def settled(venv: Path) -> None:
    """Returns when an environment's modules are compiled, which goes on behind an install and takes the cores."""
    marker = anyio.Path(venv / "generation.json")
    with anyio.fail_after(1800):
        while (await marker.stat()).st_mode & stat.S_IWUSR:  # noqa: ASYNC110 - another process seals it, last
            await anyio.sleep(0.1)
