"""What READ_PATHS names and a script's folder are read and not changed, and show nothing beside them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_python_executor.execution.scripts import check
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench, bench_in, make_interpreter
from tests.escapes.attack import CANARY, EVERY_WAY, attack, state, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

NAMES = """
import os
for folder in {folders!r}:
    try:
        print("names", os.listdir(folder))
    except OSError as error:
        print("refused", error.strerror)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below the home with something to show and something to keep: a file of each, and a file in a folder."""
    made = Path(tempfile.mkdtemp(prefix="canary-", dir=Path.home()))
    for name in ("shown", "kept"):
        (made / name).mkdir()
        (made / name / "data").write_text(CANARY if name == "kept" else "shown")
        (made / f"{name}.txt").write_text(CANARY if name == "kept" else "shown")
    yield made
    shutil.rmtree(made)


async def test_a_file_in_read_paths_shows_no_sibling(open_bench: OpenBench, folder: Path):
    async with open_bench(read_paths=(folder / "shown.txt",)) as bench:
        assert "b'shown'" in await try_every_way(bench, "read", folder / "shown.txt")
        assert CANARY not in await try_every_way(bench, "read", folder / "kept.txt")
        assert CANARY not in await try_every_way(bench, "read", folder / "kept" / "data")


async def test_a_folder_in_read_paths_shows_no_sibling(open_bench: OpenBench, folder: Path):
    async with open_bench(read_paths=(folder / "shown",)) as bench:
        assert "b'shown'" in await try_every_way(bench, "read", folder / "shown" / "data")
        assert CANARY not in await try_every_way(bench, "read", folder / "kept.txt")
        assert CANARY not in await try_every_way(bench, "read", folder / "shown" / ".." / "kept" / "data")


async def test_links_in_a_folder_in_read_paths_lead_nowhere_else(open_bench: OpenBench, folder: Path):
    (folder / "shown" / "file").symlink_to("../kept.txt")
    (folder / "shown" / "folder").symlink_to(folder / "kept")
    async with open_bench(read_paths=(folder / "shown",)) as bench:
        assert CANARY not in await try_every_way(bench, "read", folder / "shown" / "file")
        assert CANARY not in await try_every_way(bench, "read", folder / "shown" / "folder" / "data")


async def test_a_link_in_read_paths_shows_nothing_beside_where_it_leads(open_bench: OpenBench, folder: Path):
    (folder / "link").symlink_to("kept/shown")
    (folder / "kept" / "shown").write_text("shown")
    async with open_bench(read_paths=(folder / "link",)) as bench:
        assert "b'shown'" in await try_every_way(bench, "read", folder / "link")
        assert CANARY not in await try_every_way(bench, "read", folder / "kept" / "data")


@pytest.mark.parametrize("where", ["in the home directory", "by a link", "among temporary files"])
async def test_read_paths_around_the_environments_show_nobody_elses(
    folder: Path, tmp_path: Path, standing: Confinement, where: str
):
    house = tmp_path / "house" if where == "among temporary files" else folder / "house"
    base, others = house / "deep" / "venvs", house / "deep" / "venvs" / ".store" / "generations" / "others"
    own = make_interpreter(base / ".store" / "generations" / "own")
    for path in (others / "lib" / "module.py", base / ".runs" / "another" / "0.stdout"):
        path.parent.mkdir(parents=True)
        path.write_text(CANARY)
    (base / "alias").symlink_to(others)
    (house / "venvs").symlink_to(base)
    (house / "deep" / "data").mkdir()
    for path in (house / "notes.txt", house / "deep" / "data" / "table"):
        path.write_text("shown")
    (folder / "link").symlink_to("house")
    seen = folder / "link" if where == "by a link" else house
    async with bench_in(
        house / "deep", within=own, confinement=standing, read_paths=(seen,), runs="venvs/.runs/server"
    ) as bench:
        first = await bench.run(f"open('left.txt', 'w').write({CANARY!r})\nprint({CANARY!r} * 9999)")
        kept = [path.relative_to(base) for path in (base / ".runs").rglob("*") if path.is_file()]
        assert {path.name for path in kept} >= {f"{first.execution_id}.stdout", "left.txt", "0.stdout"}
        ways = [str(way) for way in (seen / "deep" / "venvs", seen / "venvs", base)]
        code = f"""
import os, sys
for way in {ways}:
    for path in {[*map(str, kept), "alias/lib/module.py", ".store/generations/others/lib/module.py"]}:
        try: print("READ", path, open(os.path.join(way, path)).read(12))
        except OSError as error: print("kept", type(error).__name__)
    for path in ("", ".runs", ".runs/another", ".runs/server", ".store/generations", "alias", "alias/lib"):
        try: print("names", os.listdir(os.path.join(way, path)))
        except OSError as error: print("kept", type(error).__name__)
for top in {str(seen)!r}, {str(house)!r}:
    for step in os.walk(top): print("names", *step)
