"""The whole way of an environment, with walls and without: a policy that asks for too little shows only behind them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import pythons, uv
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Uv
from tests.venvs.conftest import BUBBLEWRAP, HAS_LANDLOCK, Open, behind_bubblewrap, behind_landlock, no_walls
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

_NEEDS_BUBBLEWRAP = pytest.mark.skipif(BUBBLEWRAP is None, reason="needs bubblewrap")
_NEEDS_LANDLOCK = pytest.mark.skipif(not HAS_LANDLOCK, reason="needs Landlock of ABI 6")


@pytest.mark.parametrize(
    "walls",
    [pytest.param(no_walls, id="none"), pytest.param(behind_bubblewrap, id="bubblewrap", marks=_NEEDS_BUBBLEWRAP)],
)
async def test_an_environment_is_made_changed_compiled_and_deleted(opened: Open, base: Path, walls: Confine):
    async with opened(confine=walls) as venvs:
        await venvs.create("lab", python_version=">=3.9")
        await venvs.install("lab", "docopt, six")
        await venvs.uninstall("lab", "six")
        await each_holds_what_it_says(venvs, base)
        await venvs.delete("lab")
        await all_is_tidy(venvs, base)


@_NEEDS_LANDLOCK
async def test_behind_landlock_alone_an_environment_is_made_changed_compiled_and_deleted(opened: Open, base: Path):
    async with opened(confine=behind_landlock, may_build=False) as venvs:
        await venvs.create("lab")
        await venvs.install("lab", "iniconfig, six")
        await venvs.uninstall("lab", "iniconfig")
        await each_holds_what_it_says(venvs, base)
        with anyio.fail_after(60):
            while not list((base / "lab").glob("lib/python*/site-packages/__pycache__/six.*")):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await venvs.delete("lab")
        await all_is_tidy(venvs, base)


@pytest.mark.parametrize(
    "walls",
    [
        pytest.param(behind_bubblewrap, id="bubblewrap", marks=_NEEDS_BUBBLEWRAP),
        pytest.param(behind_landlock, id="landlock", marks=_NEEDS_LANDLOCK),
    ],
)
async def test_files_are_linked_from_the_cache_through_the_walls_too(opened: Open, base: Path, walls: Confine):
    async with opened(confine=walls) as venvs:
        await venvs.install("lab", "six")
    (module,) = (base / "lab").glob("lib/python*/site-packages/six.py")
    assert module.stat().st_nlink > 1


@_NEEDS_LANDLOCK
async def test_behind_landlock_alone_the_same_interpreters_are_found(tmp_path: Path):
    places, found = pythons.directories(Path.home()), list[list[Interpreter]]()
    for number, walls in enumerate((behind_landlock, no_walls)):
        found.append(await Uv.found(Store.open(tmp_path / str(number)).root, {}, walls).pythons(places))
    assert found[0] == found[1] != []


@pytest.mark.parametrize(
    "walls", [pytest.param(no_walls, id="none"), pytest.param(behind_landlock, id="landlock", marks=_NEEDS_LANDLOCK)]
)
async def test_a_project_in_a_folder_above_is_none_of_an_environments(opened: Open, base: Path, walls: Confine):
    (base.parent / "pyproject.toml").write_text("nonsense = [")
    async with opened(confine=walls) as venvs:
        await venvs.install("lab", "six")


async def test_uv_that_is_killed_is_told_and_the_next_try_goes_on(opened: Open, base: Path):
    def killed(_policy: Policy, _command: Sequence[str]) -> list[str]:
        return ["/bin/sh", "-c", "kill -9 $$"]

    async with opened(confine=killed) as venvs:
        with pytest.raises(PackageError, match="killed by signal 9; nothing was changed"):
            await venvs.install("lab", "six")
    async with opened() as venvs:
        await venvs.install("lab", "six")
        await each_holds_what_it_says(venvs, base)


async def test_uv_that_writes_without_end_is_ended(
    opened: Open, confine: Confine, base: Path, monkeypatch: pytest.MonkeyPatch
):
    """As it does for a package that unpacks to more than there is disk."""
    monkeypatch.setattr(uv, "INSTALLS", replace(uv.INSTALLS, disk_bytes=32 * MEBIBYTE))

    def writes(policy: Policy, _command: Sequence[str]) -> list[str]:
        file = base / ".store" / "cache" / ".tmp-large"
        return confine(policy, ["/bin/dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=8192"])

    async with opened(confine=writes) as venvs:
        with pytest.raises(PackageError, match="was ended, for it downloads and unpacks more than 32 MB on the disk"):
            await venvs.install("lab", "six")
    async with opened() as venvs:
        await venvs.install("lab", "six")
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


async def test_a_cancelled_install_leaves_nothing_but_its_downloads(opened: Open, base: Path):
    reached = anyio.Event()

    async def install() -> None:
        async with opened() as venvs:
            await venvs.install("lab", "iniconfig", listener=lambda _: reached.set())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(install)
        await reached.wait()
        tasks.cancel_scope.cancel()
    async with opened() as venvs:
        assert await venvs.names() == []
        await all_is_tidy(venvs, base)
    assert os.listdir(base / ".store" / "cache")  # noqa: PTH208 - that there is something
