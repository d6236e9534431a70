"""A package that attacks from the warm interpreter reaches nothing outside and costs only its environment's runs."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import textwrap
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from structlog.testing import capture_logs

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.execution import ahead, zygote
from mcp_python_executor.execution.model import ExecutionResult, Interpreter
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.sandbox.probe import Confinement
from mcp_python_executor.settings import NetworkAccess
from tests.bench import OpenBench
from tests.conftest import open_descriptors
from tests.escapes.attack import CANARY, EVERY_WAY, HOLD_FILTERS, state
from tests.escapes.infected import TELL, in_another_environment, infected

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_DONE = "attack-ran-to-its-end"
_SECONDS = 20


@pytest.fixture
def victim() -> Iterator[Path]:
    """A secret file in a folder of its own in the real home directory."""
    above = Path(tempfile.mkdtemp(prefix="canary-", dir=Path.home()))
    (above / "folder").mkdir()
    (above / "folder" / "file").write_text(CANARY)
    yield above / "folder" / "file"
    shutil.rmtree(above)


def every_way(thing: str, path: Path) -> str:
    """Code of a package that tries every way, and tells what came of it; not in interpreters that this starts.

    It leaves no descriptor open, for which it would not be imported ahead.
    """
    return f"""
import contextlib, io, sys
if "TRYING" in os.environ:
    sys.exit()
os.environ["TRYING"] = "x"
sys.argv[1:], given, heard = {[thing, str(path)]}, sys.argv[1:], io.StringIO()
os.makedirs(os.environ["HOME"], exist_ok=True)
os.chdir(os.environ["HOME"])
before = [entry for entry in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + entry)]
with contextlib.redirect_stdout(heard):
    exec({EVERY_WAY!r}, {{"__name__": "every_way"}})
sys.argv[1:] = given
os.chdir("/")
for entry in set(os.listdir("/proc/self/fd")) - set(before):
    with contextlib.suppress(OSError):
        os.close(int(entry))
del os.environ["TRYING"]
told.append(heard.getvalue())
"""


@pytest.mark.parametrize("at_start", [True, False], ids=["at start", "ahead"])
@pytest.mark.parametrize("thing", ["read", "write", "change", "ioctl"])
async def test_a_file_of_the_home_directory_is_out_of_reach(
    open_bench: OpenBench, tmp_path: Path, victim: Path, thing: str, at_start: bool
):
    before = state(victim.parent.parent)
    async with infected(open_bench, tmp_path, every_way(thing, victim), at_start=at_start) as bench:
        told = (await bench.run(TELL)).stdout
    assert _DONE in told
    assert CANARY not in told
    assert state(victim.parent.parent) == before


async def test_its_own_environment_and_anothers_are_not_changed(
    open_bench: OpenBench, tmp_path: Path, interpreter: Interpreter
):
    before = state(interpreter.prefix)
    code = every_way("write", interpreter.prefix / "pyvenv.cfg") + every_way(
        "change", interpreter.prefix / "pyvenv.cfg"
    )
    code += f"""
for name in ({str(tmp_path / "infected" / "pyvenv.cfg")!r}, __file__, os.path.dirname(__file__) + "/canary"):
    try:
        open(name, "a").write("changed")
        told.append("WROTE")
    except OSError as error:
        told.append("refused")
"""
    async with infected(open_bench, tmp_path, code) as bench:
        told = (await bench.run(TELL)).stdout
    assert told.count(_DONE) == 2
    assert told.count("refused\n") == 3
    assert state(interpreter.prefix) == before


async def test_the_server_is_not_read(open_bench: OpenBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    with tempfile.TemporaryFile() as secret:
        secret.write(CANARY.encode())
        secret.flush()
        code = f"""
def look(path):
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            told.append(file.read(4096))
    except OSError:
        pass
told.append(dict(os.environ))
for pid in [*range(1, 64), os.getppid(), {os.getpid()}]:
    for name in ("environ", "cmdline", *(f"fd/{{number}}" for number in range(32))):
        if pid != os.getpid() or name in ("environ", "cmdline"):
            look(f"/proc/{{pid}}/{{name}}")
told.append({_DONE!r})
"""
        async with infected(open_bench, tmp_path, code) as bench:
            told = (await bench.run(TELL)).stdout
    assert _DONE in told
    assert CANARY not in told


@pytest.mark.parametrize("network", NetworkAccess)
async def test_no_socket_of_the_hosts_is_reached(open_bench: OpenBench, tmp_path: Path, network: NetworkAccess):
    output = tmp_path / "out"
    output.mkdir()
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as inet:
        unix.bind(str(output / "socket"))
        unix.listen()
        servers = [unix] if network is NetworkAccess.FULL else [unix, inet]
        code = f"""
