import shutil
import venv as standard
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import InvalidArgument, PackageError
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.model import Change, VenvStatus
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio


async def _names(venvs: Venvs) -> list[str]:
    return [package.name for package in await venvs.packages("lab")]


async def test_an_environment_returns_to_what_it_was_before_and_a_second_call_undoes_that(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.16.0")
    await venvs.install("lab", "six==1.17.0, iniconfig")
    told: list[str] = []
    report = await venvs.rollback("lab", listener=told.append)
    assert report.changed == [Change("six", "1.16.0", "1.17.0")]
    assert [change.name for change in report.removed] == ["iniconfig"]
    assert told == ["switching"]
    assert await _names(venvs) == ["six"]
    await each_holds_what_it_says(venvs, base)
    report = await venvs.rollback("lab")
    assert [change.name for change in report.added] == ["iniconfig"]
    assert await _names(venvs) == ["iniconfig", "six"]
    await all_is_tidy(venvs, base)


async def test_an_install_after_it_builds_on_what_it_returned_to(venvs: Venvs):
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")
    await venvs.rollback("lab")
    await venvs.install("lab", "packaging")
    assert await _names(venvs) == ["packaging", "six"]
    await venvs.rollback("lab")
    assert await _names(venvs) == ["six"]


async def test_generations_are_told_as_the_present_one_and_those_to_return_to(venvs: Venvs):
    for packages in ("six", "iniconfig", "packaging"):
        await venvs.install("lab", packages)
    told = await venvs.generations("lab")
    assert [(one.is_current, one.package_count) for one in told] == [(True, 3), (False, 2), (False, 1)]
    assert all(one.made_at and one.python_version for one in told)
    await venvs.rollback("lab")
    assert [one.id for one in await venvs.generations("lab")] == [told[1].id, told[0].id, told[2].id]


async def test_three_generations_are_kept_and_those_before_them_go(venvs: Venvs, base: Path):
    await venvs.create("lab")
    for packages in ("six", "iniconfig", "packaging", "python-dateutil==2.9.0.post0"):
        await venvs.install("lab", packages)
    assert [one.package_count for one in await venvs.generations("lab")] == [4, 3, 2, 1]
    await all_is_tidy(venvs, base)


async def test_the_description_stays(venvs: Venvs):
    await venvs.create("lab")
    await venvs.install("lab", "six")
    await venvs.describe("lab", "newer than what it returns to")
    await venvs.rollback("lab")
    assert (await venvs.get("lab")).description == "newer than what it returns to"


async def test_one_with_nothing_before_it_stays_as_it_is(venvs: Venvs):
    await venvs.create("lab")
    with pytest.raises(InvalidArgument, match="'lab' has no generation to return to"):
        await venvs.rollback("lab")
    with pytest.raises(InvalidArgument, match=r"'lib' does not exist.*did you mean 'lab'"):
        await venvs.rollback("lib")


async def test_a_plain_one_has_no_generations_to_return_to(venvs: Venvs, base: Path):
    standard.create(base / "old", symlinks=True)
    with pytest.raises(InvalidArgument, match="'old' was made by another tool and has no generations"):
        await venvs.rollback("old")
    assert [one.is_current for one in await venvs.generations("old")] == [True]


async def test_what_is_gone_is_not_returned_to(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")
    current, before = [one.id for one in await venvs.generations("lab")]
    await anyio.to_thread.run_sync(remove_tree, Store(base).path(before))
    with pytest.raises(PackageError, match=r"can't return .* its files are gone"):
        await venvs.rollback("lab")
    assert [one.id for one in await venvs.generations("lab")] == [current]


async def test_what_lost_its_interpreter_is_not_returned_to(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")
    before = Store(base).path((await venvs.generations("lab"))[1].id)
    (before / "bin").chmod(0o700)
    (before / "bin" / "python").unlink()
    with pytest.raises(PackageError, match=r"can't return .* the Python '.*' that it was made from is gone"):
        await venvs.rollback("lab")
    assert await _names(venvs) == ["iniconfig", "six"]


async def test_one_whose_files_are_gone_can_return_and_never_comes_back_to_them(opened: Open, base: Path):
    async with opened() as venvs:
        await venvs.install("lab", "six")
        await venvs.install("lab", "iniconfig")
    await anyio.to_thread.run_sync(remove_tree, (base / "lab").resolve())
    async with opened() as venvs:
        assert (await venvs.get("lab")).status is VenvStatus.BROKEN
        await venvs.rollback("lab")
        assert (await venvs.get("lab")).status is VenvStatus.READY
        assert len(await venvs.generations("lab")) == 1
        await all_is_tidy(venvs, base)


async def test_what_runs_in_what_was_left_goes_on(venvs: Venvs):
    await venvs.install("lab", "six==1.16.0")
    await venvs.install("lab", "six==1.17.0")
    async with venvs.lease("lab") as generation:
        await venvs.rollback("lab")
        await venvs.tidy()
        assert generation.python.exists()
        assert shutil.which(generation.python)
