"""Broken environments, made again from what is written down of them."""

import json
import shutil
import sys
import venv as standard
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import InvalidArgument, PackageError, StoreError
from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.locks import try_lock
from mcp_python_executor.venvs.model import VenvStatus
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

Break = Callable[[Path], None]


def _whole(generation: Path) -> None:
    remove_tree(generation)


def _marker(generation: Path) -> None:
    generation.chmod(0o700)
    (generation / "generation.json").unlink()


def _link_to_python(generation: Path) -> None:
    (generation / "bin").chmod(0o700)
    (generation / "bin" / "python").unlink()


def _packages(generation: Path) -> None:
    remove_tree(generation / "lib")


_BREAKS = [_whole, _marker, _link_to_python, _packages]


async def _broken(opened: Open, base: Path, packages: str, how: Break) -> None:
    async with opened() as venvs:
        await venvs.install("lab", packages)
        await venvs.describe("lab", "what it is for")
    await anyio.to_thread.run_sync(how, (base / "lab").resolve())


@pytest.mark.parametrize("how", _BREAKS)
async def test_one_whose_files_are_gone_is_made_again_with_the_same_versions(opened: Open, base: Path, how: Break):
    await _broken(opened, base, "six==1.16.0, docopt", how)
    async with opened() as venvs:
        told: list[str] = []
        repaired = await venvs.repair("lab", listener=told.append)
        assert (repaired.status, repaired.drift, repaired.package_count) == (VenvStatus.READY, "", 2)
        assert repaired.description == "what it is for"
        assert not [stage for stage in told if stage.startswith(("resolving", "building"))]
        assert {one.name: (one.version, one.requested) for one in await venvs.packages("lab")}["six"] == (
            "1.16.0",
            True,
        )
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


@pytest.mark.parametrize("how", [_whole, _marker])
async def test_one_whose_files_are_gone_while_it_is_used_is_made_again_beside_it(opened: Open, base: Path, how: Break):
    await _broken(opened, base, "six==1.16.0", how)
    before = (base / "lab").readlink()
    used = try_lock(Store(base).leases / before.name, shared=True)
    assert used is not None
    async with opened() as venvs:
        with anyio.fail_after(60):
            assert (await venvs.repair("lab")).status is VenvStatus.READY
        assert (base / "lab").readlink() != before
        used.release()
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


@pytest.mark.parametrize("how", [_whole, _marker, _link_to_python])
async def test_until_then_it_says_how_to_repair_it_and_what_to_do_without_a_terminal(
    opened: Open, base: Path, how: Break
):
    await _broken(opened, base, "six", how)
    async with opened() as venvs:
        (listed,) = await venvs.list()
        assert listed.status is VenvStatus.BROKEN
        assert (
            "its files are gone; repair it in a terminal with `mcp-python-executor venv repair lab`" in listed.problem
        )
        assert listed.problem.endswith("or delete it with delete_venv, create it again and install what it needs")
        with pytest.raises(StoreError, match="venv repair lab"):
            async with venvs.lease("lab"):
                pass