for family, address in ((socket.AF_UNIX, {str(output / "socket")!r}), (socket.AF_INET, {inet.getsockname()})):
    try:
        socket.socket(family).connect(address)
        told.append("CONNECTED")
    except OSError as error:
        told.append(error)
for name in ("\\0canary", {str(output / "socket")!r}):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        try:
            socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"x", name)
        except OSError as error:
            told.append(error)
told.append({_DONE!r})
"""
        async with infected(open_bench, tmp_path, code, output_path=output, network_access=network) as bench:
            told = (await bench.run(TELL)).stdout
        assert _DONE in told
        for server in servers:
            server.settimeout(0.01)
            with pytest.raises(TimeoutError):
                server.accept()[0].close()


def named(name: str) -> list[psutil.Process]:
    """Every process on the host of that name."""
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]


async def test_a_daemon_ends_with_the_interpreter(open_bench: OpenBench, tmp_path: Path, standing: Confinement):
    code = """
import ctypes, signal, time
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        ctypes.CDLL(None).prctl(15, b"canary-daemon", 0, 0, 0)
        os.write(tell, b"x")
        os.closerange(0, 4096)
        while True:
            time.sleep(60)
    os._exit(0)
os.wait()
os.read(ready, 1)
os.close(ready), os.close(tell)
told.append("attack-ran-to-its-end")
"""
    async with infected(open_bench, tmp_path, code) as bench:
        told = (await bench.run(TELL)).stdout
        assert _DONE in told
        assert bool(named("canary-daemon")) is (standing.bubblewrap is not None)
    assert named("canary-daemon") == []


async def test_nobody_outside_is_signalled(open_bench: OpenBench, tmp_path: Path):
    heard: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _: heard.append(number))
    try:
        code = f"""
import signal
for pid in [-1, *range(1, 64), os.getppid(), {os.getpid()}, -{os.getpgid(0)}, {os.getppid()}]:
    try:
        os.kill(pid, signal.SIGURG)
        told.append(f"sent to {{pid}}")
    except OSError as error:
        told.append(error)
