"""Where is measured: a directory with environments, the servers over it, and plain processes beside them."""

import os
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from benchmarks.programs import PACKAGES

# The default environment, without packages, and the one with those of the programs.
BARE, FULL = "bare", "full"


class Bench:
    """A client that is connected to a server, and calls its tools, which have to succeed."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Calls a tool."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise SystemExit(f"{tool} failed: {result.content}")
        return result

    async def execute(self, code: str, venv: str = BARE) -> CallToolResult:
        """Runs a program by the tool."""
        return await self.call("execute_python", code=code, venvName=venv)

    async def warm(self, code: str, venv: str) -> None:
        """Runs a program until the server has learned what it imports, which goes on behind the answers."""
        for _ in range(5):
            await self.execute(code, venv)
            await anyio.sleep(0.2)


class Site:
    """A directory to measure in, how many rounds of each program, of each environment and of the memory's runs."""

    def __init__(self, directory: Path, *, rounds: int, installs: int, executions: int) -> None:
        self.directory, self.rounds, self.installs, self.executions = directory, rounds, installs, executions
        self.venvs = directory / "venvs"
        self._environment = os.environ | {"UV_CACHE_DIR": str(directory / "cache"), "OUTPUT_PATH": str(directory)}

    def beside(self, name: str) -> "Site":
        """Another one below this one."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return Site(directory, rounds=self.rounds, installs=self.installs, executions=self.executions)

    def parameters(self, *command: str, **settings: str) -> StdioServerParameters:
        """A server run by the module and arguments `command`, ours by default."""
        ours = {"VENVS_BASE_PATH": str(self.venvs), "DEFAULT_VENV_NAME": BARE, "LOG_LEVEL": "error"} | settings
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

    def python(self, venv: str) -> Path:
        """The environment's own interpreter."""
        return self.venvs / venv / "bin" / "python"

    def run(self, *command: str | Path) -> None:
        """Runs a plain process to its end."""
        subprocess.run(command, env=self._environment, cwd=self.directory, capture_output=True, check=True)


async def settled(venv: Path) -> None:
    """Returns when an environment's modules are compiled, which goes on behind an install and takes the cores."""
    marker = anyio.Path(venv / "generation.json")
    with anyio.fail_after(1800):
        while (await marker.stat()).st_mode & stat.S_IWUSR:  # noqa: ASYNC110 - another process seals it, last
            await anyio.sleep(0.1)