for path in ("notes.txt", "deep/data/table"): print("beside", open(os.path.join({str(seen)!r}, path)).read())
import json.tool, venv
print("own", sys.prefix, os.listdir(sys.prefix), open(os.path.join(sys.prefix, "pyvenv.cfg")).readline())
"""
        told = await attack(bench, code)
    assert told.count("beside shown") == 2
    assert f"own {own.prefix} [" in told
    assert told.count("kept ") >= len(ways) * (len(kept) + 2)
    assert "READ" not in told
    names = [line for line in told.splitlines() if line.startswith("names")]
    assert not [line for line in names if any(name in line for name in ("others", "another", first.execution_id))]


async def test_what_read_paths_name_is_not_written(open_bench: OpenBench, folder: Path):
    before = state(folder)
    async with open_bench(read_paths=(folder / "shown", folder / "shown.txt")) as bench:
        for path in (folder / "shown" / "data", folder / "shown.txt"):
            await try_every_way(bench, "write", path)
    assert state(folder) == before


async def test_what_read_paths_name_keeps_its_mode_owner_times_and_attributes(open_bench: OpenBench, folder: Path):
    before = state(folder)
    async with open_bench(read_paths=(folder / "shown", folder / "shown.txt")) as bench:
        for path in (folder / "shown" / "data", folder / "shown", folder / "shown.txt"):
            await try_every_way(bench, "change", path)
    assert state(folder) == before


def script_in(folder: Path) -> Path:
    """A script in `folder` that tries every way."""
    script = folder / "script.py"
    script.write_text(EVERY_WAY)
    return check(script, (folder,))


async def test_a_script_reads_its_folder_and_nothing_beside_it(open_bench: OpenBench, folder: Path):
    script = script_in(folder / "shown")
    async with open_bench(script=script) as bench:
        assert "b'shown'" in await try_every_way(bench, "read", folder / "shown" / "data", script=script)
        assert CANARY not in await try_every_way(bench, "read", folder / "kept" / "data", script=script)
        assert CANARY not in await try_every_way(bench, "read", folder / "kept.txt", script=script)
        told = await attack(bench, NAMES.format(folders=[str(folder), str(folder.parent)]))
    assert "kept" not in told


async def test_links_in_a_scripts_folder_lead_nowhere_else(open_bench: OpenBench, folder: Path):
    script = script_in(folder / "shown")
    (folder / "shown" / "file").symlink_to("../kept.txt")
    (folder / "shown" / "folder").symlink_to(folder / "kept")
    async with open_bench(script=script) as bench:
        assert CANARY not in await try_every_way(bench, "read", folder / "shown" / "file", script=script)
        assert CANARY not in await try_every_way(bench, "read", folder / "shown" / "folder" / "data", script=script)


@pytest.mark.parametrize("hidden", [".env", "deep/below/.git/config", ".ssh/"])
async def test_a_script_beside_something_hidden_sees_only_itself(open_bench: OpenBench, folder: Path, hidden: str):
    script = script_in(folder)
    path = folder / hidden
    (path if hidden.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        path.write_text(CANARY)
    async with open_bench(script=script) as bench:
        assert CANARY not in await try_every_way(bench, "read", folder / "kept.txt", script=script)
        assert CANARY not in await try_every_way(bench, "read", folder / "kept" / "data", script=script)
        assert CANARY not in await try_every_way(bench, "read", path, script=script)
        assert "b'shown'" not in await try_every_way(bench, "read", folder / "shown.txt", script=script)
        told = await attack(bench, NAMES.format(folders=[str(folder)]))
    assert "kept" not in told


async def test_a_script_beside_the_environments_sees_only_itself(open_bench: OpenBench, tmp_path: Path):
    (tmp_path / "venvs").mkdir()
    (tmp_path / "kept.txt").write_text(CANARY)
    script = script_in(tmp_path)
    async with open_bench(script=script) as bench:
        assert CANARY not in await try_every_way(bench, "read", tmp_path / "kept.txt", script=script)


async def test_a_scripts_folder_is_not_written(open_bench: OpenBench, folder: Path):
    script = script_in(folder / "shown")
    before = state(folder)
    async with open_bench(script=script) as bench:
        for path in (folder / "shown" / "data", script, folder / "kept.txt"):
            await try_every_way(bench, "write", path, script=script)
    assert state(folder) == before


async def test_a_scripts_folder_keeps_its_modes_owners_times_and_attributes(open_bench: OpenBench, folder: Path):
    script = script_in(folder / "shown")
    before = state(folder)
    async with open_bench(script=script) as bench:
        for path in (folder / "shown" / "data", script, folder / "shown", folder / "kept.txt"):
            await try_every_way(bench, "change", path, script=script)
    assert state(folder) == before


async def test_no_ioctl_changes_a_file_that_is_open_for_reading(open_bench: OpenBench, folder: Path):
    script = script_in(folder / "shown")
    before = state(folder)
    async with open_bench(script=script, read_paths=(folder / "shown.txt",)) as bench:
        for path in (folder / "shown" / "data", folder / "shown.txt"):
            await try_every_way(bench, "ioctl", path, script=script)
    assert state(folder) == before
