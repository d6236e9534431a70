"""A real interpreter and a real engine around it."""

import os
import platform
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import coverage
import pytest
import uv

from mcp_python_executor.execution.cgroups import open_cgroups
from mcp_python_executor.execution.engine import Engine
from mcp_python_executor.execution.model import ExecutionRequest, ExecutionResult, Interpreter, OutputListener
from mcp_python_executor.execution.runner import Runner
from mcp_python_executor.execution.surroundings import Surroundings, surroundings
from mcp_python_executor.execution.zygotes import Zygotes, open_zygotes
from mcp_python_executor.limits import Limits
from mcp_python_executor.sandbox.probe import INSIDE, Confinement, probe
from mcp_python_executor.settings import Settings

PROGRAMS = Path(__file__).parent / "programs"


@dataclass
class Bench:
    """A runner with surroundings to run programs in."""

    runner: Runner
    zygotes: Zygotes
    surroundings: Surroundings

    async def run(self, code: str, *, listener: OutputListener | None = None, **request: Any) -> ExecutionResult:
        """Runs inline code; what is run must not fail by our fault."""
        asked = ExecutionRequest(code=code, venv_name="default", **request)
        return await self.runner.execute(asked, self.surroundings, listener)

    async def run_program(self, name: str, **request: Any) -> ExecutionResult:
        """Runs one of tests/programs."""
        return await self.run((PROGRAMS / name).read_text(), **request)

    async def make_room(self) -> None:
        """Has as many programs under way, and ready to be, as may be: their namespaces stay for those that follow."""
        async with anyio.create_task_group() as tasks:
            for _ in range(2 * self.zygotes.engine.limits.concurrent):
                tasks.start_soon(self.run, "import time\ntime.sleep(0.2)")


OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]


def make_interpreter(directory: Path, *packages: str) -> Interpreter:
    """An environment of its own in `directory`, with `packages`."""
    base = sys.base_prefix
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, directory], check=True)
    python = directory / "bin" / "python"
    if packages:
        subprocess.run([uv.find_uv_bin(), "pip", "install", "-q", "--python", python, *packages], check=True)
        subprocess.run([python, "-m", "compileall", "-q", directory / "lib"], check=False)
    return Interpreter(directory.name, python, directory, Path(base), platform.python_version())


def measured(python: Path) -> Path:
    """Where coverage is measured, an interpreter that measures what runs inside; behind walls it could not write."""
    if "COVERAGE_RUN" not in os.environ:
        return python
    settings, wrapper = python.with_name("coveragerc"), python.with_name("measured")
    settings.write_text(
        "[run]\nbranch = true\nparallel = true\npatch = _exit\n"
        f"data_file = {Path.cwd() / '.coverage'}\nsource = {INSIDE}\n"
    )
    packages = Path(coverage.__file__).parent.parent
    wrapper.write_text(
        "#!/bin/sh\nboot=$3\nshift 3\n"
        f"export COVERAGE_PROCESS_START={settings} PYTHONPATH={packages}\n"
        f'exec {python} -S -c "import coverage; coverage.process_startup(); $boot" "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """An environment with nothing installed."""
    return make_interpreter(tmp_path_factory.mktemp("environments") / "empty")


@pytest.fixture(scope="session")
def plotting_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """An environment with numpy, pandas and matplotlib."""
    directory = tmp_path_factory.mktemp("environments") / "plotting"
    return make_interpreter(directory, "numpy", "pandas", "matplotlib")


@pytest.fixture(params=["strict", "landlock", "none"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Behind all walls, behind those that stand without bubblewrap, and as a plain process."""
    return request.param


@pytest.fixture
def open_bench(tmp_path: Path, interpreter: Interpreter) -> OpenBench:
    """`async with open_bench(isolation="strict", limits=..., settings..., script=...) as bench`."""

    return partial(bench_in, tmp_path, within=interpreter)


@asynccontextmanager
async def bench_in(
    directory: Path,
    *,
    within: Interpreter,
    isolation: str = "strict",
    confinement: Confinement | None = None,
    limits: Limits | None = None,
    script: Path | None = None,
    runs: str = "runs",
    **settings: Any,
) -> AsyncGenerator[Bench]:
    """A bench whose runs are at `runs` in `directory`; `within` is its environment."""
    if confinement is None and isolation != "none":
        walls = await probe(directory)
        confinement = walls.confinement if isolation == "strict" else Confinement(landlock=True, seccomp=True)
        assert confinement, walls.missing
    chosen = Settings(venvs_base_path=directory / "venvs", **settings)
    chosen_python = within if isolation != "none" else replace(within, python=measured(within.python))
    around = surroundings(chosen, chosen_python, script, os.environ)
    with open_cgroups() as cgroups:
        engine = Engine(confinement or Confinement(), directory / runs, limits or Limits(), cgroups)
        async with anyio.create_task_group() as tasks, open_zygotes(engine) as zygotes:
            yield Bench(Runner(zygotes, tasks), zygotes, around)
