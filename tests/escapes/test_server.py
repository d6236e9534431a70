"""A program sees nothing of the server's: not its environment, its memory, its descriptors, its keys or its objects."""

import ctypes
import mmap
import os
import re
import secrets
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import PROGRAMS, OpenBench
from tests.cli.conftest import COMMAND
from tests.escapes import apart
from tests.escapes.attack import CANARY, attack, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# Everybody whom a program could name, but for itself: who is listed, who is likely, the server by its number outside.
_EVERYBODY = f"""
import os
listed = []
try:
    listed = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
except OSError:
    pass
own = int(os.readlink("/proc/self"))
everybody = sorted({{*listed, *range(1, 64), *range(own - 16, own), os.getppid(), {os.getpid()}}} - {{own}})
"""
_libc = ctypes.CDLL(None, use_errno=True)


_LOOKS_FOR_A_SECRET = (PROGRAMS / "looks_for_a_secret.py").read_text()


@pytest.fixture
def secret() -> str:
    """What a program can find only where the server has it: it knows how that begins."""
    return f"{CANARY}-{secrets.token_hex(8)}"


def test_the_environment_that_a_server_was_started_with_is_nowhere(
    standing: Confinement, interpreter: Interpreter, tmp_path: Path, secret: str
):
    code = f"import sys\nsys.argv[1:] = [{CANARY!r}]\n{_LOOKS_FOR_A_SECRET}"
    order = apart.Order(standing, interpreter, tmp_path, code)
    with apart.server(order, environment={"CANARY_KEY": secret}) as server:
        told = told_to(server, order.output, secret)
    assert "FOUND" not in told
    assert told.endswith("status ok\n")


@pytest.mark.parametrize("isolation", ["strict", "none"])
def test_the_environment_of_a_command_is_nowhere_behind_walls(base: Path, tmp_path: Path, secret: str, isolation: str):
    variables = {"CANARY_KEY": secret, "VENVS_BASE_PATH": str(base), "OUTPUT_PATH": str(tmp_path)}
    command = [*COMMAND, "run", "--isolation", isolation, "-c", _LOOKS_FOR_A_SECRET, "--", CANARY]
    environment = os.environ | variables
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        told = told_to(server, tmp_path, secret)
    assert server.returncode == 0
    assert ("FOUND" in told) is (isolation == "none")
    assert (f"FOUND /proc/{server.pid}/environ\n" in told) is (isolation == "none")


def told_to(server: subprocess.Popen[bytes], output: Path, secret: str) -> str:
    """What the program said that looked for `secret`, which `server` was started with, to its end."""
    assert server.stdout is not None
    assert server.stdout.readline() == b"waiting\n"
    assert secret.encode() in Path(f"/proc/{server.pid}/environ").read_bytes()
    (output / "pid.new").write_text(str(server.pid))
    (output / "pid.new").rename(output / "pid")
    told = server.stdout.read().decode()
    looked = re.search(r"^looked at (\d+)$", told, re.MULTILINE)
    assert looked, told
    assert int(looked[1]) > 20
    return told


