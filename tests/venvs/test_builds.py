"""docopt and pysendfile have no wheels at all: they are built, behind this machine's walls."""

import io
import os
import shutil
import sysconfig
import tarfile
import threading
from pathlib import Path

import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import building, uv
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


async def test_wheels_are_read_and_copied_while_the_server_goes_on(opened: Open, monkeypatch: pytest.MonkeyPatch):
    """One may be of gigabytes."""
    at_work: dict[str, set[bool]] = {}

    def watched(name: str) -> None:
        work = getattr(building, name)

        def watch(*places: Path) -> object:
            at_work.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
            return work(*places)

        monkeypatch.setattr(building, name, watch)

    watched("_hashes")
    watched("_take_over")
    async with opened() as venvs:
        await venvs.install("lab", "docopt")
        await venvs.install("lab", "six")
    assert at_work == {"_hashes": {False}, "_take_over": {False}}


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


@pytest.mark.usefixtures("compiler")
async def test_an_extension_that_does_not_compile_is_told_with_the_compilers_words(opened: Open, tmp_path: Path):
    index = tmp_path / "simple"
    archive, page = index / "broken-extension-1.0.tar.gz", index / "broken-extension" / "index.html"
    page.parent.mkdir(parents=True)
    files = {
        "setup.py": "from setuptools import Extension, setup\n"
        "setup(name='broken-extension', version='1.0', ext_modules=[Extension('broken', ['broken.c'])])",
        "PKG-INFO": "Metadata-Version: 2.1\nName: broken-extension\nVersion: 1.0\n",
        "broken.c": "int answer(void) { return fourty_two; }\n",
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"broken-extension-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    page.write_text(f'<a href="file://{archive}">{archive.name}</a>')
    async with opened(environment={**os.environ, "UV_INDEX": f"file://{index}"}) as venvs:
        with pytest.raises(PackageError, match=r"source failed: broken\.c:1:27: error: .fourty_two. undeclared"):
            await venvs.install("lab", "broken-extension")
        assert await venvs.names() == []


async def test_a_build_sees_neither_the_store_nor_credentials(
    opened: Open, confine: Confine, base: Path, tmp_path: Path
):
    builds: list[Policy] = []

    def watch(policy: Policy, command: list[str]) -> list[str]:
        if "--no-binary" in command:
            builds.append(policy)
        return confine(policy, command)

    certificate = tmp_path / "client.pem"
    certificate.touch()
    environment = {**os.environ, "UV_INDEX_INNER_USERNAME": "me", "UV_INDEX_INNER_PASSWORD": "secret"}
    environment["SSL_CLIENT_CERT"] = str(certificate)
    async with opened(confine=watch, environment=environment) as venvs:
        await venvs.install("lab", "docopt")
    store = base / ".store"
    for policy in builds:
        assert not [path for path in (*policy.read, *policy.write) if store.is_relative_to(path)]
        assert not [path for path in policy.write if not path.is_relative_to(store / "tmp")]
        assert certificate not in policy.read
        assert not any("secret" in value for _, value in policy.environment)
    assert builds


async def test_a_build_trusts_the_certificates_that_the_system_trusts(
    opened: Open, confine: Confine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trusted = tmp_path / "trusted.pem"
    trusted.touch()
    monkeypatch.setattr(uv, "_TRUSTED", (trusted,))
    said: list[str | None] = []

    def watch(policy: Policy, command: list[str]) -> list[str]:
        if "--no-binary" in command:
            said.append(dict(policy.environment).get("UV_SYSTEM_CERTS"))
        return confine(policy, command)

    environment = {name: value for name, value in os.environ.items() if name != "UV_SYSTEM_CERTS"}
    async with opened(confine=watch, environment=environment) as venvs:
        await venvs.install("lab", "docopt")
    assert said
    assert set(said) == {"1"}


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
