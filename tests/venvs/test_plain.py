"""Plain venv folders that another tool made."""

import json
import platform
import re
import shutil
import subprocess
import sys
import venv as standard
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from uv import find_uv_bin

from mcp_python_executor.errors import PackageError, StoreError
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.model import VenvStatus
from mcp_python_executor.venvs.operations import Venvs
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio


def _make(path: Path) -> None:
    standard.create(path, symlinks=True)


async def test_a_plain_venv_folder_is_found_listed_and_used(venvs: Venvs, base: Path):
    _make(base / "old")
    (listed,) = await venvs.list()
    assert (listed.name, listed.status) == ("old", VenvStatus.READY)
    assert listed.python_version == ".".join(map(str, sys.version_info[:3]))
    async with venvs.lease("old") as generation:
        assert generation.path == base / "old"
        assert generation.base_prefix == Path(sys.base_prefix)
        await anyio.run_process([generation.python, "-I", "-c", ""])


async def test_names_and_descriptions_of_older_servers_are_kept(venvs: Venvs, base: Path):
    for name in ("_old", "-older"):
        _make(base / name)
    (base / "venv_metadata.json").write_text(json.dumps({"_old": {"description": "from then"}, "-older": "and this"}))
    assert [(venv.name, venv.description) for venv in await venvs.list()] == [
        ("-older", "and this"),
        ("_old", "from then"),
    ]


async def test_its_packages_are_listed(venvs: Venvs, base: Path):
    _make(base / "old")
    (packages,) = plain.site_packages(base / "old")
    distribution = packages / "Some_Thing-1.2.dist-info"
    distribution.mkdir()
    assert [(found.name, found.version, found.requested) for found in await venvs.packages("old")] == [
        ("some-thing", "1.2", False)
    ]


async def test_a_change_of_its_packages_gives_it_another_id(venvs: Venvs, base: Path):
    _make(base / "old")
    async with venvs.lease("old") as before:
        pass
    (packages,) = plain.site_packages(base / "old")
    (packages / "new.py").touch()
    async with venvs.lease("old") as after:
        assert after.id != before.id


async def test_one_whose_interpreter_is_gone_is_listed_as_broken(venvs: Venvs, base: Path):
    _make(base / "old")
    for path in (base / "old" / "bin").glob("python*"):
        path.unlink()
    (listed,) = await venvs.list()
    assert listed.status is VenvStatus.BROKEN
    assert "delete it with delete_venv" in listed.problem


async def test_one_of_a_python_that_is_too_old_says_so_and_can_be_deleted(venvs: Venvs, base: Path):
    _make(base / "old")
    config = base / "old" / "pyvenv.cfg"
    config.write_text(re.sub(r"(?m)^version = .*", "version = 3.8.18", config.read_text()))
    (listed,) = await venvs.list()
    assert listed.status is VenvStatus.BROKEN
    assert listed.problem.startswith("its Python 3.8.18 is too old, the oldest supported is 3.9; delete it")
    for operation in (venvs.repair("old"), venvs.install("old", "six")):
        with pytest.raises(StoreError, match="too old"):
            await operation
    await venvs.delete("old")
    assert await venvs.names() == []
    await all_is_tidy(venvs, base)


async def test_it_can_be_deleted_while_it_is_used(venvs: Venvs, base: Path):
    _make(base / "old")
    async with venvs.lease("old"):
        await venvs.delete("old")
        await venvs.tidy()
        assert await venvs.names() == []
        assert list((base / ".store" / "trash").iterdir())
    await all_is_tidy(venvs, base)


async def test_other_folders_and_files_are_no_environments(venvs: Venvs, base: Path):
    (base / "notes").mkdir()
    (base / "file").touch()
    (base / ".runs").mkdir()
    (base / "dangling").symlink_to("nowhere")
    assert await venvs.names() == []


