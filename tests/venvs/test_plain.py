"""Plain venv folders that another tool made."""

import json
import sys
import venv as standard
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.model import VenvStatus
from mcp_python_executor.venvs.operations import Venvs

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


async def test_it_can_be_deleted_while_it_is_used(venvs: Venvs, base: Path):
    _make(base / "old")
    async with venvs.lease("old"):
        await venvs.delete("old")
        await venvs.tidy()
        assert await venvs.names() == []
        assert list((base / ".store" / "trash").iterdir())
    await venvs.tidy()
    assert list((base / ".store" / "trash").iterdir()) == []


async def test_other_folders_and_files_are_no_environments(venvs: Venvs, base: Path):
    (base / "notes").mkdir()
    (base / "file").touch()
    (base / ".runs").mkdir()
    (base / "dangling").symlink_to("nowhere")
    assert await venvs.names() == []


async def test_a_change_is_refused_with_the_way_out(venvs: Venvs, base: Path):
    _make(base / "old")
    with pytest.raises(InvalidArgument, match=r"made by another tool.*create_venv"):
        await venvs.install("old", "six")