told.append({_DONE!r})
"""
        async with infected(open_bench, tmp_path, code) as bench:
            told = (await bench.run(TELL)).stdout
    finally:
        signal.signal(signal.SIGURG, before)
    assert _DONE in told
    assert heard == []


# What a package can do to the interpreter that it is in. Whether programs still run there is its own affair.
SABOTAGE = {
    "leaves": "os._exit(0)",
    "exits": "raise SystemExit(3)",
    "aborts": "os.abort()",
    "kills itself": "os.kill(os.getpid(), 9)",
    "stops itself": "os.kill(os.getpid(), 19)",
    "never ends": "while True: pass",
    "waits for ever": "import signal\nsignal.pause()",
    "fails": "1 / 0",
    "is not Python": "this is not Python",
    "closes all": "os.closerange(0, 4096)",
    "opens all": "held = []\ntry:\n    while True: held.append(os.dup(0))\nexcept OSError: pass",
    "ignores children": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "ignores signals": "import signal\nfor n in (1, 2, 3, 15, 17): signal.signal(n, signal.SIG_IGN)",
    "blocks signals": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "alarms": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)",
    "starves itself": "import resource\nfor n in range(16):\n"
    "    try: resource.setrlimit(n, (0, 0))\n    except (OSError, ValueError): pass",
    "starts threads": "import threading, time\nfor _ in range(8):\n"
    "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "cannot fork": "def fork(): raise OSError(11, 'no')\nos.fork = fork",
    "is always the child": "os.fork = lambda: 0",
    "is never the child": "os.fork = os.getpid",
    "breaks in the child": "os.register_at_fork(after_in_child=lambda: os._exit(7))",
    "breaks in the parent": "os.register_at_fork(after_in_parent=lambda: os._exit(7))",
    "runs away in the child": "def run():\n    while True: pass\nos.register_at_fork(after_in_child=run)",
    "breaks what it relies on": "import json, select, struct\njson.loads = json.dumps = struct.pack = None",
    "hears nothing": "socket.recv_fds = socket.socket.recvmsg = lambda *_: 1 / 0",
    "says nothing": "socket.socket.sendmsg = lambda *_: 0",
    "says garbage": "control() and control().send(b'not json')",
    "says too much": "try: control().send(b' ' * 200_000)\nexcept (OSError, AttributeError): pass",
    "says nothing at all": "control() and control().send(b'')",
    "hangs up": "control() and control().shutdown(2)",
    "is ready early": 'control() and control().send(b\'{"event": "ready"}\')\nimport time\ntime.sleep(0.2)',
    "says that it failed": 'control() and control().send(b\'{"event": "failed", "reason": "forged"}\')',
    "tells of others": "for each in ('init', 'forked', 'exited', 'ended', 'failed'):\n"
    '    control() and control().send(b\'{"event": "%s", "id": "0123456789abcdef"}\' % each.encode())',
    "tells of no event": 'control() and control().send(b\'{"event": "rm -rf", "id": [1, {}]}\')',
    "hands descriptors over": "c = control()\nfor _ in range(9 if c else 0):\n"
    '    socket.send_fds(c, [b\'{"event": "ready"}\'], [0, 1, 2])',
    "reads the orders": "c = control()\nif c and os.fork() == 0:\n    while c.recv(65536): pass\n    os._exit(0)",
    "floods": "c = control()\nfor _ in range(4 if c else 0):\n    if os.fork() == 0:\n        try:\n"
    '            while True: c.send(b\'{"event": "init", "id": "x"}\')\n        except OSError: os._exit(0)',
    "stops the first processes of runs": "if inits(): os.kill(begin(PLACE).pid, 19)",
    "kills the first processes of runs": "if inits(): os.kill(begin(PLACE).pid, 9)",
    "starves the first processes of runs": "import resource\nif inits():\n    run = begin(PLACE)\n"
    "    for n in range(16):\n        try: resource.prlimit(run.pid, n, (0, 0))\n        except OSError: pass",
    "takes all first processes of runs": "while inits():\n    try: begin(PLACE)\n    except OSError: break",
    "ends what makes first processes": "if inits():\n    for n in range(1, 65):\n        try: os.kill(1, n)\n"
    "        except OSError: pass",
    "asks for first processes in vain": "if inits():\n    for words in (b'', b'??', b'?' * 9999):\n"
    "        try: inits()._maker.send(words)\n        except OSError: pass",
    "asks for what is no run": "if inits():\n    for name in ('..', '.', '/', '', 'not-there', 'x' * 9999):\n"
    "        try: inits().begin(name)\n        except OSError: pass",
    "leaves the way to its runs": "os.chmod = os.mkdir = os.makedirs = lambda *_, **__: None",
}


@pytest.mark.parametrize("how", SABOTAGE)
async def test_a_sabotaged_interpreter_costs_only_its_own_environment(
    open_bench: OpenBench, tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch, how: str
):
    place = f"next(__import__('glob').iglob({str(tmp_path)!r} + '/runs/*/'))"
    code = SABOTAGE[how].replace("PLACE", place)
    async with infected(open_bench, tmp_path, code, limits=Limits(wall_seconds=1)) as bench:
        other = in_another_environment(bench, interpreter, tmp_path)
        assert (await other.run("6 * 7")).result == "42"
        monkeypatch.setattr(zygote, "_START_SECONDS", 2)
        descriptors = open_descriptors()
        for _ in range(2):
            with contextlib.suppress(ExecutorError), anyio.fail_after(_SECONDS):
                told = await bench.run("'ran'")
                assert told.result in ("'ran'", None)
        assert (await other.run("6 * 7")).result == "42"
        # Two workers of each of its two interpreters may wait for what is never told, with four descriptors each.
        assert len(open_descriptors()) <= len(descriptors) + 16


def during_a_run(runs: Path, act: str) -> str:
    """Code of a package that waits for a program of its environment, and then does `act` with `run`, its directory."""
    acting = "\n".join(" " * 20 + line for line in act.strip().splitlines())
    return f"""
import time
found = control()
if found and os.fork() == 0:
    deadline = time.monotonic() + {_SECONDS}
    while time.monotonic() < deadline:
        for zygote in os.listdir({str(runs)!r}):
            for name in os.listdir({str(runs)!r} + "/" + zygote):
                run = {str(runs)!r} + "/" + zygote + "/" + name
                if os.path.exists(run + "/work/main.py"):
{acting}
                    os._exit(0)
        time.sleep(0.005)
    os._exit(1)
