"""When an execution's result is there, however it came, none of its processes is, whatever they did to stay."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import zygote
from mcp_python_executor.execution.engine import SPARES
from mcp_python_executor.execution.model import ExecutionResult, Interpreter, Status
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.process import proc
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import PROGRAMS, Bench, OpenBench
from tests.escapes import apart
from tests.server.test_endings import Family

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_STAYS = (PROGRAMS / "stays_in_every_way.py").read_text()
# More than any of the processes takes for a beat.
_BEATS_SECONDS = 0.1
_SECONDS = 30


@dataclass
class Crowd:
    """The processes of one run, as they are seen from outside; `hear` learns from its output where they are."""

    output: Path
    told: str = ""
    up: anyio.Event = field(default_factory=anyio.Event)

    def hear(self, _: str, text: str) -> None:
        self.told += text
        if self.is_up:
            self.up.set()

    @property
    def is_up(self) -> bool:
        return "\n" in self.told.partition("up /")[2]

    @property
    def directory(self) -> str:
        """Where the run is, and each of its processes that did not leave."""
        assert self.is_up, self.told
        return "/" + self.told.partition("up /")[2].partition("\n")[0]

    def alive(self) -> dict[int, str]:
        """Every process with a thread in the run's directory that may still run a program, and its name."""
        found: dict[int, str] = {}
        for process in psutil.pids():
            for thread in proc.threads(process):
                task = Path(f"/proc/{process}/task/{thread}")
                with suppress(OSError):  # it has ended, or is another user's
                    if str((task / "cwd").readlink()) == self.directory and proc.parting_status(int(thread)) is None:
                        found[process] = (task / "comm").read_text().strip()
        return found

    def grown(self) -> dict[str, int]:
        """How often each of its processes has written its canary."""
        return {path.name: path.stat().st_size for path in self.output.iterdir()}


@dataclass
class Scene:
    """A bench, and the crowd of the program that is to be run in it."""

    bench: Bench
    crowd: Crowd

    async def run(self, ending: str, *, timeout_seconds: float | None = None) -> ExecutionResult:
        """Runs a program that ends by `ending` when its crowd is up."""
        code = _STAYS + ending
        return await self.bench.run(code, listener=self.crowd.hear, timeout_seconds=timeout_seconds)