async def test_one_that_is_well_is_left_as_it_is(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    before = (base / "lab").readlink()
    assert (await venvs.repair("lab")).status is VenvStatus.READY
    assert (base / "lab").readlink() == before
    with pytest.raises(InvalidArgument, match="'lib' does not exist"):
        await venvs.repair("lib")


async def test_one_of_which_nothing_is_known_says_so(opened: Open, base: Path):
    await _broken(opened, base, "six", _whole)
    for blueprint in (base / ".store" / "blueprints").iterdir():
        remove_tree(blueprint)
    async with opened() as venvs:
        with pytest.raises(StoreError, match="can't be repaired: its files are gone; delete it with delete_venv"):
            await venvs.repair("lab")
        assert "venv repair" not in (await venvs.get("lab")).problem


async def test_what_was_left_before_can_still_be_returned_to_and_the_broken_one_cannot(opened: Open, base: Path):
    async with opened() as venvs:
        await venvs.install("lab", "six")
    await _broken(opened, base, "iniconfig", _link_to_python)
    async with opened() as venvs:
        await venvs.repair("lab")
        assert [one.package_count for one in await venvs.generations("lab")] == [2, 1]
        await venvs.rollback("lab")
        assert [package.name for package in await venvs.packages("lab")] == ["six"]
        await all_is_tidy(venvs, base)


def _interpreter_gone(base: Path, version: str) -> None:
    """As if the interpreter had been another one that was removed since: what is written down says so."""
    for folder in (Path(base / "lab").resolve(), Store(base).blueprints / (base / "lab").resolve().name):
        folder.chmod(0o700)
        marker = folder / "generation.json"
        marker.chmod(0o600)
        told = {**json.loads(marker.read_text()), "base_python": "/gone/bin/python3", "base_prefix": "/gone"}
        marker.write_text(json.dumps({**told, "python_version": version}))
    python = base / "lab" / "bin" / "python"
    python.parent.chmod(0o700)
    python.unlink()
    python.symlink_to("/gone/bin/python3")


async def test_another_interpreter_of_the_same_minor_version_takes_the_place_of_one_that_is_gone(
    opened: Open, base: Path
):
    async with opened() as venvs:
        await venvs.install("lab", "six==1.16.0")
    mine = pythons.default()
    _interpreter_gone(base, f"{mine.minor}.99")
    async with opened() as venvs:
        (listed,) = await venvs.list()
        assert "the Python '/gone/bin/python3' that it was made from is gone; repair it" in listed.problem
        repaired = await venvs.repair("lab")
        assert repaired.python_version.startswith(mine.minor)
        assert [one.version for one in await venvs.packages("lab")] == ["1.16.0"]
        await each_holds_what_it_says(venvs, base)
        await venvs.install("lab", "iniconfig")
        await all_is_tidy(venvs, base)


async def test_where_there_is_none_of_that_version_it_says_what_to_install(opened: Open, base: Path):
    async with opened() as venvs:
        await venvs.install("lab", "six")
    _interpreter_gone(base, "3.99.1")
    async with opened() as venvs:
        with pytest.raises(
            StoreError, match=r"'lab' can't be repaired: no Python 3\.99 on this machine; there are .*install"
        ):
            await venvs.repair("lab")
        assert (await venvs.get("lab")).status is VenvStatus.BROKEN


def _plain(path: Path, source: Path) -> None:
    """A plain venv folder with the packages of `source`, whose interpreter is gone."""
    standard.create(path, symlinks=True)
    (here,), (there,) = plain.site_packages(source), plain.site_packages(path)
    shutil.copytree(here, there, dirs_exist_ok=True)
    for link in (path / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/gone/bin/python3")


async def test_a_plain_one_whose_interpreter_is_gone_is_taken_over_with_its_packages(venvs: Venvs, base: Path):
    await venvs.install("from", "six==1.16.0, iniconfig==2.0.0")
    await anyio.to_thread.run_sync(_plain, base / "old", base / "from")
    await venvs.describe("old", "from long ago")
    problem = (await venvs.get("old")).problem
    assert (
        "repair it in a terminal with `mcp-python-executor venv repair old`, or delete it with delete_venv" in problem
    )
    repaired = await venvs.repair("old")
    assert (repaired.status, repaired.description) == (VenvStatus.READY, "from long ago")
    assert repaired.python_version.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert [(one.name, one.version) for one in await venvs.packages("old")] == [
        ("iniconfig", "2.0.0"),
        ("six", "1.16.0"),
    ]
    await each_holds_what_it_says(venvs, base)
    await all_is_tidy(venvs, base)


async def test_a_plain_one_that_says_less_of_its_version_is_understood_by_its_folders(venvs: Venvs, base: Path):
    await venvs.install("from", "six==1.16.0")
    await anyio.to_thread.run_sync(_plain, base / "old", base / "from")
    (base / "old" / "pyvenv.cfg").write_text("home = /gone/bin\n")
    assert [package.name for package in await venvs.packages("old")] == ["six"]
    await venvs.repair("old")
    await each_holds_what_it_says(venvs, base)


async def test_a_plain_one_with_packages_that_no_index_has_stays_as_it_is(venvs: Venvs, base: Path):
    await venvs.install("from", "six")
    await anyio.to_thread.run_sync(_plain, base / "old", base / "from")
    (packages,) = plain.site_packages(base / "old")
    (packages / "home_made_of_mine-1.0.dist-info").mkdir()
    with pytest.raises(
        PackageError, match=r"made again: .*'home-made-of-mine' does not exist.*; create_venv makes another"
    ):
        await venvs.repair("old")
    assert not (base / "old").is_symlink()
    assert (await venvs.get("old")).status is VenvStatus.BROKEN


async def test_what_runs_while_it_is_repaired_is_not_disturbed(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.16.0")
    async with venvs.lease("lab") as generation:
        (packages,) = plain.site_packages(generation.path)
        packages.chmod(0o700)
        (packages / "mine-1.0.dist-info").mkdir()
        await venvs.repair("lab")
        await venvs.tidy()
        said = await anyio.run_process([generation.python, "-I", "-c", "import six; print(six.__version__)"])
        assert said.stdout == b"1.16.0\n"
    await each_holds_what_it_says(venvs, base)
