"""A wall that can't be put up: the program does not run, and whoever asked is told which wall it was."""

import os
import socket
from pathlib import Path

import pytest

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution import engine
from mcp_python_executor.sandbox import probe
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import Bench, OpenBench
from tests.escapes.attack import CANARY, attack, state, try_every_way
from tests.escapes.infected import infected

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_TOO_LONG = "type('Seccomp', (), {'install': lambda _: seccomp.install(bytes(40_000))})"
# By what fails: the wall that it belongs to, if any; what makes it fail, and what is told of it.
IN_THE_WORKER = {
    "mounts": ("namespaces", "worker.TEMPORARY = ['/not-there']", "mount /not-there"),
    "landlock": ("landlock", "worker.DEVICES = ['/dev/null/not-there']", "/dev/null/not-there"),
    "seccomp": ("seccomp", f"worker.seccomp = {_TOO_LONG}", "seccomp filter refused"),
    "what is no wall": (
        "",
        "worker.die_first = lambda: open('/proc/self/oom_score_adj', 'wb', 0).write(b'x')",
        "Invalid argument",
    ),
    "what nobody foresaw": ("landlock", "worker.DEVICES = None", "TypeError"),
}
IN_THE_INTERPRETER = {
    "namespaces": ("namespaces._NEWNS = 1 << 31", "unshare user, mount and PID namespaces"),
    "landlock": ("landlock._ALL_SCOPES = 1 << 20", "Landlock: create a ruleset"),
    "seccomp": ("seccomp.program = lambda *_, **__: bytes(40_000)", "seccomp filter refused"),
}


def prepared(monkeypatch: pytest.MonkeyPatch, prepare: str) -> None:
    """Has every interpreter run `prepare` before it puts its walls up."""

    def bootstrap(module: str) -> list[str]:
        *flags, boot = probe.bootstrap(module)
        inside = f"from inside import landlock, namespaces, seccomp, worker; {prepare}; m.main()"
        return [*flags, boot.replace("m.main()", inside)]

    monkeypatch.setattr(engine, "bootstrap", bootstrap)


async def refused(bench: Bench, output: Path) -> str:
    """What is told of a program that is not run, both times it is asked for."""
    code = "import os\nopen(os.environ['OUTPUT_PATH'] + '/canary', 'w')\nprint('RAN')"
    told: set[str] = set()
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            await bench.run(code)
        told.add(str(caught.value))
    assert os.listdir(output) == []  # noqa: PTH208 - names will do
    return told.pop()


async def not_refused(bench: Bench) -> None:
    """Nothing of a wall is put up that is not among those the program runs behind."""
    assert (await bench.run("print('RAN')")).stdout == "RAN\n"


@pytest.mark.parametrize("version", [1, 3, 5])
async def test_with_namespaces_of_its_own_a_program_is_held_by_an_old_landlock_too(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, monkeypatch: pytest.MonkeyPatch, version: int
):
    if not standing.namespaces:
        pytest.skip("these walls ask for ABI 6")
    prepared(monkeypatch, f"landlock.abi = lambda: {version}")
    shown, secret = tmp_path / "shown" / "data", tmp_path / "secret"
    shown.parent.mkdir()
    for path in (shown, secret):
        path.write_text(CANARY)
    name = f"\0canary-{os.getpid()}-{version}"
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        code = f"""
import os, socket
for act in (
    lambda: socket.create_connection({inet.getsockname()!r}, 1),
    lambda: socket.socketpair()[0].connect({name!r}),
    lambda: os.open("/proc/self/oom_score_adj", os.O_WRONLY),
    lambda: os.truncate({str(shown)!r}, 0),
    lambda: os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY),
    lambda: os.listdir("/proc/{os.getpid()}/fd"),
):
    try: print("DID", act())
    except OSError as error: print("kept out", error)
"""
        async with open_bench(read_paths=(shown.parent,)) as bench:
            own = bench.surroundings.interpreter.prefix / "pyvenv.cfg"
            before = [state(place) for place in (shown, secret, own)]
            told = await attack(bench, code)
            assert CANARY in await try_every_way(bench, "read", shown)
            assert CANARY not in await try_every_way(bench, "read", secret)
            for thing in ("write", "change"):
                for path in (shown, secret, own):
                    await try_every_way(bench, thing, path)
    assert told.count("kept out") == 6
    assert "DID" not in told
    assert [state(place) for place in (shown, secret, own)] == before


@pytest.mark.parametrize("what", IN_THE_WORKER)
async def test_without_a_wall_of_its_own_no_program_runs(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, monkeypatch: pytest.MonkeyPatch, what: str
):
    wall, prepare, reason = IN_THE_WORKER[what]
    prepared(monkeypatch, prepare)
    (tmp_path / "out").mkdir()
    async with open_bench(output_path=tmp_path / "out") as bench:
        if wall and not getattr(standing, wall):
            await not_refused(bench)
            return
        told = await refused(bench, tmp_path / "out")
    # Mounts are its namespaces' own: there is no worker yet.
    assert ("the program was lost: " if what == "mounts" else "a worker could not put up its walls: ") in told
    assert reason in told


@pytest.mark.parametrize("wall", IN_THE_INTERPRETER)
async def test_without_a_wall_of_its_interpreters_no_program_runs(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, monkeypatch: pytest.MonkeyPatch, wall: str
):
    prepare, reason = IN_THE_INTERPRETER[wall]
    prepared(monkeypatch, prepare)
    (tmp_path / "out").mkdir()
    async with open_bench(output_path=tmp_path / "out") as bench:
        if not getattr(standing, wall):
            await not_refused(bench)
            return
        told = await refused(bench, tmp_path / "out")
    assert "an interpreter did not start: " in told
    assert reason in told


async def test_with_a_thread_that_no_wall_would_bind_no_program_runs(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement
):
    if standing.bubblewrap is None:
        pytest.skip("packages are imported behind the walls of each program here")
    code = """
import threading, time
begin = lambda: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
os.register_at_fork(after_in_child=begin)
"""
    (tmp_path / "out").mkdir()
    async with infected(open_bench, tmp_path, code, output_path=tmp_path / "out") as bench:
        told = await refused(bench, tmp_path / "out")
    # The kernel gives one of several threads no other mounts.
    assert ("enter a mount namespace" if standing.namespaces else "a thread survived the fork") in told