@pytest.fixture
async def scene(open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Scene]:
    """See `opened_scene`."""
    async with opened_scene(open_bench, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def opened_scene(open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Scene]:
    """A scene in which the next call works when all is over."""
    output = tmp_path / "out"
    output.mkdir()
    async with open_bench(output_path=output, limits=Limits(kept_output_bytes=MEBIBYTE)) as bench:
        yield Scene(bench, Crowd(output))
        with anyio.fail_after(_SECONDS):
            assert (await bench.run("6 * 7")).result == "42"


async def assert_gone(crowd: Crowd) -> None:
    """None of the crowd is there now, nor does any write."""
    grown, alive = crowd.grown(), crowd.alive()
    assert alive == {}
    assert len(grown) > 15
    await anyio.sleep(_BEATS_SECONDS)
    assert crowd.grown() == grown


# How the program ends, and what is told of it.
ENDINGS = {
    "well": ("", Status.OK),
    "by an exception": ("raise ValueError", Status.ERROR),
    "by an exit that runs nothing more": ("os._exit(3)", Status.ERROR),
    "by a signal": ("os.kill(os.getpid(), signal.SIGKILL)", Status.KILLED),
    "by a crash": ("ctypes.string_at(0)", Status.KILLED),
    "as another program": ("os.execv('/bin/true', ['true'])", Status.OK),
    "by a bound": ("while True: print('x' * 10_000)", Status.KILLED),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_of_a_program_that_ends_nothing_is_left(scene: Scene, ending: str):
    code, status = ENDINGS[ending]
    result = await scene.run(code)
    await assert_gone(scene.crowd)
    assert result.status is status
    assert "born_at_the_end" in scene.crowd.grown() or ending != "well"


async def test_of_a_program_whose_time_is_over_nothing_is_left(scene: Scene):
    result = await scene.run("time.sleep(60)", timeout_seconds=2)
    await assert_gone(scene.crowd)
    assert result.status is Status.TIMEOUT


async def test_of_a_program_whose_caller_takes_it_back_nothing_is_left(scene: Scene):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, "time.sleep(60)")
        with anyio.fail_after(_SECONDS):
            await scene.crowd.up.wait()
        assert len(scene.crowd.alive()) > 15
        tasks.cancel_scope.cancel()
    await assert_gone(scene.crowd)


def above(crowd: Crowd) -> list[psutil.Process]:
    """What stands above all of the crowd, from the top."""
    ours, alive = psutil.Process().children(recursive=True), crowd.alive()
    lines: list[set[int]] = []
    for process in ours:
        with suppress(psutil.NoSuchProcess):
            lines += [{each.pid for each in process.parents()}] if process.pid in alive else []
    return [each for each in ours if each.pid not in alive and all(each.pid in line for line in lines)]


def interpreter_of(crowd: Crowd, standing: Confinement) -> psutil.Process:
    """What forked the program; without namespaces a supervisor is in between."""
    return above(crowd)[-1 if standing.namespaces else -2]


@pytest.mark.parametrize("who", ["first", "interpreter"])
async def test_of_a_program_whose_interpreter_is_killed_nothing_is_left(scene: Scene, standing: Confinement, who: str):
    async def kill() -> None:
        await scene.crowd.up.wait()
        first = who == "first" and standing.bubblewrap
        victim = above(scene.crowd)[0] if first else interpreter_of(scene.crowd, standing)
        victim.kill()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        with anyio.fail_after(_SECONDS), pytest.raises(EngineError, match="run it again"):
            await scene.run("time.sleep(60)")
        with anyio.fail_after(_SECONDS):
            while scene.crowd.alive():  # noqa: ASYNC110 - the kernel ends them, and tells nobody
                await anyio.sleep(0.01)
        await assert_gone(scene.crowd)


async def test_a_stopped_interpreter_holds_no_end_up(
    scene: Scene, standing: Confinement, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zygote, "_END_SECONDS", 0.1)

    async def stop() -> None:
        await scene.crowd.up.wait()
        interpreter_of(scene.crowd, standing).suspend()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        with anyio.fail_after(_SECONDS):
            assert (await scene.run("time.sleep(60)", timeout_seconds=2)).status is Status.TIMEOUT
        await assert_gone(scene.crowd)


# What has a file of its own /tmp open when no process of the program is left: its mounts can't go.
_HOLDS = {
    "sockets that are on their way to each other": """
pair = socket.socketpair()
for end in pair:
    socket.send_fds(end, [b"x"], [held.fileno(), *(each.fileno() for each in pair)])
""",
    "what it sent to the server": "socket.send_fds(socket.socket(fileno=3), [bytes(4)], [held.fileno()] * 200)",
    "what it sent to the server and does not read": """
channel = socket.socket(fileno=3)
channel.sendall(b'\\0\\0\\0\\2{}')
socket.send_fds(channel, [bytes(4)], [held.fileno()] * 200)
""",
}


@pytest.mark.parametrize("end", ["ends", "leaves a process"])
@pytest.mark.parametrize("what", _HOLDS)
async def test_what_holds_a_file_of_a_program_that_has_ended_holds_nobody_up(
    open_bench: OpenBench, what: str, end: str
):
    code = f"""
import os, signal, socket
held = open(os.environ["TMPDIR"] + "/held", "w+b", 0)
held.write(bytes(1 << 20))
{_HOLDS[what]}
if {end != "ends"} and os.fork() == 0:
    signal.pause()
print("held", flush=True)
os._exit(0)
"""
    async with open_bench() as bench:
        await bench.run("1")
        interpreters = [process.pid for process in psutil.Process().children()]
        for _ in range(2 * (bench.zygotes.engine.limits.concurrent + SPARES) + 1):
            with suppress(EngineError), anyio.fail_after(_SECONDS):
                assert (await bench.run(code)).stdout == "held\n"
            with anyio.fail_after(_SECONDS):
                assert (await bench.run("6 * 7")).result == "42"
        assert [process.pid for process in psutil.Process().children()] == interpreters


@pytest.fixture
def order(standing: Confinement, interpreter: Interpreter, tmp_path: Path) -> apart.Order:
    """A crowd for a server of its own."""
    return apart.Order(standing, interpreter, tmp_path, _STAYS + "time.sleep(60)")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_of_a_program_whose_server_ends_nothing_is_left(order: apart.Order, end: signal.Signals):
    crowd = Crowd(order.output)
    with apart.server(order) as server:
        assert server.stdout is not None
        while not crowd.is_up:
            line = server.stdout.readline().decode()
            assert line, crowd.told
            crowd.hear("", line)
        assert len(crowd.alive()) > 15
        family = Family(server.pid)
        server.send_signal(end)
        assert family.left(_SECONDS) == []
        await assert_gone(crowd)