"""


# Waits for the package's act to be over.
_MEANWHILE = "import time\ntime.sleep(0.5)\n"

FORGED = {
    "an early end": '{"event": "ended", "id": "ID"}',
    "a failure": '{"event": "failed", "id": "ID", "reason": "forged"}',
    "an early exit": '{"event": "exited", "id": "ID", "status": 0}',
    "a status of a signal": '{"event": "exited", "id": "ID", "status": 9}',
    "no status": '{"event": "exited", "id": "ID", "status": "killed"}',
    "negative numbers": '{"event": "exited", "id": "ID", "status": -1, "cpu": -1, "peak": -1}',
    "infinite numbers": '{"event": "exited", "id": "ID", "status": 0, "cpu": Infinity, "peak": 0}',
    "no numbers": '{"event": "exited", "id": "ID", "status": 0, "cpu": NaN, "peak": 0}',
    "other processes": '{"event": "forked", "id": "ID"}',
}


@pytest.mark.parametrize("what", [*FORGED, "an enormous status"])
async def test_a_forged_event_costs_only_its_own_environment(
    open_bench: OpenBench, tmp_path: Path, interpreter: Interpreter, what: str
):
    event = FORGED.get(what, '{"event": "exited", "id": "ID", "status": 99999999999999999999}')
    act = f"found.send({event!r}.replace('ID', name).encode())"
    async with infected(open_bench, tmp_path, during_a_run(tmp_path / "runs", act)) as bench:
        other = in_another_environment(bench, interpreter, tmp_path)
        for _ in range(2):
            with contextlib.suppress(ExecutorError), anyio.fail_after(_SECONDS):
                told = await bench.run(_MEANWHILE + "print('ran')")
                assert isinstance(told, ExecutionResult)
                assert told.stdout in ("ran\n", "")
        assert (await other.run("6 * 7")).result == "42"


@pytest.mark.parametrize("what", ["the server writes", "the server lists"])
async def test_a_link_in_the_place_of_a_runs_directory_is_not_followed(
    open_bench: OpenBench, tmp_path: Path, what: str
):
    target = tmp_path / "target"
    for folder in ("work", "output"):
        (target / folder).mkdir(parents=True)
    act = f"os.rename(run, run + '-moved'); os.symlink({str(target)!r}, run)"
    async with infected(open_bench, tmp_path, during_a_run(tmp_path / "runs", act)) as bench:

        def plant(_: str, __: str) -> None:
            (target / "work" / "secret").write_text(CANARY)

        with contextlib.suppress(ExecutorError):
            result = await bench.run("print('up', flush=True)\n" + _MEANWHILE + "print('x' * 100_000)", listener=plant)
            if what == "the server lists":
                assert [file.path for file in result.files if "secret" in file.path.name] == []
    if what == "the server writes":
        assert sorted(path.name for path in target.iterdir()) == ["output", "work"]


async def test_a_worker_that_is_kept_from_its_walls_is_behind_the_interpreters(
    open_bench: OpenBench, tmp_path: Path, victim: Path
):
    code = """
import sys
for name in ("inside.landlock", "inside.seccomp", "inside.namespaces"):
    module = sys.modules.get(name)
    for each in ("restrict", "install", "drop_capabilities", "join_mounts", "own_user", "no_new_privileges"):
        if hasattr(module, each):
            setattr(module, each, lambda *_, **__: True)
told.append("attack-ran-to-its-end")
"""
    before = state(victim.parent.parent)
    async with infected(open_bench, tmp_path, code) as bench:
        assert _DONE in (await bench.run(TELL)).stdout
        for thing in ("read", "write", "change"):
            told = (await bench.run(EVERY_WAY, args=(thing, str(victim)))).stdout
            assert _DONE in told
            assert CANARY not in told
    assert state(victim.parent.parent) == before


# A process that is told to be the first one of a run, of which it is never told that it has ended.
_IN_A_RUNS_NAME = """
zygote = next(each for each in gc.get_objects() if type(each).__name__ == "Zygote")
told, (ended, end) = type(zygote).tell, os.pipe()
other = os.fork()
if other == 0:
    os.read(ended, 1)
    held = b"x" * (200 << 20)
    signal.pause()
def tell(self, event, pid=0):
    if event["event"] == "ended":
        os.write(end, b"x")
    else:
        told(self, event, other if event["event"] == "init" else pid)
