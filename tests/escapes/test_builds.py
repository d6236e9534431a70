"""Building from source runs a stranger's code: it reaches what is its own, is bounded, and leaves nothing."""

import ctypes
import errno
import json
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.sandbox.probe import Walls
from mcp_python_executor.service import open_environments
from mcp_python_executor.settings import Settings
from mcp_python_executor.venvs import builds, plain
from mcp_python_executor.venvs.operations import Venvs
from tests.escapes.attack import CANARY
from tests.escapes.outside import mentioning
from tests.venvs.index import Index, open_index

pytestmark = pytest.mark.anyio

_libc = ctypes.CDLL(None, use_errno=True)
# Builds a wheel that holds what `attack` told, once it has come to its end.
_BACKEND = """
import json, os, sys, zipfile
told = []
def tell(*words):
    told.append(" ".join(map(str, words)))
def attack():
    {attack}
def build_wheel(folder, settings=None, metadata=None):
    try:
        attack()
    except BaseException as error:
        tell("raised", type(error).__name__, error)
    name = "evil-1.0-py3-none-any.whl"
    info = "evil-1.0.dist-info"
    files = {{
        "evil.json": json.dumps(told + ["attack-ran-to-its-end"]),
        info + "/METADATA": "Metadata-Version: 2.2\\nName: evil\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[info + "/RECORD"] = "".join(path + ",,\\n" for path in [*files, info + "/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"""

Build = Callable[..., Any]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "index", "one", held="nothing") as index:
        yield index


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A directory that every package operation is shown."""
    path = tmp_path / "certificates"
    path.mkdir()
    return path


@pytest.fixture
async def venvs(
    walls: Walls, index: Index, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Venvs]:
    """Environments as the server has them, on an index that wants credentials, with another environment beside."""
    if walls.bubblewrap is None:
        pytest.skip("nothing is built without bubblewrap")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("://", f"://me:{CANARY}@"))
    monkeypatch.setenv("UV_INDEX_INNER_PASSWORD", CANARY)
    monkeypatch.setenv("SSL_CERT_DIR", str(certificates))
    monkeypatch.setenv("SECRET", CANARY)
    async with open_environments(Settings(venvs_base_path=tmp_path / "venvs"), walls) as venvs:
        await venvs.install("other", "one")
        (tmp_path / "venvs" / ".store" / "cache" / "canary").write_text(CANARY)
        yield venvs


@pytest.fixture
def build(venvs: Venvs, index: Index, tmp_path: Path) -> Build:
    """Builds a package whose build is the attack; gives what that told, for it must reach its end."""

    async def build(attack: str) -> str:
        index.add_source("evil", _BACKEND.format(attack=attack.strip().replace("\n", "\n    ")))
        await venvs.install("lab", "evil")
        (packages,) = plain.site_packages(tmp_path / "venvs" / "lab")
        told = json.loads((packages / "evil.json").read_text())
        assert told[-1] == "attack-ran-to-its-end"
        return "\n".join(told)

    return build


async def test_what_is_on_the_host_is_not_read(build: Build, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text(CANARY)
    places = [home, tmp_path, tmp_path / "venvs", tmp_path / "venvs" / "other", Path.home()]
    places += [tmp_path / "venvs" / ".store" / name for name in ("cache", "generations", "venvs", "blueprints")]
    told = await build(f"""
backwards = {CANARY[::-1].encode()}
for place in {[str(path) for path in places]}:
    try:
        tell("listed", place, os.listdir(place))
        for folder, _, names in os.walk(place):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    if backwards[::-1] in file.read():
                        tell("READ", folder, name)
    except OSError as error:
        tell("refused", error.strerror)
""")
    assert "READ" not in told
    assert told.count("listed") + told.count("refused") == len(places)
    assert "secret" not in told


async def test_no_credential_is_in_an_environment_or_on_a_command_line(build: Build):
    told = await build("""
