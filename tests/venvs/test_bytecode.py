from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from mcp_python_executor.venvs import bytecode
from mcp_python_executor.venvs.bytecode import compile_and_seal, is_sealed
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Confine
from tests.venvs.conftest import Open, no_walls
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio


async def _sealed(base: Path, name: str) -> Path:
    """The generation of `name`, once nothing is left to do for it."""
    store = Store.open(base)
    generation = store.current(name)
    assert generation
    with anyio.fail_after(60):
        while not is_sealed(store, generation):  # noqa: ASYNC110 - another task does it in its own time
            await anyio.sleep(0.01)
    return store.path(generation)


async def test_modules_are_compiled_after_an_install_without_anybody_waiting(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    generation = await _sealed(base, "lab")
    (compiled,) = generation.glob("lib/python*/site-packages/__pycache__/six.*.pyc")
    before = compiled.read_bytes()
    await anyio.run_process([generation / "bin" / "python", "-I", "-c", "import six"])
    assert compiled.read_bytes() == before


async def test_a_finished_generation_is_read_only_down_to_each_file(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    generation = await _sealed(base, "lab")
    for path in [generation, *generation.rglob("*")]:
        assert path.is_symlink() or not path.stat().st_mode & 0o222, path


async def test_what_a_sealed_generation_shares_with_the_cache_can_be_installed_again(venvs: Venvs, base: Path):
    await venvs.install("one", "six")
    await _sealed(base, "one")
    await venvs.install("two", "six, iniconfig")
    shared = {
        (base / name).glob("lib/python*/site-packages/six.py").__next__().stat().st_ino for name in ("one", "two")
    }
    assert len(shared) == 1
    await venvs.delete("one")
    await venvs.delete("two")
    await all_is_tidy(venvs, base)


async def test_no_code_of_a_package_runs_while_it_is_compiled(
    base: Path, opened: Open, confine: Confine, tmp_path: Path
):
    canary = tmp_path / "canary"
    async with opened(confine=confine) as venvs:
        await venvs.create("lab")
        generation = await _sealed(base, "lab")
    (packages,) = generation.glob("lib/python*/site-packages")
    for path in (packages, generation, generation / "generation.json"):
        path.chmod(0o700)
    (packages / "evil.pth").write_text(f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n")
    (packages / "sitecustomize.py").write_text(f"open({str(canary)!r}, 'w')\n")
    await compile_and_seal(Store.open(base), no_walls, generation.name)
    assert list(packages.glob("__pycache__/sitecustomize.*.pyc"))
    assert not canary.exists()


async def test_what_the_generation_before_has_compiled_is_shared_and_names_the_right_file(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    before = await _sealed(base, "lab")
    await venvs.install("lab", "iniconfig")
    after = await _sealed(base, "lab")
    assert before != after
    pattern = "lib/python*/site-packages/__pycache__/six.*.pyc"
    (old,), (new,) = before.glob(pattern), after.glob(pattern)
    assert old.samefile(new)
    told = await anyio.run_process(
        [after / "bin" / "python", "-I", "-c", "import six; print(six.__cached__, six.u.__code__.co_filename)"]
    )
    assert told.stdout.decode().split() == [str(new), str(new.parent.parent / "six.py")]


async def test_a_server_that_died_before_it_is_made_up_for_at_the_next_start(opened: Open, base: Path):
    async with opened() as venvs:
        await venvs.install("lab", "six")
    async with opened():
        assert list((await _sealed(base, "lab")).glob("lib/python*/site-packages/__pycache__/six.*.pyc"))


async def test_what_can_not_be_finished_ends_no_server(opened: Open, base: Path, monkeypatch: pytest.MonkeyPatch):
    def seal(_path: Path) -> None:
        """As for more folders in one another than os.walk goes into, which an older server may have installed."""
        raise RecursionError

    monkeypatch.setattr(bytecode, "seal", seal)
    with capture_logs() as logs, anyio.fail_after(60):
        async with opened() as venvs:
            await venvs.install("lab", "six")
            while not any(log["event"] == "finish_failed" for log in logs):  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
            await each_holds_what_it_says(venvs, base)
            await all_is_tidy(venvs, base)
