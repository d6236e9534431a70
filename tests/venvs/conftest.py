"""Real stores with a warm cache, behind real walls where this machine has bubblewrap."""

import os
import shutil
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.inside import landlock as inner
from mcp_python_executor.sandbox import bubblewrap, landlock
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import pythons
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.operations import Venvs, open_venvs
from mcp_python_executor.venvs.records import GenerationRecord, write_generation, write_packages
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Uv
from tests.venvs.archives import Offer, listing, other_version, pack, served

BUBBLEWRAP = shutil.which("bwrap")
# Since this ABI it will do alone.
HAS_LANDLOCK = inner.abi() >= 6
# Small, pure Python, without dependencies: what most tests install.
_WARM = ["iniconfig", "six", "packaging"]

Open = Callable[..., AbstractAsyncContextManager[Venvs]]


def no_walls(_policy: Policy, command: Sequence[str]) -> list[str]:
    return list(command)


def behind_bubblewrap(policy: Policy, command: Sequence[str]) -> list[str]:
    assert BUBBLEWRAP is not None
    return bubblewrap.command(Path(BUBBLEWRAP), policy, command)


def behind_landlock(policy: Policy, command: Sequence[str]) -> list[str]:
    return landlock.command(policy, command)


@pytest.fixture(scope="session")
def confine() -> Confine:
    """The walls of this machine."""
    return behind_bubblewrap if BUBBLEWRAP else no_walls


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory, confine: Confine) -> Path:
    """A cache of uv's that holds what most tests install."""
    base = tmp_path_factory.mktemp("warm")

    async def warm() -> None:
        async with open_venvs(base, default_name="default", timeout_seconds=300, confine=confine) as venvs:
            await venvs.install("warm", list(_WARM))

    anyio.run(warm)
    return base / ".store" / "cache"


@pytest.fixture
def base(tmp_path: Path, warm_cache: Path) -> Path:
    """An empty base path with a warm cache."""
    base = tmp_path / "venvs"
    shutil.copytree(warm_cache, base / ".store" / "cache", copy_function=os.link, symlinks=True)
    return base


@pytest.fixture
def opened(base: Path, confine: Confine) -> Open:
    """Opens the environments below `base`, as another server would; takes open_venvs' own arguments."""
    return partial(open_venvs, base, default_name="default", timeout_seconds=300, confine=confine)


@pytest.fixture
async def venvs(opened: Open) -> AsyncGenerator[Venvs]:
    """The environments below `base`."""
    async with opened() as venvs:
        yield venvs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "venvs")


@pytest.fixture(scope="session")
def spare_version(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A version that no interpreter has which is found when its user's home is another."""
    directory = tmp_path_factory.mktemp("found")
    (directory / "asked").mkdir()
    found = anyio.run(Uv.found(directory, {}, no_walls).pythons, pythons.directories(directory))
    return other_version(pythons.default(), [python.version for python in found])


@pytest.fixture(scope="session")
def archive(spare_version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of that version, packed."""
    archive = tmp_path_factory.mktemp("archive") / "python.tar.gz"
    pack(pythons.default(), archive, spare_version)
    return archive


@pytest.fixture
def offer(spare_version: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Offer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    known = tmp_path / "downloads.json"
    key = listing(known, spare_version)
    with served(archive) as mirror:
        mirror.may_go_on.set()
        way = {
            "UV_PYTHON_INSTALL_MIRROR": mirror.url,
            "UV_PYTHON_DOWNLOADS_JSON_URL": str(known),
            "UV_HTTP_RETRIES": "0",
        }
        yield Offer(spare_version, key, mirror, {**os.environ, **way})


def make_generation(store: Store, name: str, *, python: str = "/bin/sh") -> str:
    """A finished generation with nothing in it but an interpreter of sorts."""
    path = store.path(name)
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(python)
    write_packages(path, [Package("six", "1.17.0", True)])
    write_generation(path, GenerationRecord(name, "3.11.7", "/usr", python, "cpython", 1), store.tmp)
    return name
