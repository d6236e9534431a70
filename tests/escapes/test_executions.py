"""A program neither reads nor changes what another execution has, be it under way or over."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import ExecutionResult
from mcp_python_executor.execution.surroundings import surroundings
from mcp_python_executor.settings import Settings
from tests.bench import Bench, OpenBench, make_interpreter
from tests.escapes.attack import CANARY, attack, state, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# Writes a canary into each place of its own, waits, and tells what became of them.
_VICTIM = """
import json, os, tempfile, time
output = os.environ["OUTPUT_PATH"]
places = [os.getcwd(), tempfile.gettempdir(), os.environ["HOME"]]
for place in places:
    open(place + "/secret", "w").write({canary!r})
print(json.dumps(places), flush=True)
deadline = time.monotonic() + 25
while not os.path.exists(output + "/go") and time.monotonic() < deadline:
    time.sleep(0.01)
print([open(place + "/secret").read() for place in places], [sorted(os.listdir(place)) for place in places])
"""


@dataclass
class Scene:
    """An attacker's bench, and a victim under way in it: its directory and each path of its secrets."""

    bench: Bench
    directory: Path
    secrets: list[Path]


@pytest.fixture(params=["in the same environment", "in another environment"])
async def scene(request: pytest.FixtureRequest, open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Scene]:
    """What an attacker finds while another program runs, which must find its own as it left it."""
    elsewhere = request.param == "in another environment"
    async with opened_scene(open_bench, tmp_path, elsewhere=elsewhere) as opened:
        yield opened


@asynccontextmanager
async def opened_scene(open_bench: OpenBench, tmp_path: Path, *, elsewhere: bool) -> AsyncGenerator[Scene]:
    """See `scene`."""
    output = tmp_path / "out"
    output.mkdir()
    told, ended = list[str](), list[ExecutionResult]()
    started = anyio.Event()

    def hear(_: str, text: str) -> None:
        told.append(text)
        started.set()

    async with open_bench(output_path=output) as bench, anyio.create_task_group() as tasks:

        async def run() -> None:
            ended.append(await bench.run(_VICTIM.format(canary=CANARY), listener=hear))

        tasks.start_soon(run)
        await started.wait()
        places = [Path(place) for place in json.loads("".join(told))]
        attacker = replace(bench)
        if elsewhere:
            other = make_interpreter(tmp_path / "other")
            settings = Settings(venvs_base_path=tmp_path / "venvs", output_path=output)
            attacker.surroundings = surroundings(settings, other, None, os.environ)
        yield Scene(attacker, places[0], [place / "secret" for place in places])
        (output / "go").touch()
    last = ended[0].stdout.splitlines()[-1]
    assert last.startswith(repr([CANARY] * 3))
    assert "canary-beside" not in last


async def test_what_another_execution_has_under_way_is_not_read(scene: Scene):
    for path in scene.secrets:
        assert CANARY not in await try_every_way(scene.bench, "read", path)


async def test_what_another_execution_has_under_way_is_not_written(scene: Scene):
    before = state(scene.directory)
    for path in scene.secrets:
        await try_every_way(scene.bench, "write", path)
    assert state(scene.directory) == before


async def test_what_another_execution_has_under_way_keeps_modes_owners_and_times(scene: Scene):
    before = state(scene.directory)
    for path in scene.secrets:
        await try_every_way(scene.bench, "change", path)
    assert state(scene.directory) == before


async def test_executions_are_not_listed(scene: Scene):
    run = scene.directory.parent
    code = f"""
import os
for path in {[str(run), str(run.parent), str(run.parent.parent)]}:
    try:
        print("listed", os.listdir(path))
    except OSError as error:
        print("refused", error.strerror)
"""
    told = await attack(scene.bench, code)
    assert told.count("listed ") + told.count("refused ") == 3
    assert run.name not in told
    assert "secret" not in told


@pytest.mark.parametrize("thing", ["read", "write", "change"])
async def test_what_an_earlier_execution_left_is_out_of_reach(open_bench: OpenBench, thing: str):
    plant = f"""
import os
for place in (".", os.environ["OUTPUT_PATH"]):
    open(place + "/kept", "w").write({CANARY!r})
"""
    async with open_bench() as bench:
        files = [file.path for file in (await bench.run(plant)).files]
        assert len(files) == 2
        program = files[0].parent / "main.py"
        with anyio.fail_after(60):
            while program.exists():  # noqa: ASYNC110 - what is not listed goes a moment later, and nothing tells
                await anyio.sleep(0.01)
        before = [state(path.parent) for path in files]
        for path in files:
            assert CANARY not in await try_every_way(bench, thing, path)
        assert [state(path.parent) for path in files] == before


async def test_the_whole_of_an_earlier_output_is_out_of_reach(open_bench: OpenBench):
    async with open_bench() as bench:
        talker = await bench.run(f"print({CANARY!r} * 10_000)")
        path = bench.zygotes.engine.runs / f"{talker.execution_id}.stdout"
        before = state(path)
        for thing in ("read", "write", "change"):
            assert CANARY not in await try_every_way(bench, thing, path)
        assert state(path) == before


async def test_what_a_running_program_prints_is_nobody_elses(scene: Scene):
    code = """
import os
own, found = int(os.readlink("/proc/self")), []
for pid in {*range(1, 64), *range(own - 16, own), os.getppid()} - {own}:
    for number in range(16):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                found.append((pid, os.open(f"/proc/{pid}/fd/{number}", flags | os.O_NONBLOCK)))
            except OSError:
                pass
print("found", found)
"""
    assert "found []" in await attack(scene.bench, code)