type(zygote).tell = tell
"""
# What a package does to the machine while it is imported, or once it has been.
EXHAUSTING = {
    "20 processes and threads": [
        pytest.param("for _ in range(60):\n    if os.fork() == 0: time.sleep(60); os._exit(0)", id="processes"),
        pytest.param(
            "for _ in range(60): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", id="threads"
        ),
    ],
    "64 MB of memory": [
        pytest.param("held = b'x' * (200 << 20)", id="heap"),
        pytest.param(
            "if os.fork() == 0:\n    os.setsid()\n    held = b'x' * (200 << 20)\n    time.sleep(60)", id="daemon"
        ),
        pytest.param("held = mmap.mmap(-1, 200 << 20)\nfor at in range(0, 200 << 20, 4096): held[at] = 1", id="shared"),
        pytest.param("open('/tmp/big', 'wb').write(bytes(200 << 20))", id="temporary files"),
        pytest.param(HOLD_FILTERS, id="filters"),
        pytest.param(
            "def take():\n    global held\n    time.sleep(1.5)\n    held = b'x' * (200 << 20)\n"
            "threading.Thread(target=take, daemon=True).start()",
            id="heap, later",
        ),
        pytest.param(f"if inits():\n{textwrap.indent(_IN_A_RUNS_NAME, '    ')}", id="in a run's name"),
        # In namespaces of runs that nobody asked for.
        pytest.param("inits() and inside(begin(place), fill)", id="a run's files"),
        pytest.param("for _ in range(9): inits() and inside(begin(place), lambda: fill(20))", id="nine runs' files"),
        pytest.param("for _ in range(9): inits() and inside(begin(place), many)", id="nine runs' empty files"),
        pytest.param(
            "if inits():\n    run = begin(place)\n    inside(run, fill)\n    os.kill(run.pid, 19)",
            id="a stopped run's files",
        ),
        pytest.param(
            "if inits():\n    run = begin(place)\n    inside(run, fill)\n    inits().end_run(run)",
            id="an ended run's files",
        ),
        pytest.param(
            "if inits():\n    run = begin(place)\n    inside(run, fill)\n    run.close()", id="a forsaken run's files"
        ),
    ],
    "200 pipes and sockets": [
        pytest.param("held = [socket.socketpair() for _ in range(300)]", id="sockets"),
        pytest.param("held = [os.pipe() for _ in range(300)]", id="pipes"),
    ],
    "20 MB on the disk": [
        pytest.param("open(place + '/big', 'wb').write(bytes(100 << 20))", id="a file"),
        pytest.param("for n in range(100): open(f'{place}/{n}', 'wb').write(bytes(1 << 20))", id="files"),
    ],
    "1 s of processor time": [
        pytest.param(
            "def burn():\n    while True: pass\nthreading.Thread(target=burn, daemon=True).start()", id="later"
        ),
    ],
}


@pytest.mark.parametrize(
    ("bound", "code"),
    [
        pytest.param(bound, *case.values, id=f"{bound}, {case.id}")
        for bound, cases in EXHAUSTING.items()
        for case in cases
    ],
)
async def test_a_package_exhausts_nothing_and_programs_run_on(
    open_bench: OpenBench,
    tmp_path: Path,
    interpreter: Interpreter,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    code: str,
    standing: Confinement,
):
    monkeypatch.setattr(ahead, "_BUSY_SECONDS", 1)
    runs = tmp_path / "runs"
    # Only where it is imported ahead: the control socket is the warm interpreter's.
    package = f"""
import glob, mmap, threading, time
def fill(size=80):
    with open("/tmp/big", "wb") as big:
        big.write(bytes(size << 20))
    globals()["held"] = open("/tmp/big")
def many():
    for n in range(9000): open(f"/tmp/{{n}}", "w").close()
if control():
    place = next(place for place in glob.glob({str(runs)!r} + "/*") if os.path.isdir(place))
{textwrap.indent(code, "    ")}
    time.sleep(0.5)
