"""docopt and pysendfile have no wheels at all: they are built, behind this machine's walls."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs.uv import Confine
from tests.venvs.conftest import Open
from tests.venvs.invariants import each_holds_what_it_says

pytestmark = pytest.mark.anyio


async def test_what_exists_only_as_source_is_built_once_and_its_wheel_is_kept(opened: Open, base: Path):
    told: list[str] = []
    async with opened() as venvs:
        report = await venvs.install("lab", "docopt", listener=told.append)
        assert [change.name for change in report.added] == ["docopt"]
        assert any(stage.startswith("building docopt") for stage in told)
        told.clear()
        await venvs.install("lab", "six")
        assert not any(stage.startswith("building") for stage in told)
        assert [package.name for package in await venvs.packages("lab")] == ["docopt", "six"]
        (wheel,) = (base / "lab" / "wheels").iterdir()
        assert wheel.name.startswith("docopt-0.6")
        assert list((base / "lab").glob("lib/python*/site-packages/docopt.py"))


@pytest.fixture
def compiler() -> None:
    """A C compiler and Python's headers, without which an extension can't be built."""
    if shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs a C compiler and Python's headers")


@pytest.mark.usefixtures("compiler")
async def test_an_extension_that_exists_only_as_source_is_compiled_and_lies_beside_large_wheels(
    opened: Open, base: Path
):
    async with opened() as venvs:
        report = await venvs.install("lab", "numpy, pandas, pysendfile")
        assert {change.name for change in report.added} >= {"numpy", "pandas", "pysendfile"}
        assert list((base / "lab").glob("lib/python*/site-packages/sendfile*.so"))
        await each_holds_what_it_says(venvs, base, modules="sendfile, numpy, pandas")


async def test_a_build_sees_neither_the_store_nor_credentials(opened: Open, confine: Confine, base: Path):
    builds: list[Policy] = []

    def watch(policy: Policy, command: list[str]) -> list[str]:
        if "--no-binary" in command:
            builds.append(policy)
        return confine(policy, command)

    environment = {**os.environ, "UV_INDEX_INNER_USERNAME": "me", "UV_INDEX_INNER_PASSWORD": "secret"}
    async with opened(confine=watch, environment=environment) as venvs:
        await venvs.install("lab", "docopt")
    store = base / ".store"
    for policy in builds:
        assert not [path for path in (*policy.read, *policy.write) if store.is_relative_to(path)]
        assert not [path for path in policy.write if not path.is_relative_to(store / "tmp")]
        assert not any("secret" in value for _, value in policy.environment)
    assert builds


async def test_nothing_is_built_where_there_are_no_walls_for_it(opened: Open):
    async with opened(may_build=False) as venvs:
        with pytest.raises(PackageError, match="'docopt' exists only as source here"):
            await venvs.install("lab", "docopt")
        assert await venvs.names() == []


async def test_a_lock_names_what_was_built_by_a_path_that_is_the_same_everywhere(opened: Open, base: Path):
    async with opened() as venvs:
        await venvs.install("lab", "docopt")
    lock = (base / "lab" / "uv.lock").read_text()
    assert 'registry = "wheels"' in lock
    assert str(base) not in lock
