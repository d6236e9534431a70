"""A server that is killed at any step of an operation leaves the old state or the new one, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import BUBBLEWRAP, Open

pytestmark = pytest.mark.anyio

_PROGRAM = Path(__file__).parent / "dies_at_step.py"
# Each with the packages that the environment 'lab' may have afterwards, None for no such environment.
_OPERATIONS: dict[str, list[list[str] | None]] = {
    "create": [["six"]],
    "install": [["six"], ["iniconfig", "six"]],
    "install_new": [["six"]],
    "uninstall": [["six"], []],
    "delete": [["six"], None],
    "describe": [["six"]],
}


@pytest.fixture
async def started(opened: Open, base: Path) -> Path:
    """A base path with the environment 'lab', in which six is."""
    async with opened() as venvs:
        await venvs.install("lab", "six")
    return base


def _run(base: Path, operation: str, step: int) -> tuple[int, int]:
    """Exit status, and how many steps there were, of a server that does `operation` and dies at `step`."""
    walls = BUBBLEWRAP or ""
    command = [sys.executable, str(_PROGRAM), str(base), operation, str(step), walls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, int(done.stdout or 0)


async def _check(opened: Open, base: Path, allowed: list[list[str] | None]) -> None:
    async with opened() as venvs:
        await venvs.tidy()
        await _each_holds_what_it_says(venvs, base)
        names = await venvs.names()
        found = [package.name for package in await venvs.packages("lab")] if "lab" in names else None
        assert found in allowed
    _nothing_is_left_over(base)


async def _each_holds_what_it_says(venvs: Venvs, base: Path) -> None:
    for venv in await venvs.list():
        assert venv.problem == ""
        installed = [(package.name, package.version) for package in plain.packages(base / venv.name)]
        assert installed == [(package.name, package.version) for package in await venvs.packages(venv.name)]
        modules = ", ".join(["sys", *(name for name, _ in installed)])
        async with venvs.lease(venv.name) as generation:
            await anyio.run_process([generation.python, "-I", "-c", f"import {modules}"])


def _nothing_is_left_over(base: Path) -> None:
    store = Store(base)
    named = {store.current(name) for name in store.names()}
    for name in store.names():
        if record := store.venv_record(name):
            named |= set(record.history)
    assert {path.name for path in store.generations.iterdir()} <= named
    for directory in ("tmp", "trash"):
        assert list((store.root / directory).iterdir()) == []
    assert {path.name for path in store.locks.iterdir()} <= set(store.names())


def _steps(base: Path, operation: str) -> Iterator[int]:
    """Every step of `operation`, found out by doing it on a copy."""
    copy = base.with_name("counted")
    shutil.copytree(base, copy, symlinks=True, copy_function=os.link)
    _, steps = _run(copy, operation, -1)
    assert steps > 0
    yield from range(steps)


@pytest.mark.parametrize("operation", _OPERATIONS)
async def test_a_kill_at_any_step_leaves_the_old_or_the_new(
    opened: Open, started: Path, operation: str, sample: Callable[[list[int], int], list[int]]
):
    pristine = started.with_name("pristine")
    await anyio.to_thread.run_sync(lambda: started.rename(pristine))
    statuses: list[int] = []
    for step in sample(list(_steps(pristine, operation)), 6):
        shutil.rmtree(started, ignore_errors=True)
        shutil.copytree(pristine, started, symlinks=True, copy_function=os.link)
        status, _ = await anyio.to_thread.run_sync(_run, started, operation, step)
        statuses.append(status)
        await _check(opened, started, _OPERATIONS[operation])
    # What goes on behind an operation is not the same each time: the last steps may not be reached.
    assert -signal.SIGKILL in statuses