"""
    is_bounded = standing.bubblewrap and (standing.namespaces or "inits()" not in code)
    limits = Limits(ahead_bytes=64 * MEBIBYTE, processes=20, disk_bytes=20 * MEBIBYTE, buffers=200)
    with capture_logs() as logs:
        async with infected(open_bench, tmp_path, package, limits=limits) as bench:
            other = in_another_environment(bench, interpreter, tmp_path)
            assert (await other.run("6 * 7")).result == "42"
            with contextlib.suppress(ExecutorError):  # its interpreter may be ended meanwhile
                assert (await bench.run("6 * 7")).result == "42"
            with anyio.fail_after(_SECONDS):
                while is_bounded and not reasons(logs):  # noqa: ASYNC110 - it has no event of its own
                    await anyio.sleep(0.01)
            assert (await bench.run("6 * 7")).result == "42"
            ours = psutil.Process().children(recursive=True)
            assert len(ours) < 40
            assert max([memory(each) for each in ours], default=0) < 150 * MEBIBYTE
            with anyio.fail_after(_SECONDS):
                while on_disk(runs) >= MEBIBYTE:  # noqa: ASYNC110 - what the ended one left goes behind the answer
                    await anyio.sleep(0.01)
            assert (await other.run("6 * 7")).result == "42"
    assert all(f"used more than {bound}" in reason for reason in reasons(logs)), logs


# What becomes of the first process of a run while somebody holds a file of the run's /tmp.
HIDES = {
    "it is killed": "run = filled(place)\nos.kill(run.pid, 9)",
    "it is killed beside a process that nobody waits for": """
run = filled(place)
ctypes.CDLL(None).setns(run._pids, 0x20000000)
if os.fork() == 0:
    os._exit(0)
os.kill(run.pid, 9)
""",
    "it is killed behind answers that nobody reads": """
run = filled(place)
inits()._maker.setblocking(False)
try:
    while True: inits()._maker.send(b"+")
except OSError:
    os.kill(run.pid, 9)
""",
    "it mounts what it is to keep by a link": """
top = "/tmp/" + place.split("/")[2]
os.rename(top, "/tmp/moved")
for line in open("/proc/self/mountinfo"):
    path = line.split()[4].replace("/tmp/moved", top)
    if path.startswith(top + "/") and "/infected/" not in path:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink("/" if path.endswith("/infected") else path.replace(top, "/tmp/moved"), path)
run = filled(place, place.partition("/runs/")[0] + "/infected/tmp")
inits().end_run(run)
""",
}


@pytest.mark.parametrize("how", HIDES)
async def test_no_file_system_stays_where_nobody_finds_it(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, how: str
):
    (tmp_path / "out").mkdir()
    package = f"""
import ctypes, glob
def fill(directory):
    with open(directory + "/big", "wb") as big:
        big.write(bytes(80 << 20))
    globals()["held"] = open(directory + "/big")
def filled(place, directory="/tmp"):
    run = begin(place)
    inside(run, lambda: fill(directory))
    return run
if control() and inits():
    place = next(place for place in glob.glob({str(tmp_path / "runs")!r} + "/*") if os.path.isdir(place))
    open({str(tmp_path / "out" / "begun")!r}, "w").close()
{textwrap.indent(HIDES[how], "    ")}
    signal.pause()
"""
    # Where Landlock knows no scopes, it keeps nobody from signalling a first process.
    has_inits = standing.namespaces and standing.bubblewrap is not None
    behind = partial(open_bench, confinement=replace(standing, landlock=standing.landlock and not has_inits))
    before = psutil.virtual_memory().shared
    async with infected(behind, tmp_path, package, output_path=tmp_path / "out") as bench:

        async def run() -> None:  # as long as it waits for the interpreter, that goes on
            with contextlib.suppress(ExecutorError):
                await bench.run("6 * 7")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(_SECONDS):
                while has_inits and not (tmp_path / "out" / "begun").exists():  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.05)
                await anyio.sleep(1)
                while psutil.virtual_memory().shared > before + 40 * MEBIBYTE:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
    assert (tmp_path / "out" / "begun").exists() is has_inits


def reasons(logs: Sequence[MutableMapping[str, Any]]) -> list[str]:
    """Why packages are not imported ahead any more, as the server's log tells."""
    return [entry["reason"] for entry in logs if entry["event"] == "nothing_imported_ahead"]


def on_disk(directory: Path) -> int:
    """Bytes in all files below `directory`, some of which may be on their way out."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(folder, name).lstat().st_size
    return size


def memory(process: psutil.Process) -> int:
    """Bytes that a process holds, what it has in its /tmp included."""
    with contextlib.suppress(psutil.Error, OSError):
        root = os.statvfs(f"/proc/{process.pid}/root/tmp")
        temporary = (root.f_blocks - root.f_bfree) * root.f_frsize if root.f_blocks != os.statvfs("/").f_blocks else 0
        return process.memory_info().rss + temporary
    return 0
