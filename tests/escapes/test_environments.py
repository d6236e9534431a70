"""A program reads its own environment and the standard library, changes neither, and sees no other environment."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_python_executor.execution.model import Interpreter
from tests.bench import OpenBench, make_interpreter
from tests.escapes.attack import CANARY, attack, state, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


def packages(interpreter: Interpreter) -> Path:
    """Where the environment's packages lie."""
    return next((interpreter.prefix / "lib").glob("python*/site-packages"))


@pytest.fixture
def own(tmp_path: Path) -> Interpreter:
    """An environment that a test may lose, with a package in it."""
    made = make_interpreter(tmp_path / "own")
    (packages(made) / "package").mkdir()
    (packages(made) / "package" / "__init__.py").write_text("value = 1\n")
    return made


@pytest.fixture
def base() -> Iterator[Path]:
    """The base interpreter's prefix, which is none of the system's, with canaries in it."""
    prefix = Path(sys.base_prefix)
    if prefix.is_relative_to("/usr"):
        pytest.skip("the base interpreter is the system's, which a program sees whole")
    library = next((prefix / "lib").glob("python*/site-packages"))
    planted = [library / "canary.py", prefix / "canary", prefix.parent / "canary"]
    for path in planted:
        path.write_text(CANARY)
    yield prefix
    for path in planted:
        path.unlink()
    shutil.rmtree(library / "__pycache__" / "canary", ignore_errors=True)


async def test_another_environment_is_not_read(open_bench: OpenBench, own: Interpreter, interpreter: Interpreter):
    secret = packages(own) / "package" / "secret.py"
    secret.write_text(CANARY)
    async with open_bench(within=interpreter) as bench:
        assert CANARY not in await try_every_way(bench, "read", secret)


async def test_another_environments_names_are_not_listed(
    open_bench: OpenBench, own: Interpreter, interpreter: Interpreter
):
    code = f"""
import os
for path in {[str(packages(own)), str(own.prefix), str(own.prefix.parent)]}:
    try:
        print("listed", os.listdir(path))
    except OSError as error:
        print("refused", error.strerror)
"""
    async with open_bench(within=interpreter) as bench:
        told = await attack(bench, code)
    assert told.count("listed ") + told.count("refused ") == 3
    assert "pyvenv.cfg" not in told
    assert "package" not in told


async def test_another_environment_is_not_run(open_bench: OpenBench, own: Interpreter, interpreter: Interpreter):
    code = f"""
import subprocess
done = subprocess.run([{str(own.python)!r}, "-c", "import package; print(package.value)"], capture_output=True)
print("IMPORTED" if done.stdout else done.stderr)
"""
    async with open_bench(within=interpreter) as bench:
        told = await attack(bench, code)
    assert "IMPORTED" not in told


async def test_packages_of_the_base_interpreter_are_not_read(open_bench: OpenBench, base: Path):
    library = next((base / "lib").glob("python*/site-packages"))
    async with open_bench() as bench:
        assert CANARY not in await try_every_way(bench, "read", library / "canary.py")
        told = await attack(bench, f"import sys\nsys.path.append({str(library)!r})\nimport canary")
    assert "Error" in told


async def test_what_else_its_tool_keeps_beside_the_base_interpreter_is_not_read(open_bench: OpenBench, base: Path):
    async with open_bench() as bench:
        for path in (base / "canary", base.parent / "canary"):
            assert CANARY not in await try_every_way(bench, "read", path)
        told = await attack(bench, f"import os\nprint(os.listdir({str(base.parent)!r}))")
    assert "canary" not in told


async def test_the_standard_library_is_not_written(open_bench: OpenBench):
    victim = Path(sys.base_prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "this.py"
    code = f"""
import os
path = {str(victim)!r}
folder = os.path.dirname(path)
for way in (
    lambda: open(path, "a"),
    lambda: open(folder + "/canary.py", "x"),
    lambda: open(folder + "/__pycache__/canary.pyc", "x"),
    lambda: os.mkdir(folder + "/canary"),
    lambda: os.symlink("/", folder + "/canary"),
    lambda: os.link("main.py", folder + "/canary.py"),
):
    try:
        way()
        print("WROTE")
    except OSError as error:
        print("refused", error.strerror)
"""
    before = sorted(path.name for path in victim.parent.iterdir()), victim.read_bytes()
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("refused ") == 6
    assert (sorted(path.name for path in victim.parent.iterdir()), victim.read_bytes()) == before


@pytest.mark.parametrize("victim", ["lib/python*/site-packages/package/__init__.py", "pyvenv.cfg", "bin/activate"])
async def test_the_environment_is_not_written(open_bench: OpenBench, own: Interpreter, victim: str):
    path = next(own.prefix.glob(victim))
    before = state(own.prefix)
    async with open_bench(within=own) as bench:
        await try_every_way(bench, "write", path)
    assert state(own.prefix) == before


@pytest.mark.parametrize("victim", ["lib/python*/site-packages/package/__init__.py", "lib/python*/site-packages"])
async def test_the_environment_keeps_its_modes_owners_times_and_attributes(
    open_bench: OpenBench, own: Interpreter, victim: str
):
    path = next(own.prefix.glob(victim))
    before = state(own.prefix)
    async with open_bench(within=own) as bench:
        await try_every_way(bench, "change", path)
    assert state(own.prefix) == before


async def test_installers_do_not_install_into_the_environment(open_bench: OpenBench, own: Interpreter, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "intruder.py").write_text("value = 1\n")
    code = f"""
import compileall, os, site, subprocess, sys, sysconfig, venv, zipfile
library = sysconfig.get_path("purelib")
for way in (
    lambda: compileall.compile_dir(library, force=True, quiet=2),
    lambda: site.addsitedir("."),
    lambda: venv.create(sys.prefix, clear=True),
    lambda: venv.create(sys.prefix, upgrade=True),
    lambda: subprocess.run([sys.executable, "-m", "ensurepip"], capture_output=True),
    lambda: subprocess.run(["cp", "-r", {str(source)!r}, library], capture_output=True),
    lambda: zipfile.ZipFile("i.zip", "w").writestr("intruder.py", "") or zipfile.ZipFile("i.zip").extractall(library),
):
    try:
        print("tried", way())
    except BaseException as error:
        print("tried", repr(error))
"""
    before = state(own.prefix)
    async with open_bench(within=own, read_paths=(source,)) as bench:
        told = await attack(bench, code)
    assert told.count("tried ") == 7
    assert state(own.prefix) == before