async def test_only_variables_that_pass_env_names_reach_a_program(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CANARY_KEY", "UV_INDEX_URL", "PIP_INDEX_URL", "HTTPS_PROXY", "LD_PRELOAD_", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("NAMED", "named-value")
    code = "import os, subprocess\nprint(dict(os.environ))\nprint(subprocess.run('env', capture_output=True).stdout)"
    async with open_bench(pass_env=("NAMED",)) as bench:
        told = await attack(bench, code)
    assert told.count("named-value") == 2
    assert CANARY not in told


async def test_another_process_is_not_read(open_bench: OpenBench, confinement: Confinement):
    names = (
        *("auxv", "cwd", "environ", "exe", "fd", "fdinfo", "io", "maps", "mem", "mountinfo", "ns", "pagemap"),
        *("personality", "root", "smaps", "stack", "syscall", "timers"),
    )
    code = f"""{_EVERYBODY}
for pid in everybody:
    for name in {names}:
        for path in (f"/proc/{{pid}}/{{name}}", f"/proc/{{pid}}/task/{{pid}}/{{name}}"):
            for way in (os.listdir, os.readlink, lambda path: open(path, "rb").read(1)):
                try:
                    print("FOUND", path, way(path))
                except OSError:
                    pass
print("looked at", len(everybody))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "looked at" in told
    found = [line for line in told.splitlines() if line.startswith("FOUND")]
    if confinement.namespaces:  # the first process there is the run's own, and this much of it anybody may know
        public = re.compile(r"FOUND /proc/1/(task/1/)?(fd|mountinfo|ns) ")
        found = [line for line in found if not public.match(line)]
    assert found == []


async def test_the_servers_memory_is_not_read(open_bench: OpenBench):
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[: len(CANARY)] = CANARY.encode()
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        code = f"""{_EVERYBODY}
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
into = ctypes.create_string_buffer({mmap.PAGESIZE})
mine, theirs = Piece(ctypes.addressof(into), len(into)), Piece({address}, len(into))
for pid in everybody:
    print("read", libc.syscall(310, pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0), into.raw[:12])
    try:
        with open(f"/proc/{{pid}}/mem", "rb", 0) as memory:
            memory.seek({address})
            print(memory.read(12))
    except (OSError, ValueError) as error:
        print(error)
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
    assert "read -1" in told
    assert CANARY not in told


async def test_a_descriptor_of_the_servers_is_not_taken(open_bench: OpenBench):
    with tempfile.TemporaryFile() as secret:
        secret.write(CANARY.encode())
        secret.flush()
        code = f"""{_EVERYBODY}
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for pid in everybody:
    for number in range(64):
        for flags in (os.O_RDONLY, os.O_RDWR):
            try:
                print(os.pread(os.open(f"/proc/{{pid}}/fd/{{number}}", flags | os.O_NONBLOCK), 99, 0))
            except OSError:
                pass
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        continue
    for number in range(64):
        taken = libc.syscall(438, handle, number, 0)
        if taken >= 0:
            print("TAKEN", pid, number)
print("looked at", len(everybody))
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
    assert "looked at" in told
    assert CANARY not in told
    assert "TAKEN" not in told


async def test_a_program_inherits_its_streams_and_its_channel_and_nothing_else(open_bench: OpenBench):
    code = """
import os
for number in range(4096):
    try:
        print("holds", number, os.readlink(f"/proc/self/fd/{number}").partition(":")[0])
    except OSError:
        pass
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert [line for line in told.splitlines() if line.startswith("holds")] == [
        *(f"holds {number} pipe" for number in range(3)),
        "holds 3 socket",
    ]


@pytest.mark.usefixtures("key")
async def test_the_kernels_keyrings_are_not_read(open_bench: OpenBench):
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
into = ctypes.create_string_buffer(99)
print("asked for", libc.syscall(249, b"user", b"canary-key", 0, -3))
for ring in (-1, -2, -3, -4, -5, -6):
    found = libc.syscall(250, 10, ring, b"user", b"canary-key", 0)
    print("found", found, libc.syscall(250, 11, found, into, 99), into.value)
for line in open("/proc/keys"):
    print("listed", libc.syscall(250, 11, int(line.split()[0], 16), into, 99), into.value)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("found -1 -1") == 6
    assert CANARY not in told


@pytest.mark.usefixtures("key")
async def test_the_names_of_keys_are_not_told(open_bench: OpenBench):
    async with open_bench() as bench:
        told = await attack(bench, "for name in ('keys', 'key-users'): print(open('/proc/' + name).read())")
    assert "canary-key" not in told
    assert "keyring" not in told


async def test_shared_memory_of_the_hosts_is_not_read(open_bench: OpenBench):
    create, remove, size = 0o1666, 0, 4096
    segment = _libc.shmget(0x7F3A, size, create)
    assert segment >= 0
    try:
        _libc.shmat.restype = ctypes.c_void_p
        address = _libc.shmat(segment, None, 0)
        ctypes.memmove(address, CANARY.encode(), len(CANARY))
        _libc.shmdt(ctypes.c_void_p(address))
        code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_int
for number in [libc.shmget(0x7F3A, 4096, 0o666), {segment}, *range(64)]:
    address = libc.shmat(number, None, 0o10000)
    print("attached", address if address == 2**64 - 1 else ctypes.string_at(address, 12))
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
    finally:
        _libc.shmctl(segment, remove, None)
    assert told.count("attached ") == 66
    assert CANARY not in told


async def test_a_message_of_the_hosts_is_not_received(open_bench: OpenBench):
    create, remove = 0o1666, 0
    queue = _libc.msgget(0x7F3A, create)
    assert queue >= 0
    try:
        message = (1).to_bytes(8, "little") + CANARY.encode()
        assert _libc.msgsnd(queue, message, len(CANARY), 0) == 0
        code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
into = ctypes.create_string_buffer(99)
for number in [libc.msgget(0x7F3A, 0o666), {queue}, *range(64)]:
    print("received", libc.msgrcv(number, into, 80, 0, 0o4000), into.raw)
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
        assert told.count("received -1") == 66
        assert CANARY not in told
    finally:
        assert _libc.msgctl(queue, remove, None) == 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the host has no /dev/shm")
async def test_named_shared_memory_of_the_hosts_is_not_read(open_bench: OpenBench):
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="canary-") as secret:
        secret.write(CANARY.encode())
        secret.flush()
        async with open_bench() as bench:
            assert CANARY not in await try_every_way(bench, "read", secret.name)
            told = await attack(bench, "import os\nprint(os.listdir('/dev/shm'), os.listdir('/dev/mqueue'))")
    assert "canary-" not in told


async def test_the_hosts_network_is_not_told(open_bench: OpenBench, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "canary-socket"))
        port = f":{inet.getsockname()[1]:04X} "
        code = f"""{_EVERYBODY}
import glob, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
read = 0
for pid in ["self", "thread-self", own, *everybody]:
    for path in glob.glob(f"/proc/{{pid}}/net/*") + glob.glob(f"/proc/{{pid}}/task/*/net/*") + ["/proc/net/tcp"]:
        try:
            told = open(path, errors="replace").read()
        except OSError:
            continue
        read += 1
        if {port!r} in told or "canary-socket" in told:
            print("FOUND", path)
print("read", read)
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
    assert "read " in told
    assert "FOUND" not in told