async def test_its_first_change_makes_it_a_generation_with_its_packages_intact(venvs: Venvs, base: Path):
    await venvs.install("from", "python-dateutil==2.8.2, six==1.16.0")
    _make(base / "old")
    (source,), (target,) = plain.site_packages(base / "from"), plain.site_packages(base / "old")
    shutil.copytree(source, target, dirs_exist_ok=True)
    (target / "six-1.16.0.dist-info" / "REQUESTED").chmod(0o600)
    (target / "six-1.16.0.dist-info" / "REQUESTED").unlink()
    await venvs.describe("old", "from long ago")
    report = await venvs.install("old", "iniconfig")
    assert not report.created
    assert [change.name for change in report.added] == ["iniconfig"]
    assert (base / "old").is_symlink()
    assert (await venvs.get("old")).description == "from long ago"
    assert [(found.name, found.version, found.requested) for found in await venvs.packages("old")] == [
        ("iniconfig", report.added[0].version, True),
        ("python-dateutil", "2.8.2", True),
        ("six", "1.16.0", False),
    ]


def _with_pip(python: Path) -> None:
    command = [python, "-m", "pip", "install", "-q", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([*command, "python-dateutil==2.8.2", "six==1.16.0"], check=True)


def _by_venv(folder: Path) -> None:
    standard.create(folder, symlinks=True, with_pip=True)
    _with_pip(folder / "bin" / "python")


def _by_virtualenv(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "--no-download", folder], check=True)
    _with_pip(folder / "bin" / "python")


def _by_uv(folder: Path) -> None:
    binary = find_uv_bin()
    subprocess.run([binary, "venv", "-q", "--python", sys.executable, folder], check=True)
    named = ["python-dateutil==2.8.2", "six==1.16.0"]
    subprocess.run([binary, "pip", "install", "-q", "--python", folder, *named], check=True)


@pytest.mark.parametrize("make", [_by_venv, _by_virtualenv, _by_uv])
async def test_what_any_tool_made_and_filled_is_listed_runs_and_is_taken_over_whole(
    venvs: Venvs, base: Path, make: Callable[[Path], None]
):
    await anyio.to_thread.run_sync(make, base / "old")
    (base / "venv_metadata.json").write_text(json.dumps({"old": {"description": "from then"}}))
    (listed,) = await venvs.list()
    assert (listed.status, listed.python_version) == (VenvStatus.READY, platform.python_version())
    before = {found.name: found.version for found in await venvs.packages("old")}
    assert before.items() >= {"python-dateutil": "2.8.2", "six": "1.16.0"}.items()
    async with venvs.lease("old") as generation:
        await anyio.run_process([generation.python, "-I", "-c", "import dateutil, six"])
    report = await venvs.install("old", "iniconfig==2.0.0")
    assert (report.changed, report.removed) == ([], [])
    assert {found.name: found.version for found in await venvs.packages("old")} == before | {"iniconfig": "2.0.0"}
    assert all(found.requested for found in await venvs.packages("old"))
    adopted = await venvs.get("old")
    assert (adopted.description, adopted.path.is_symlink()) == ("from then", True)
    await each_holds_what_it_says(venvs, base, modules="dateutil, six, iniconfig")


async def test_what_runs_in_it_goes_on_in_the_old_folder(venvs: Venvs, base: Path):
    _make(base / "old")
    async with venvs.lease("old"):
        await venvs.install("old", "six")
        await venvs.tidy()
        (aside,) = (base / ".store" / "trash").iterdir()
        assert plain.is_venv(aside)
    await all_is_tidy(venvs, base)
    assert not aside.exists()


async def test_one_with_packages_that_no_index_has_stays_as_it_is(venvs: Venvs, base: Path):
    _make(base / "old")
    (packages,) = plain.site_packages(base / "old")
    (packages / "home_made_of_mine-1.0.dist-info").mkdir()
    with pytest.raises(PackageError, match=r"made by another tool.*'home-made-of-mine' does not exist.*create_venv"):
        await venvs.install("old", "six")
    assert not (base / "old").is_symlink()
    assert [found.name for found in await venvs.packages("old")] == ["home-made-of-mine"]
