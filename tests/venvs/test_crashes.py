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

from tests.venvs.conftest import BUBBLEWRAP, Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

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
    return done.returncode, int(done.stdout.removeprefix("begin\n") or 0)


async def _check(opened: Open, base: Path, allowed: list[list[str] | None]) -> None:
    async with opened() as venvs:
        await all_is_tidy(venvs, base)
        await each_holds_what_it_says(venvs, base)
        names = await venvs.names()
        found = [package.name for package in await venvs.packages("lab")] if "lab" in names else None
        assert found in allowed


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
    for step in sample(list(_steps(pristine, operation)), 4):
        shutil.rmtree(started, ignore_errors=True)
        shutil.copytree(pristine, started, symlinks=True, copy_function=os.link)
        status, _ = await anyio.to_thread.run_sync(_run, started, operation, step)
        statuses.append(status)
        await _check(opened, started, _OPERATIONS[operation])
    # What goes on behind an operation is not the same each time: the last steps may not be reached.
    assert -signal.SIGKILL in statuses


@pytest.mark.parametrize("operation", ["install", "install_new", "uninstall"])
async def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    opened: Open, started: Path, operation: str, sample: Callable[[list[int], int], list[int]]
):
    pristine = started.with_name("pristine")
    await anyio.to_thread.run_sync(lambda: started.rename(pristine))
    for hundredth in sample(list(range(0, 80, 1)), 3):
        shutil.rmtree(started, ignore_errors=True)
        shutil.copytree(pristine, started, symlinks=True, copy_function=os.link)
        await _killed_after(started, operation, hundredth / 100)
        await _check(opened, started, _OPERATIONS[operation])


async def _killed_after(base: Path, operation: str, seconds: float) -> None:
    """A server that does `operation` is killed so long after it began, whatever it is at then."""
    command = [sys.executable, str(_PROGRAM), str(base), operation, "-1", BUBBLEWRAP or ""]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as server:
        assert server.stdout
        assert await server.stdout.receive(6) == b"begin\n"
        with anyio.move_on_after(seconds):
            await server.wait()
        if server.returncode is None:
            server.kill()