tell(dict(os.environ))
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "stat"):
        try:
            tell(name, open(f"/proc/{pid}/{name}", "rb").read())
        except OSError as error:
            tell("refused", error.strerror)
""")
    assert "stat b" in told
    assert CANARY not in told


@pytest.mark.usefixtures("key")
async def test_the_kernels_keyrings_are_not_read(build: Build):
    told = await build("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
into = ctypes.create_string_buffer(99)
tell("asked for", libc.syscall(249, b"user", b"canary-key", 0, -3))
for ring in (-1, -2, -3, -4, -5, -6):
    found = libc.syscall(250, 10, ring, b"user", b"canary-key", 0)
    tell("found", found, libc.syscall(250, 11, found, into, 99), into.value)
""")
    assert told.count("found -1 -1 b''") == 6
    assert "asked for -1" in told


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("where", ["a name", "a path"])
async def test_no_socket_of_the_host_is_reached(build: Build, certificates: Path, where: str, kind: socket.SocketKind):
    address = str(certificates / "socket") if where == "a path" else f"\0{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(address)
        if where == "a path":
            os.chmod(address, 0o777)  # noqa: PTH101, S103 - for the user that bubblewrap may run as
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.setblocking(False)
        told = await build(f"""
import socket
tell("there", os.path.exists({address!r}) if {where!r} == "a path" else "")
try:
    reached = socket.socket(socket.AF_UNIX, {int(kind)})
    reached.connect({address!r})
    reached.send(b"told")
    tell("REACHED")
except OSError as error:
    tell("refused", error.strerror)
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)[0]
try:
    pair.sendto(b"told", {address!r})
    tell("sent")
except OSError as error:
    tell("refused", error.strerror)
""")
        assert "there False" not in told
        assert "REACHED" not in told
        with pytest.raises(BlockingIOError):
            listener.accept() if kind == socket.SOCK_STREAM else listener.recv(9)


