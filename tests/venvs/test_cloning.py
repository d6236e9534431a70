"""The next generation begins as a copy of the one before, made of links."""

import os
import subprocess
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.cloning import clone, leave
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import Open
from tests.venvs.index import Index, open_index
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio


def _module(base: Path, name: str = "six.py") -> Path:
    (packages,) = plain.site_packages((base / "lab").resolve())
    return packages / name


def _is_cloned(base: Path, target: Path) -> bool:
    """Whether the generation that 'lab' is in can be cloned; leaves nothing."""
    store = Store(base)
    clone(store, str(store.current("lab")), pythons.default(), target)
    is_cloned = target.exists()
    remove_tree(target)
    return is_cloned


async def test_what_stays_is_the_same_file_and_what_goes_stays_in_the_one_before(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.16.0, iniconfig")
    before = _module(base)
    await venvs.install("lab", "packaging")
    middle = _module(base)
    await venvs.install("lab", "six==1.17.0")
    await venvs.uninstall("lab", "iniconfig")
    assert before.samefile(middle)
    assert "1.16.0" in before.read_text()
    assert "1.17.0" in _module(base).read_text()
    assert (before.parent / "iniconfig").exists()
    assert not _module(base, "iniconfig").exists()
    await each_holds_what_it_says(venvs, base)
    await all_is_tidy(venvs, base)


async def test_scripts_start_the_interpreter_of_their_own_generation(venvs: Venvs, base: Path):
    await venvs.install("lab", "tabulate")
    before = (base / "lab").resolve()
    await venvs.install("lab", "six")
    after = (base / "lab").resolve()
    for generation, other in ((before, after), (after, before)):
        for script in (generation / "bin" / "tabulate", generation / "bin" / "activate"):
            assert str(generation) in script.read_text()
            assert str(other) not in script.read_text()
    said = subprocess.run(  # noqa: ASYNC221 - a package of our own choice
        [after / "bin" / "tabulate", "-1"], input="a b\n1 2\n", capture_output=True, text=True, check=True
    )
    assert "1" in said.stdout


async def test_what_somebody_replaced_in_a_finished_generation_is_not_taken_over(
    venvs: Venvs, base: Path, tmp_path: Path
):
    await venvs.install("lab", "six")
    await venvs.tidy()
    assert _is_cloned(base, tmp_path / "clone")
    module = _module(base)
    genuine = module.read_text()
    module.parent.chmod(0o700)
    module.unlink()
    module.write_text("altered = True")
    # As if that had been done a second later: the clock of a file system ticks in milliseconds.
    later = module.parent.stat().st_mtime_ns + 10**9
    os.utime(module.parent, ns=(later, later))
    assert not _is_cloned(base, tmp_path / "clone")
    await venvs.install("lab", "iniconfig")
    assert _module(base).read_text() == genuine


@pytest.fixture
def index(tmp_path: Path) -> Generator[Index]:
    with open_index(tmp_path / "index", "one", held="nothing") as index:
        yield index


@pytest.fixture
def from_index(opened: Open, index: Index) -> Open:
    return partial(opened, environment={"UV_DEFAULT_INDEX": index.url})


async def test_of_what_two_brought_nothing_goes_with_one_of_them(from_index: Open, index: Index, base: Path):
    index.add("goes", {"shared/__init__.py": "", "shared/goes.py": "", "alone/deep/goes.py": ""})
    index.add("stays", {"shared/__init__.py": "", "shared/stays.py": "", "stays-1.0.data/data/notes.txt": ""})
    async with from_index() as venvs:
        await venvs.install("lab", "goes, stays")
        before = _module(base, "shared/stays.py")
        await venvs.uninstall("lab", "goes")
        assert _module(base, "shared/stays.py").samefile(before)
    assert {path.name for path in _module(base, "shared").iterdir()} >= {"__init__.py", "stays.py"}
    assert not _module(base, "shared/goes.py").exists()
    assert not _module(base, "alone").exists()
    assert (base / "lab" / "notes.txt").exists()


async def test_what_nobody_says_that_he_brought_goes_with_who_brought_it(from_index: Open, index: Index, base: Path):
    index.add("goes", {"goes.py": "", "unsaid.pth": "unsaid"}, unsaid="unsaid.pth")
    index.add("stays", {"stays.py": "", "kept.py": ""}, unsaid="kept.py")
    async with from_index() as venvs:
        await venvs.install("lab", "goes, stays")
        await venvs.install("lab", "one")
        assert _module(base, "unsaid.pth").exists()
        await venvs.uninstall("lab", "goes")
    assert not _module(base, "unsaid.pth").exists()
    assert _module(base, "kept.py").exists()


async def test_a_record_reaches_nothing_outside(from_index: Open, index: Index, base: Path):
    victim = base / "victim"
    victim.touch()
    index.add("goes", {"goes.py": ""}, said=[str(victim), f"../../../../../../{victim.name}", "../../../bin/python"])
    async with from_index() as venvs:
        await venvs.install("lab", "goes, one")
        before = (base / "lab").resolve()
        await venvs.uninstall("lab", "goes")
        assert victim.exists()
        assert (before / "bin" / "python").exists()
        await each_holds_what_it_says(venvs, base)


async def test_one_of_another_interpreter_is_not_taken_over(venvs: Venvs, base: Path, tmp_path: Path):
    await venvs.create("lab")
    store = Store(base)
    other = pythons.Interpreter(Path("/other/bin/python3"), pythons.default().version, Path("/other"))
    clone(store, str(store.current("lab")), other, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


async def test_what_can_not_be_cloned_is_installed_again(venvs: Venvs, base: Path, tmp_path: Path):
    """It is that which tells of a full disk."""
    await venvs.create("lab")
    clone(Store(base), str(Store(base).current("lab")), pythons.default(), tmp_path / "missing" / "clone")


def test_a_record_that_names_nothing_that_could_be_is_no_error(tmp_path: Path):
    info = tmp_path / "lib" / "python3.11" / "site-packages" / "goes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_bytes(b"a\0b,,\ngoes-1.0.dist-info/RECORD,,\n")
    assert leave(tmp_path, set())
    assert not info.exists()
