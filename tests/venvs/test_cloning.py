"""The next generation begins as a copy of the one before, made of links."""

import os
import subprocess
from pathlib import Path

import pytest

from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.cloning import clone
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
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


async def test_one_of_another_interpreter_is_not_taken_over(venvs: Venvs, base: Path, tmp_path: Path):
    await venvs.create("lab")
    store = Store(base)
    other = pythons.Interpreter(Path("/other/bin/python3"), pythons.default().version, Path("/other"))
    clone(store, str(store.current("lab")), other, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()