async def test_nothing_that_no_build_needs_is_asked_of_the_kernel(build: Build):
    told = await build("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
calls = {"ptrace": 101, "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425, "userfaultfd": 323, "unshare": 272,
    "mount": 165, "setns": 308, "pivot_root": 155, "process_vm_readv": 310, "open_by_handle_at": 304, "swapon": 167}
for name, number in calls.items():
    ctypes.set_errno(0)
    given = libc.syscall(number, 0x10000000 if name == "unshare" else 0, 0, 0, 0, 0, 0)
    tell(name, given, ctypes.get_errno())
for line in open("/proc/self/status"):
    if line.split(":")[0] in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
        tell(*line.split())
for device in ("/dev/ptmx", "/dev/tty", "/dev/null"):
    try:
        os.close(os.open(device, os.O_RDWR))
        tell(device, "opened")
    except OSError as error:
        tell(device, error.errno)
import resource
tell("core", resource.getrlimit(resource.RLIMIT_CORE))
""")
    assert len([line for line in told.splitlines() if line.endswith(" -1 1")]) == 12, told  # EPERM
    assert "CapEff: 0000000000000000" in told
    assert "NoNewPrivs: 1" in told
    assert "Seccomp: 2" in told
    assert f"/dev/ptmx {errno.EACCES}" in told  # by Landlock alone
    assert f"/dev/tty {errno.EACCES}" in told
    assert "/dev/null opened" in told
    assert "core (1, 1)" in told


async def test_a_build_reaches_the_network_and_starts_what_it_likes(build: Build, index: Index):
    told = await build(f"""
import subprocess, urllib.request
tell("index", urllib.request.urlopen({index.url!r} + "/one/").status)
tell("ran", subprocess.run(["sh", "-c", "cat /proc/version | wc -l"], capture_output=True, text=True).stdout)
import threading
thread = threading.Thread(target=tell, args=("thread",))
thread.start(); thread.join()
os.mkdir("made"); os.rename("made", "moved"); os.link("backend.py", "moved/linked"); os.chmod("moved/linked", 0o755)
tell("made", os.listdir("moved"))
""")
    assert "index 200" in told
    assert "ran 1" in told
    assert "thread" in told
    assert "made ['linked']" in told


async def test_what_a_build_leaves_running_ends_with_it(build: Build, tmp_path: Path):
    mark = f"left-{os.urandom(8).hex()}"
    told = await build(f"""
import subprocess, signal
tell("left", subprocess.Popen(
    [sys.executable, "-c", "import os, signal, time; os.fork() and os._exit(0); os.setsid();"
     "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(1000)", {mark!r}],
    start_new_session=True, stdin=-3, stdout=-3, stderr=-3).wait())
""")
    assert "left 0" in told
    with anyio.fail_after(10):
        while mentioning(mark):  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.05)
    assert not list((tmp_path / "venvs" / ".store" / "tmp").iterdir())


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are reached without harm to the machine that runs the tests."""
    small = replace(
        builds.LIMITS, memory_bytes=384 * MEBIBYTE, processes=100, disk_bytes=64 * MEBIBYTE, file_bytes=32 * MEBIBYTE
    )
    monkeypatch.setattr(builds, "LIMITS", small)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("attack", "bound"),
    [
        ("held = []\nwhile True: held.append(bytearray(os.urandom(1 << 20)))", "384 MB of memory"),
        (
            "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 1 << 20)); held[-1].write(bytes(1 << 20))",
            "384 MB of memory",
        ),
        (
            "for n in range(1000): open(f'/tmp/{n}', 'wb').write(b'x' * (1 << 20))\nimport time; time.sleep(60)",
            "384 MB of memory",
        ),
        ("import time\nfor n in range(150):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)", "100 processes"),
        (
            "for n in range(1000): open(str(n), 'wb').write(b'x' * (1 << 20))\nimport time; time.sleep(60)",
            "64 MB on the disk",
        ),
    ],
)
async def test_a_build_that_takes_too_much_is_ended(
    venvs: Venvs, build: Build, attack: str, bound: str, tmp_path: Path
):
    with pytest.raises(PackageError, match=f"building from source was ended, for it used more than {bound}"):
        await build(attack)
    assert await venvs.names() == ["other"]
    assert not list((tmp_path / "venvs" / ".store" / "tmp").iterdir())


@pytest.mark.usefixtures("bounded")
async def test_the_kernel_bounds_what_a_build_starts_and_writes(build: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Limits, "refused_processes", property(lambda limits: limits.processes))
    told = await build("""
import signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open("large", "wb").write(bytes(40 << 20))
    tell("WRITTEN")
except OSError as error:
    tell("refused", error.strerror)
pids = []
try:
    while len(pids) < 300:
        pids.append(os.fork())
        if not pids[-1]:
            time.sleep(60)
except OSError as error:
    tell("refused", error.strerror)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
tell("forked", len(pids))
""")
    assert "WRITTEN" not in told
    assert "Resource temporarily unavailable" in told


async def test_a_tree_that_no_path_reaches_is_removed(build: Build, tmp_path: Path):
    with pytest.raises(PackageError, match="more than 64 folders in one another"):
        await build("""
import time
for depth in range(3000):
    os.mkdir("deeper"); os.chdir("deeper")
os.chmod(".", 0)
time.sleep(60)
""")
    assert not list((tmp_path / "venvs" / ".store" / "tmp").iterdir())


async def test_what_a_build_links_to_is_not_looked_into(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It could be all that the host has."""
    (tmp_path / "victim").mkdir()
    scandir, opened = os.scandir, list[str]()

    def watch(place: Any) -> Any:
        opened.append(str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", watch)
    told = await build(f"""
os.symlink({str(tmp_path / "victim")!r}, os.environ["HOME"] + "/cache/sdists-vnone")
tell("linked")
""")
    assert "linked" in told
    assert any("/cache/sdists-v" in path for path in opened)
    assert not [path for path in opened if path.endswith(("sdists-vnone", "victim"))]
