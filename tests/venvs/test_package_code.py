"""No code of a package runs in a package operation: not what an interpreter's start runs, nor what stands in for it."""

import shutil
import subprocess
import sysconfig
import venv as standard
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine, Uv
from tests.venvs.conftest import BUBBLEWRAP, HAS_LANDLOCK, Open, behind_bubblewrap, behind_landlock, no_walls
from tests.venvs.index import Index, open_index
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

_NEEDS_BUBBLEWRAP = pytest.mark.skipif(BUBBLEWRAP is None, reason="needs bubblewrap")
_NEEDS_LANDLOCK = pytest.mark.skipif(not HAS_LANDLOCK, reason="needs Landlock of ABI 6")
_CANARY = "canary"
# Whatever starts an interpreter with it runs this; it tells of itself wherever it may write.
_ATTACK = """
import json, os, sys
for place in {places!r}:
    try:
        with open(os.path.join(place, {canary!r}), "a") as file:
            file.write(json.dumps([sys.orig_argv, dict(os.environ)]))
    except OSError:
        pass
"""
_IN_STORE = ("cache", "asked", "generations", "tmp", "trash", "venvs", "locks", "leases", "blueprints", "pythons")


@pytest.fixture
def places(base: Path, tmp_path: Path) -> list[Path]:
    """Where a canary is looked for."""
    home = tmp_path / "home"
    home.mkdir()
    return [base, *(base / ".store" / name for name in _IN_STORE), tmp_path, home]


@pytest.fixture
def index(tmp_path: Path, places: list[Path]) -> Generator[Index]:
    """Has `evil`, whose code every start of an interpreter runs, and some that are harmless."""
    attack = _ATTACK.format(places=[str(place) for place in places], canary=_CANARY)
    with open_index(tmp_path / "index", "one", "two", held="nothing") as index:
        index.add(
            "evil",
            {
                "evil.pth": "import evil\n",
                "distutils-precedence.pth": "import os; __import__('evil')\n",
                "inner.pth": "elsewhere\n",
                "elsewhere/usercustomize.py": attack,
                "sitecustomize.py": attack,
                "_manylinux.py": attack,
                "evil.py": attack,
            },
        )
        yield index


@pytest.fixture(
    params=[
        pytest.param(no_walls, id="no walls"),
        pytest.param(
            behind_bubblewrap,
            id="bubblewrap",
            marks=_NEEDS_BUBBLEWRAP,
        ),
        pytest.param(behind_landlock, id="landlock", marks=_NEEDS_LANDLOCK),
    ]
)
def walls(request: pytest.FixtureRequest) -> Confine:
    return request.param


@pytest.fixture
def from_index(opened: Open, index: Index, walls: Confine) -> Open:
    return partial(opened, environment={"UV_DEFAULT_INDEX": index.url}, confine=walls)


def _told(places: list[Path]) -> list[str]:
    return [f"{place}: {(place / _CANARY).read_text()}" for place in places if (place / _CANARY).exists()]


def _would_attack(python: Path, places: list[Path]) -> None:
    """The canary comes where an interpreter starts as uv starts one; leaves none."""
    subprocess.run([python, "-I", "-c", ""], check=True)
    assert _told(places)
    for place in places:
        (place / _CANARY).unlink(missing_ok=True)


async def _change_all(venvs: Venvs, base: Path) -> None:
    """Everything that makes a generation from one that holds the package."""
    await venvs.install("lab", "two")
    await venvs.uninstall("lab", "one")
    await venvs.rollback("lab")
    await venvs.install("other", "evil, two")
    await venvs.uninstall("other", "two")
    await venvs.tidy()
    (packages,) = plain.site_packages(base / "other")
    packages.chmod(0o700)
    (packages / "mine-1.0.dist-info").mkdir()
    await venvs.repair("other")
    remove_tree((base / "lab").resolve())
    await venvs.repair("lab")
    await venvs.install("lab", "one")
    await venvs.create("empty", python_version=">=3.9")
    await venvs.list()
    await venvs.tidy()


async def test_no_change_of_an_environment_runs_code_of_a_package(from_index: Open, base: Path, places: list[Path]):
    async with from_index() as venvs:
        await venvs.install("lab", "evil, one")
        await _change_all(venvs, base)
        assert _told(places) == []
        _would_attack(base / "lab" / "bin" / "python", places)
        await venvs.uninstall("lab", "evil")
        await venvs.uninstall("other", "evil")
        assert not list(plain.site_packages(base / "lab")[0].glob("*.pth"))
        assert not list(plain.site_packages(base / "lab")[0].glob("*customize*"))
        assert _told(places) == []
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


