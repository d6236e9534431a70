"""A server that is killed at any step of an operation leaves the old state or the new one, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv as standard
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.model import VenvStatus
from mcp_python_executor.venvs.operations import Venvs
from tests.venvs.archives import Offer
from tests.venvs.conftest import BUBBLEWRAP, Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

_PROGRAM = Path(__file__).parent / "dies_at_step.py"

Prepare = Callable[[Venvs, Path], Awaitable[None]]
Record = Callable[[str, object], None]
"""Puts a figure of a test into the report of a run: how many kills there were."""


async def _with_six(venvs: Venvs, _base: Path) -> None:
    await venvs.install("lab", "six")


async def _with_a_past(venvs: Venvs, _base: Path) -> None:
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")


async def _without_files(venvs: Venvs, base: Path) -> None:
    await venvs.install("lab", "six")
    await venvs.tidy()
    remove_tree((base / "lab").resolve())


async def _without_marker(venvs: Venvs, base: Path) -> None:
    await venvs.install("lab", "six")
    await venvs.tidy()
    (base / "lab").chmod(0o700)
    (base / "lab" / "generation.json").unlink()


async def _changed_by_hand(venvs: Venvs, base: Path) -> None:
    await venvs.install("lab", "six")
    await venvs.tidy()
    (packages,) = plain.site_packages(base / "lab")
    packages.chmod(0o700)
    (packages / "mine-1.0.dist-info").mkdir()


async def _plain(venvs: Venvs, base: Path) -> None:
    await venvs.install("from", "six")
    standard.create(base / "lab", symlinks=True)
    (source,), (target,) = plain.site_packages(base / "from"), plain.site_packages(base / "lab")
    shutil.copytree(source, target, dirs_exist_ok=True)
    await venvs.delete("from")


async def _plain_without_interpreter(venvs: Venvs, base: Path) -> None:
    await _plain(venvs, base)
    for link in (base / "lab" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/gone/bin/python3")


@dataclass(frozen=True)
class _Case:
    """What is there before an operation, and the packages that 'lab' may have after it; None: there is no 'lab'."""

    operation: str
    prepare: Prepare
    allowed: Sequence[list[str] | None]


_CASES = {
    "create": _Case("create", _with_six, [["six"]]),
    "install": _Case("install", _with_six, [["six"], ["iniconfig", "six"]]),
    "install_new": _Case("install_new", _with_six, [["six"]]),
    "uninstall": _Case("uninstall", _with_six, [["six"], []]),
    "delete": _Case("delete", _with_six, [["six"], None]),
    "describe": _Case("describe", _with_six, [["six"]]),
    "rollback": _Case("rollback", _with_a_past, [["iniconfig", "six"], ["six"]]),
    "repair without files": _Case("repair", _without_files, [["six"]]),
    "repair without marker": _Case("repair", _without_marker, [["six"]]),
    "repair by hand": _Case("repair", _changed_by_hand, [["six"]]),
    "repair plain": _Case("repair", _plain_without_interpreter, [["six"]]),
    "adopt": _Case("install", _plain, [["six"], ["iniconfig", "six"]]),
    "adopt in two steps": _Case("adopt_in_two_steps", _plain, [["six"], ["iniconfig", "six"]]),
}


class _Pristine:
    """A base path as it is before an operation, laid anew for each kill."""

    def __init__(self, base: Path, offer: Offer | None = None) -> None:
        self.base = base
        self._kept = base.with_name("pristine")
        self._environment = offer.environment if offer else None
        self._version = offer.version if offer else ""
        base.rename(self._kept)

    def lay(self) -> None:
        deadline = time.monotonic() + 60
        while self.base.exists():  # the uv of a killed server may still be at work there
            assert time.monotonic() < deadline
            remove_tree(self.base)
        shutil.copytree(self._kept, self.base, symlinks=True, copy_function=os.link)

    def command(self, operation: str, step: int, end: str = "kill") -> list[str]:
        walls = BUBBLEWRAP or ""
        return [sys.executable, str(_PROGRAM), str(self.base), operation, str(step), walls, self._version, end]

    def run(self, operation: str, step: int, end: str = "kill") -> tuple[int, int]:
        """Exit status, and how many steps there were, of a server that does `operation`, which ends so at `step`."""
        command = self.command(operation, step, end)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=self._environment)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, int(done.stdout.removeprefix("begin\n") or 0)

    def steps(self, operation: str) -> Iterator[int]:
        """Every step of `operation`, found out by doing it."""
        self.lay()
        _, steps = self.run(operation, -1)
        assert steps > 0
        yield from range(steps)


async def _prepared(opened: Open, base: Path, prepare: Prepare) -> _Pristine:
    async with opened() as venvs:
        await prepare(venvs, base)
        await venvs.tidy()
    return await anyio.to_thread.run_sync(_Pristine, base)


async def _check(opened: Open, base: Path, allowed: Sequence[list[str] | None]) -> None:
    async with opened() as venvs:
        # What a killed server had just forked has its lock until it begins another program.
        with anyio.fail_after(60):
            while any(venv.status is VenvStatus.BUSY for venv in await venvs.list()):  # noqa: ASYNC110 - it tells nobody
                await anyio.sleep(0.01)
        for venv in await venvs.list():
            # Only what was broken before may be so: it can still be repaired.
            if venv.status is VenvStatus.BROKEN or (await venvs.get(venv.name)).drift:
                assert allowed == [["six"]]
                await venvs.repair(venv.name)
        await all_is_tidy(venvs, base)
        await each_holds_what_it_says(venvs, base)
        names = await venvs.names()
        found = [package.name for package in await venvs.packages("lab")] if "lab" in names else None
        assert found in allowed


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
async def test_a_kill_at_any_step_leaves_the_old_or_the_new(
    opened: Open, base: Path, case: _Case, sample: Callable[[list[int], int], list[int]], record_property: Record
):
    pristine = await _prepared(opened, base, case.prepare)
    statuses: list[int] = []
    for step in sample(list(pristine.steps(case.operation)), 3):
        await anyio.to_thread.run_sync(pristine.lay)
        status, _ = await anyio.to_thread.run_sync(pristine.run, case.operation, step)
        statuses.append(status)
        await _check(opened, base, case.allowed)
    # What goes on behind an operation is not the same each time: the last steps may not be reached.
    assert -signal.SIGKILL in statuses
    record_property("kills", statuses.count(-signal.SIGKILL))


@pytest.mark.parametrize("name", ["create", "install", "uninstall", "rollback", "repair without files", "adopt"])
async def test_a_cancellation_at_any_step_leaves_the_old_or_the_new_to_the_server_that_goes_on(
    opened: Open, base: Path, name: str, sample: Callable[[list[int], int], list[int]]
):
    case = _CASES[name]
    pristine = await _prepared(opened, base, case.prepare)
    for step in sample(list(pristine.steps(case.operation)), 1):
        await anyio.to_thread.run_sync(pristine.lay)
        await anyio.to_thread.run_sync(pristine.run, case.operation, step, "cancel")
        await _check(opened, base, case.allowed)


async def test_a_kill_at_any_step_of_a_download_leaves_a_whole_interpreter_or_none(
    opened: Open, base: Path, offer: Offer, sample: Callable[[list[int], int], list[int]], record_property: Record
):
    async with opened() as venvs:
        await _with_six(venvs, base)
    pristine = await anyio.to_thread.run_sync(_Pristine, base, offer)
    statuses: list[int] = []
    for step in sample(list(pristine.steps("download")), 3):
        await anyio.to_thread.run_sync(pristine.lay)
        status, _ = await anyio.to_thread.run_sync(pristine.run, "download", step)
        statuses.append(status)
        await _check(opened, base, [["six"]])
    assert -signal.SIGKILL in statuses
    record_property("kills", statuses.count(-signal.SIGKILL))


@pytest.mark.parametrize("name", ["install", "install_new", "uninstall", "repair without files", "adopt"])
async def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    opened: Open, base: Path, name: str, sample: Callable[[list[int], int], list[int]], record_property: Record
):
    case = _CASES[name]
    pristine = await _prepared(opened, base, case.prepare)
    kills = 0
    for hundredth in sample(list(range(80)), 2):
        await anyio.to_thread.run_sync(pristine.lay)
        kills += await _killed_after(pristine.command(case.operation, -1), hundredth / 100)
        await _check(opened, base, case.allowed)
    record_property("kills", kills)


@pytest.mark.parametrize("name", ["create", "install", "install_new", "uninstall", "repair without files", "adopt"])
async def test_a_kill_of_uv_at_any_moment_leaves_the_old_or_the_new(
    opened: Open,
    base: Path,
    name: str,
    sample: Callable[[list[tuple[int, int]], int], list[tuple[int, int]]],
    record_property: Record,
):
    case = _CASES[name]
    pristine = await _prepared(opened, base, case.prepare)
    kills = 0
    # Of its starts during an operation the second one links; none takes longer.
    for start, hundredth in sample([(start, hundredth) for start in (1, 2) for hundredth in range(12)], 2):
        await anyio.to_thread.run_sync(pristine.lay)
        said = await anyio.to_thread.run_sync(
            _with_uv_killed, pristine.command(case.operation, -1), start, hundredth / 100
        )
        assert not said or "uv was killed by signal 9; nothing was changed, so call again" in said
        kills += bool(said)
        await _check(opened, base, case.allowed)
    record_property("kills", kills)


def _with_uv_killed(command: Sequence[str], start: int, seconds: float) -> str:
    """What a server says in the end whose uv is killed so long after it began for the `start`-th time."""
    begun: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        here = psutil.Process(server.pid)
        while server.poll() is None:
            with suppress(psutil.Error):
                for uv in here.children(recursive=True):
                    if uv.pid not in begun and uv.name() == "uv":
                        begun.add(uv.pid)
                        if len(begun) == start:
                            time.sleep(seconds)
                            uv.kill()
            time.sleep(0.001)
        _, said = server.communicate(timeout=60)
    return said


async def _killed_after(command: Sequence[str], seconds: float) -> bool:
    """Whether a server was killed so long after it began, whatever it was at then, and not over already."""
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as server:
        assert server.stdout
        assert await server.stdout.receive(6) == b"begin\n"
        with anyio.move_on_after(seconds):
            await server.wait()
        is_over = server.returncode is not None
        if not is_over:
            server.kill()
    return not is_over
