"""What a person changes by hand in a finished generation: never noticed by an execution, told by a closer look."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.model import Change, VenvStatus
from mcp_python_executor.venvs.operations import Venvs
from tests.venvs.invariants import each_holds_what_it_says

pytestmark = pytest.mark.anyio


async def _by_hand(base: Path, change: Callable[[Path], object]) -> None:
    """What root may do, and whoever makes it writable first."""
    (packages,) = (base / "lab").glob("lib/python*/site-packages")
    packages.chmod(0o700)
    await anyio.to_thread.run_sync(change, packages)


def _add(packages: Path) -> None:
    (packages / "mine-1.0.dist-info").mkdir()
    (packages / "mine.py").touch()


def _remove_six(packages: Path) -> None:
    for path in (*packages.glob("six*.dist-info"), packages / "six.py"):
        remove_tree(path) if path.is_dir() else path.unlink()


async def test_what_was_added_by_hand_is_told_listed_and_still_runs(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    assert (await venvs.get("lab")).drift == ""
    await _by_hand(base, _add)
    told = await venvs.get("lab")
    assert told.status is VenvStatus.READY
    assert told.problem == ""
    assert told.drift.startswith("its packages were changed by hand: mine 1.0 was added; ")
    assert "install_packages" in told.drift
    assert "`mcp-python-executor venv repair lab`" in told.drift
    assert [(one.name, one.requested) for one in await venvs.packages("lab")] == [("mine", True), ("six", True)]
    async with venvs.lease("lab") as generation:
        await anyio.run_process([generation.python, "-I", "-c", "import mine, six"])


async def test_what_was_removed_or_replaced_by_hand_is_told(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0, iniconfig==2.0.0")
    await _by_hand(base, _remove_six)
    await _by_hand(
        base, lambda packages: (packages / "iniconfig-2.0.0.dist-info").rename(packages / "iniconfig-9.dist-info")
    )
    assert "six 1.17.0 was removed, iniconfig is 9 and was 2.0.0; " in (await venvs.get("lab")).drift


async def test_a_list_of_environments_does_not_look_for_it(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    await _by_hand(base, _add)
    (listed,) = await venvs.list()
    assert (listed.status, listed.problem, listed.drift, listed.package_count) == (VenvStatus.READY, "", "", 1)


async def test_the_next_change_undoes_it_and_says_so(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    await _by_hand(base, _add)
    report = await venvs.install("lab", "iniconfig")
    assert [change.name for change in report.added] == ["iniconfig"]
    assert report.removed == [Change("mine", "1.0")]
    assert (await venvs.get("lab")).drift == ""
    await each_holds_what_it_says(venvs, base)


async def test_what_is_gone_by_hand_comes_back_when_it_is_asked_for_again(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    await _by_hand(base, _remove_six)
    report = await venvs.install("lab", "six")
    assert report.added == [Change("six", "1.17.0")]
    await each_holds_what_it_says(venvs, base)


async def test_what_was_added_by_hand_can_be_uninstalled(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    await _by_hand(base, _add)
    assert (await venvs.uninstall("lab", "mine")).removed == [Change("mine", "1.0")]
    await each_holds_what_it_says(venvs, base)


async def test_a_new_environment_never_gets_what_was_changed_by_hand_in_another(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    await _by_hand(base, _add)
    await venvs.install("other", "six==1.17.0")
    assert [package.name for package in await venvs.packages("other")] == ["six"]
    assert (await venvs.get("other")).drift == ""


async def test_a_repair_puts_back_what_was_and_a_rollback_returns_to_what_was_done_by_hand(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.17.0")
    await _by_hand(base, _add)
    repaired = await venvs.repair("lab")
    assert (repaired.drift, repaired.package_count) == ("", 1)
    await each_holds_what_it_says(venvs, base)
    await venvs.rollback("lab")
    assert "mine 1.0 was added" in (await venvs.get("lab")).drift


async def test_nothing_is_taken_for_a_change_that_packages_do_to_themselves(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    await _by_hand(base, lambda packages: (packages / "__pycache__").mkdir(exist_ok=True))
    await _by_hand(base, lambda packages: (packages / "~ix-1.0.dist-info").mkdir())
    await _by_hand(base, lambda packages: os.utime(packages))
    assert (await venvs.get("lab")).drift == ""