@pytest.mark.parametrize("symlinks", [True, False])
@pytest.mark.parametrize("is_broken", [False, True])
async def test_no_adoption_runs_code_of_a_package(
    from_index: Open, base: Path, places: list[Path], *, symlinks: bool, is_broken: bool
):
    async with from_index() as venvs:
        await venvs.install("from", "evil, one")
        standard.create(base / "old", symlinks=symlinks)
        (source,), (target,) = plain.site_packages(base / "from"), plain.site_packages(base / "old")
        shutil.copytree(source, target, dirs_exist_ok=True)
        await venvs.delete("from")
        _would_attack(base / "old" / "bin" / "python", places)
        if is_broken:
            for link in (base / "old" / "bin").glob("python*"):
                link.unlink()
            await venvs.repair("old")
        await venvs.install("old", "two")
        assert [package.name for package in await venvs.packages("old")] == ["evil", "one", "two"]
        assert _told(places) == []


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(behind_bubblewrap, id="bubblewrap", marks=_NEEDS_BUBBLEWRAP),
        pytest.param(behind_landlock, id="landlock", marks=_NEEDS_LANDLOCK),
    ],
)
async def test_no_package_of_an_interpreter_runs_where_that_is_asked_for(
    base: Path, archive: Path, spare_version: str, places: list[Path], tmp_path: Path, behind: Confine
):
    shutil.unpack_archive(archive, tmp_path / "found")
    prefix, minor = tmp_path / "found" / "python", sysconfig.get_python_version()
    attack = _ATTACK.format(places=[str(place) for place in places], canary=_CANARY)
    for name in (f"python{minor}/site-packages", "python3/dist-packages"):
        packages = prefix / "lib" / name
        packages.mkdir(parents=True)
        (packages / "evil.py").write_text(attack)
        (packages / "evil.pth").write_text("import evil\n")
    _would_attack(prefix / "bin" / "python", places)
    (found,) = await Uv.found(Store.open(base).root, {}, behind).pythons([prefix / "bin"])
    assert (found.prefix, found.version) == (prefix, spare_version)
    assert _told(places) == []


async def test_what_interpreters_tell_is_kept_apart_from_what_is_installed(base: Path, tmp_path: Path):
    written: list[Path] = []

    def watch(policy: Policy, command: Sequence[str]) -> list[str]:
        written.extend(policy.write)
        return no_walls(policy, command)

    await Uv.found(Store.open(base).root, {}, watch).pythons(pythons.directories(tmp_path))
    assert written == [base / ".store" / "asked"]


async def test_a_folder_that_names_an_interpreter_of_its_own_is_not_asked(
    from_index: Open, base: Path, places: list[Path]
):
    minor = sysconfig.get_python_version()
    async with from_index() as venvs:
        standard.create(base / "old", symlinks=True)
        own = base / "old" / "own" / "bin" / f"python{minor}"
        own.parent.mkdir(parents=True)
        own.write_text(f"#!/bin/sh\necho told > {places[-1] / _CANARY}\nexit 1\n")
        own.chmod(0o755)
        (base / "old" / "pyvenv.cfg").write_text(f"home = {own.parent}\nversion = {minor}.1\nexecutable = {own}\n")
        for link in (base / "old" / "bin").glob("python*"):
            link.unlink()
        await venvs.repair("old")
        assert _told(places) == []


@pytest.mark.parametrize(
    "file",
    [
        "evil-1.0.data/data/pyvenv.cfg",
        "evil-1.0.data/data/bin/pyvenv.cfg",
        "evil-1.0.data/scripts/python._pth",
        "evil-1.0.data/data/bin/python3._pth",
        "evil-1.0.data/data/generation.json",
        "evil-1.0.data/data/packages.json",
        "evil-1.0.data/data/uv.lock",
        "evil-1.0.data/data/wheels/one-1.0-py3-none-any.whl",
    ],
)
async def test_what_makes_an_environment_one_is_no_packages_to_replace(
    from_index: Open, index: Index, base: Path, file: str
):
    index.add("evil", {file: "home = /nowhere/bin"})
    async with from_index() as venvs:
        await venvs.install("lab", "one")
        before = (base / "lab").resolve()
        with pytest.raises(PackageError, match=r"can't be installed: one brings '.*', which is the environment's own"):
            await venvs.install("lab", "evil")
        assert (base / "lab").resolve() == before
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


async def test_folders_too_deep_in_one_another_are_not_installed(from_index: Open, index: Index, base: Path):
    index.add("evil", {"d/" * 100 + "module.py": ""})
    async with from_index() as venvs:
        await venvs.install("lab", "one")
        with pytest.raises(PackageError, match="one brings more than 64 folders in one another"):
            await venvs.install("lab", "evil")
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)


async def test_a_marker_that_a_package_brought_finishes_no_generation(base: Path, opened: Open):
    """As a server leaves it that is killed before it looked at what was installed."""
    async with opened() as venvs:
        await venvs.install("lab", "six")
    store = Store(base)
    marker = store.path(str(store.current("lab"))) / "generation.json"
    for name in ("py311-other", "py311-mine"):
        (store.path(name)).mkdir()
        shutil.copyfile(marker, store.path(name) / "generation.json")
        assert store.record(name) is None
