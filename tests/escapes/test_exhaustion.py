"""A program that takes all it can get of something ends at the bound of that name, and gives all of it back."""

import ctypes
import errno
import os
import platform
import resource
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.errors import Busy
from mcp_python_executor.execution.model import ExecutionResult, Status
from mcp_python_executor.limits import MEBIBYTE, LimitHit, Limits
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import Bench, OpenBench
from tests.escapes.attack import HOLD_FILTERS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_SECONDS = 120
LIMITS = Limits(
    wall_seconds=_SECONDS,
    memory_bytes=128 * MEBIBYTE,
    processes=60,
    open_files=100,
    buffers=400,
    file_bytes=8 * MEBIBYTE,
    disk_bytes=40 * MEBIBYTE,
    temporary_bytes=30 * MEBIBYTE,
    kept_output_bytes=MEBIBYTE,
)
# What a program holds that does nothing, and what allocators hold back.
_SLACK = 40 * MEBIBYTE
_PRELUDE = """
import ctypes, mmap, os, re, resource, signal, socket, sys, tempfile, threading, time
def stay():
    while True: time.sleep(60)
def leave_to(work):  # ends the first thread of the process alone
    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


@asynccontextmanager
async def beside_another(open_bench: OpenBench, directory: Path, limits: Limits = LIMITS) -> AsyncGenerator[Bench]:
    """A bench where another program is under way, comes to its good end, and nothing else is left to be paid for."""
    output = directory / "out"
    output.mkdir()
    begun = anyio.Event()
    ended: list[ExecutionResult] = []
    code = """
import os, time
print("up", flush=True)
held = [bytearray(1000) for _ in range(1000)]
while not os.path.exists(os.environ["OUTPUT_PATH"] + "/go"):
    open("mine", "w").write("x")
    time.sleep(0.01)
print("still here", len(held))
"""

    async def other() -> None:
        ended.append(await bench.run(code, listener=hear))

    def hear(_: str, __: str) -> None:
        begun.set()

    async with open_bench(output_path=output, limits=limits) as bench:
        assert (await bench.run("6 * 7")).result == "42"
        await bench.make_room()
        with anyio.fail_after(_SECONDS):
            count, held = await settled(), memory()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            with anyio.fail_after(_SECONDS):
                await begun.wait()
            yield bench
            (output / "go").touch()
        assert ended[0].stdout == "up\nstill here 1000\n", ended
        assert (await bench.run("6 * 7")).result == "42"
        with anyio.fail_after(_SECONDS):
            while processes() > count or memory() > held + _SLACK:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.05)
    assert processes() == 0


async def settled() -> int:
    """How many there are once none is forked ahead any more."""
    count, before = processes(), -1
    while count != before:
        await anyio.sleep(0.2)
        count, before = processes(), count
    return count


def processes() -> int:
    """How many there are below this one, those included that ended and were not waited for."""
    return len(psutil.Process().children(recursive=True))


def memory() -> int:
    """Bytes that this process and all below it hold, shared pages for each."""
    held = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            held += process.memory_info().rss
        except psutil.Error:
            continue
    return held


def is_open(result: ExecutionResult, standing: Confinement) -> bool:
    """Whether a program can write to the temporary directories: only where they are its own."""
    refused = result.error is not None and result.error.type == "PermissionError"
    assert refused is not standing.namespaces, result
    return not refused


def told(result: ExecutionResult) -> tuple[Status, LimitHit | None]:
    return result.status, result.limit


# What takes memory, and what takes it where a run has a /tmp of its own.
MEMORY = {
    "heap": "held = b'x' * (300 << 20)",
    "heap, bit by bit": "held = []\nwhile True: held.append(b'x' * 100_000)",
    "private map": "held = mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    "for at in range(0, 300 << 20, 4096): held[at] = 1",
    "shared map": "held = mmap.mmap(-1, 300 << 20)\nfor at in range(0, 300 << 20, 4096): held[at] = 1",
    "page tables": "held = mmap.mmap(-1, 1 << 38, flags=0x4022, prot=1)\n"
    "for at in range(0, 1 << 38, 1 << 21): held[at]",
    "many processes": "for _ in range(20):\n    if os.fork() == 0:\n        held = b'x' * (15 << 20)\n        stay()",
    "orphans": "for _ in range(20):\n    if os.fork() == 0:\n        if os.fork() == 0:\n            os.setsid()\n"
    "            held = b'x' * (15 << 20)\n            stay()\n        os._exit(0)",
    "many threads": "held = []\n"
    "def fill():\n    held.append(b'x' * (10 << 20))\n    stay()\n"
    "for _ in range(30): threading.Thread(target=fill).start()",
    "a thread that outlives the first": "held = []\n"
    "def fill():\n    while True: held.append(b'x' * 100_000)\nleave_to(fill)",
    "a program of its own": "import subprocess\n"
    "subprocess.run([sys.executable, '-c', 'held = b\"x\" * (300 << 20)\\nwhile True: pass'])",
}
TEMPORARY = {
    place: f"for place in {places!r}:\n"
    "    for number in range(9): open(f'{place}/{number}', 'wb').write(b'x' * (1 << 20))\n"
    "held = b'x' * (115 << 20)"
    for place, places in {"/tmp": ["/tmp"], "/dev/shm": ["/dev/shm"], "all": ["/tmp", "/var/tmp", "/dev/shm"]}.items()
}


@pytest.mark.parametrize("what", MEMORY)
async def test_memory(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}{MEMORY[what]}\nstay()")
    assert told(result) == (Status.MEMORY_EXCEEDED, LimitHit("memory", 128, "MAX_MEMORY_MB")), result


@pytest.mark.parametrize("what", TEMPORARY)
async def test_memory_in_temporary_files(open_bench: OpenBench, tmp_path: Path, standing: Confinement, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}{TEMPORARY[what]}\nstay()")
    if is_open(result, standing):
        assert told(result) == (Status.MEMORY_EXCEEDED, LimitHit("memory", 128, "MAX_MEMORY_MB")), result


# What the kernel keeps for processes that go on, and tells of none of them.
KEPT = {
    "mappings": """
area = mmap.mmap(-1, 60_000 << 12, flags=0x4022)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
for page in range(0, 60_000, 2):
    libc.mprotect(ctypes.c_void_p(start + (page << 12)), ctypes.c_size_t(1 << 12), 1)
for _ in range(40):
    if os.fork() == 0: stay()
    time.sleep(0.05)
""",
    "record locks": """
import fcntl
for process in range(15):
    if os.fork() == 0: break
for number in range(80):
    held = os.open(f"{process}-{number}", os.O_CREAT | os.O_RDWR)
    for byte in range(2000, 0, -2): fcntl.lockf(held, fcntl.LOCK_EX, 1, byte)
""",
    "Landlock rules": """
while True:
    ruleset = libc.syscall(444, (ctypes.c_uint64 * 2)(0, 1), 16, 0)
    if ruleset < 0: raise NotImplementedError
    for port in range(1 << 16): libc.syscall(445, ruleset, 2, (ctypes.c_uint64 * 2)(1, port), 0)
""",
    "filters": HOLD_FILTERS,
}


@pytest.mark.parametrize("what", KEPT)
async def test_memory_that_the_kernel_keeps(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}libc = ctypes.CDLL(None)\n{KEPT[what]}\nstay()")
    if result.error and result.error.type == "NotImplementedError":
        pytest.skip("this kernel has no rules of ports")
    assert told(result) == (Status.MEMORY_EXCEEDED, LimitHit("memory", 128, "MAX_MEMORY_MB")), result


# What the kernel keeps for whoever asks, in no process's memory.
NOBODYS = {
    "memfd": "os.memfd_create('held')",
    "System V segments": "made(libc.shmget(0, 1 << 20, 0o1600))",
    "System V semaphores": "made(libc.semget(0, 250, 0o1600))",
    "System V message queues": "made(libc.msgget(0, 0o1600))",
    "POSIX message queues": "made(libc.mq_open(b'/held', os.O_CREAT | os.O_RDWR, 0o600, None))",
}
_MADE = """
libc = ctypes.CDLL(None, use_errno=True)
def made(number):
    if number == -1: raise OSError(ctypes.get_errno(), "refused")
"""


@pytest.mark.parametrize("what", NOBODYS)
async def test_memory_that_no_process_holds_is_refused(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}{_MADE}{NOBODYS[what]}")
    assert result.status is Status.ERROR, result
    assert result.error
    assert result.error.type == "OSError"
    assert result.error.message.startswith(f"[Errno {errno.ENOSYS}] ")


_libc = ctypes.CDLL(None, use_errno=True)
_TIMER_CREATE = {"x86_64": 222, "aarch64": 107}[platform.machine()]


def can_watch() -> bool:
    """Whether there is an inotify instance for this process."""
    instance = _libc.inotify_init1(0)
    if instance >= 0:
        os.close(instance)
    return instance >= 0


def can_wait() -> bool:
    """Whether there is a timer for this process; it stays until the process ends."""
    return _libc.syscall(_TIMER_CREATE, 1, None, ctypes.byref(ctypes.c_int())) == 0


# What the kernel counts for a user wherever he has it: how one more is taken, how many there are at most, and whether
# there are more for others.
OF_THE_USER: dict[str, tuple[str, int, Callable[[], bool]]] = {
    "inotify instances": ("libc.inotify_init1(0) >= 0", 8, can_watch),
    "timers": (f"libc.syscall({_TIMER_CREATE}, 1, None, ctypes.byref(ctypes.c_int())) == 0", 1024, can_wait),
    "queued signals": ("libc.sigqueue(os.getpid(), signal.SIGRTMAX, None) == 0", 1024, can_wait),
}


@pytest.mark.parametrize("what", OF_THE_USER)
async def test_what_the_kernel_counts_for_a_user_is_left_to_others(open_bench: OpenBench, what: str):
    take, most, is_left = OF_THE_USER[what]
    code = f"""
libc = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMAX])
taken = 0
while {take}: taken += 1
print(taken, flush=True)
stay()
"""
    taken: list[str] = []
    left: list[bool] = []

    async with open_bench() as bench, anyio.create_task_group() as tasks:

        def hear(_: str, text: str) -> None:
            taken.append(text)
            left.append(is_left())
            tasks.cancel_scope.cancel()

        await bench.run(_PRELUDE + code, listener=hear)
    assert left == [True]
    assert int(taken[0]) <= most


# A program that copes with what refuses it goes on; one that does not fails, and its result names the bound.
PROCESSES = {
    "processes": "while True:\n    if os.fork() == 0: stay()",
    "processes that ignore every refusal": "while True:\n    try:\n        if os.fork() == 0: stay()\n"
    "    except OSError: pass",
    "processes of processes": "while True: os.fork()",
    "processes of processes that ignore every refusal": "while True:\n    try: os.fork()\n    except OSError: pass",
    "sessions": "while True:\n    if os.fork() == 0:\n        os.setsid()\n"
    "        if os.fork() == 0: stay()\n        os._exit(0)",
    "threads": "while True: threading.Thread(target=stay).start()",
    "threads of processes": "while True:\n    if os.fork() == 0:\n"
    "        while True: threading.Thread(target=stay).start()",
    "threads of a thread that outlives the first": "def start():\n"
    "    while True: threading.Thread(target=stay).start()\nleave_to(start)",
    "processes that are not waited for": "while True:\n    if os.fork() == 0: os._exit(0)",
}


@pytest.mark.parametrize("what", PROCESSES)
async def test_processes(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}{PROCESSES[what]}")
    assert result.limit == LimitHit("processes", 60), result
    # Between two looks a program may come to where the kernel refuses more.
    assert result.status in (Status.KILLED, Status.ERROR), result


async def test_what_some_runs_may_have_of_processes_others_have_too(
    open_bench: OpenBench, tmp_path: Path, confinement: Confinement
):
    code = """
def start():
    try: threading.Thread(target=stay, daemon=True).start()
    except RuntimeError: return False
    return True
print(sum(start() for _ in range(50)), flush=True)
place = os.environ["OUTPUT_PATH"]
open(f"{place}/has-{time.monotonic_ns()}", "w")
while sum(name.startswith("has-") for name in os.listdir(place)) < 4: time.sleep(0.01)
"""
    if not confinement.namespaces:
        return  # the kernel counts the runs of an interpreter together
    printed: list[str] = []
    async with beside_another(open_bench, tmp_path) as bench:

        async def take() -> None:
            printed.append((await bench.run(_PRELUDE + code)).stdout)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(take)
    assert printed == ["50\n"] * 4


REFUSED = {
    "descriptors": ("open_files", "held = []\nwhile True: held.append(os.open('/dev/null', 0))"),
    "pipes": ("open_files", "while True: os.pipe()"),
    "sockets": ("open_files", "held = []\nwhile True: held += socket.socketpair()"),
    "one big file": ("file_size", "file = open('big', 'wb')\nwhile True: file.write(bytes(1 << 20))"),
    "a sparse file": ("file_size", "os.truncate(os.open('big', os.O_CREAT | os.O_WRONLY), 1 << 40)"),
    "a sparse file, written at its end": (
        "file_size",
        "os.pwrite(os.open('big', os.O_CREAT | os.O_WRONLY), b'x', 1 << 40)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_the_kernel_refuses(open_bench: OpenBench, tmp_path: Path, what: str):
    name, code = REFUSED[what]
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert told(result) == (Status.ERROR, LIMITS.hit(name)), result


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Has as few as most systems give by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
async def test_descriptors_on_their_way(open_bench: OpenBench, tmp_path: Path):
    code = """
pairs = []
try:
    while True:
        pairs.append(socket.socketpair())
        pairs[-1][0].setblocking(False)
        socket.send_fds(pairs[-1][0], [b"x"], [0] * 200)
except OSError as error:
    print(error.strerror, flush=True)
stay()
"""
    refused = anyio.Event()

    def hear(_: str, __: str) -> None:
        refused.set()

    async with open_bench() as bench, anyio.create_task_group() as tasks:
        other = replace(bench, surroundings=replace(bench.surroundings, output=tmp_path))
        tasks.start_soon(partial(bench.run, _PRELUDE + code, listener=hear))
        with anyio.fail_after(30):
            await refused.wait()
        for each in (bench, other):  # with workers and first processes that were there before, and without
            results = [await each.run("6 * 7") for _ in range(8)]
            assert [result.result for result in results] == ["42"] * 8
        tasks.cancel_scope.cancel()


async def test_descriptors_of_many_processes(open_bench: OpenBench, tmp_path: Path):
    code = """
for _ in range(30):
    if os.fork() == 0:
        held = []
        try:
            while True: held.append(os.open("/dev/null", 0))
        except OSError:
            stay()
time.sleep(1)
print("had them")
"""
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert (result.status, result.stdout) == (Status.OK, "had them\n"), result


# Each holds what the kernel buffers for it, which is in no process's memory.
BUFFERS = {
    "sockets": "socket.socketpair()",
    "sockets whose other end is closed": "socket.socketpair()[:1]",
    "pipes": "os.pipe()",
}


@pytest.mark.parametrize("what", BUFFERS)
async def test_pipes_and_sockets_of_many_processes(open_bench: OpenBench, tmp_path: Path, what: str):
    code = f"""
for _ in range(20):
    if os.fork() == 0:
        held = []
        try:
            while True: held += {BUFFERS[what]}
        except OSError:
            leave_to(stay)
stay()
"""
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert told(result) == (Status.KILLED, LimitHit("buffers", 400)), result


UNCOUNTED = {
    "pages in a pipe": "os.splice(os.open(sys.executable, 0), os.pipe()[1], 1)",
    "pages of a file in a pipe": "os.sendfile(os.pipe()[1], os.open(sys.executable, 0), 0, 1)",
    "pages of memory in a pipe": "assert libc.vmsplice(os.pipe()[1], None, 0, 0) == 0, os.strerror(ctypes.get_errno())",
    "descriptors of one thread": "clone = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]\n"
    "assert libc.syscall(clone, 0x10B00, 0, 0, 0, 0) != -1, os.strerror(ctypes.get_errno())",
}


@pytest.mark.parametrize("what", UNCOUNTED)
async def test_what_would_be_counted_nowhere_is_refused(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}libc = ctypes.CDLL(None, use_errno=True)\n{UNCOUNTED[what]}")
    assert result.error is not None
    assert (result.status, result.error.type) == (
        Status.ERROR,
        "AssertionError" if "libc" in UNCOUNTED[what] else "OSError",
    ), result


async def test_the_buffer_of_a_socket_stays_as_small_as_it_is(open_bench: OpenBench, tmp_path: Path):
    code = """
pair = socket.socketpair()
before = [pair[0].getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
for option in (socket.SO_SNDBUF, socket.SO_RCVBUF): pair[0].setsockopt(socket.SOL_SOCKET, option, 1 << 20)
pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
after = [pair[0].getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
print(before == after, pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED))
"""
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert result.stdout == "True 1\n", result


async def test_files_are_copied_without_moving_pages(open_bench: OpenBench, tmp_path: Path):
    code = """
import shutil
open("one", "wb").write(os.urandom(1 << 20))
shutil.copyfile("one", "two")
print(open("one", "rb").read() == open("two", "rb").read())
"""
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert result.stdout == "True\n", result


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
@pytest.mark.parametrize(
    "code", ["open('{}/big', 'wb').write(bytes(12 << 20))", "for n in range(10**6): open(f'{}/{n}', 'w')"]
)
async def test_temporary_directories(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, place: str, code: str
):
    limits = Limits(temporary_bytes=21 * MEBIBYTE)  # below what one file may have
    async with beside_another(open_bench, tmp_path, limits) as bench:
        result = await bench.run(_PRELUDE + code.replace("{}", place))
    if is_open(result, standing):
        assert told(result) == (Status.ERROR, LimitHit("temporary", 7 * MEBIBYTE)), result


async def test_temporary_files_of_programs_that_ended_are_not_their_interpreters(open_bench: OpenBench):
    # Nobody reads on in what has reported, and what it sent there then stays open until it is closed.
    code = """
import json, os, socket, struct, tempfile, time
held = tempfile.TemporaryFile(buffering=0)
held.write(bytes(70 << 20))
channel = socket.socket(fileno=3)
report = json.dumps({"status": 0}).encode()
channel.send(struct.pack("!I", len(report)) + report)
time.sleep(0.5)
socket.send_fds(channel, [b"x"], [held.fileno(), 1])
os._exit(0)
"""
    limits = Limits(ahead_bytes=64 * MEBIBYTE, wall_seconds=10)
    ended: list[ExecutionResult] = []

    async def another() -> None:
        ended.append(await bench.run("import time\ntime.sleep(4)\nprint('still here')"))

    async with open_bench(limits=limits) as bench, anyio.create_task_group() as tasks:
        tasks.start_soon(another)
        for _ in range(3):
            tasks.start_soon(bench.run, code)
    assert [result.stdout for result in ended] == ["still here\n"]


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
async def test_output(open_bench: OpenBench, tmp_path: Path, stream: str):
    numbers = {"stdout": [1], "stderr": [2], "both": [1, 2]}[stream]
    code = f"while True:\n    for number in {numbers}: os.write(number, b'flood ' * 10_000)"
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert told(result) == (Status.KILLED, LimitHit("output", MEBIBYTE)), result


async def test_output_of_many_processes(open_bench: OpenBench, tmp_path: Path):
    code = "for _ in range(20):\n    if os.fork() == 0:\n        while True: os.write(1, b'flood ' * 10_000)\nstay()"
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert told(result) == (Status.KILLED, LimitHit("output", MEBIBYTE)), result


DISK = {
    "files": "while True:\n    number = number + 1\n    open(f'{place}/{number}', 'wb').write(os.urandom(1 << 20))",
    "small files": "while True:\n    number = number + 1\n    open(f'{place}/{number}', 'wb').write(b'x' * 20_000)",
    "files in folders": "while True:\n    number = number + 1\n    os.makedirs(f'{place}/{number}/a/b')\n"
    "    open(f'{place}/{number}/a/b/c', 'wb').write(b'x' * 100_000)",
    "the same file again": "while True:\n    with open(place + '/same', 'wb') as file:\n"
    "        file.write(b'x' * (1 << 20))\n"
    "        os.fsync(file.fileno())",
    "a thread that outlives the first": "def fill():\n    while True:\n"
    "        with open(place + '/same', 'wb') as file:\n            file.write(b'x' * (1 << 20))\n"
    "            os.fsync(file.fileno())\nleave_to(fill)",
    "files that are removed while open": "held = []\nwhile True:\n"
    "    held.append(open(place + '/gone', 'wb', buffering=0))\n"
    "    os.remove(place + '/gone')\n    held[-1].write(b'x' * (7 << 20))",
}


HIDDEN = {
    "behind ten thousand others": "for number in range(2000): open(f'{place}/{number}', 'w')\nplace += '/behind'",
    "in a cache": "place += '/__pycache__'",
    "deep down": "place += '/d' * 60\nos.makedirs(place)\nplace += '/more'",
    "where nobody may look": "hidden = place + '/hidden'\nos.mkdir(hidden, 0o300)\nplace = hidden + '/more'",
}
# Each is gone before anybody looks, and nobody waits for it.
_SHORT = """
os.mkdir(place)
while True:
    number += 1
    if os.fork() == 0:
        if os.fork() == 0:
            open(f'{place}/{number}', 'wb').write(b'x' * 100_000)
        os._exit(0)
    os.wait()
"""
DISK.update({f"short processes that write {where}": f"{code}\n{_SHORT}" for where, code in HIDDEN.items()})
FILES = {
    "empty files": "while True:\n    number += 1\n    open(f'{place}/{number}', 'w')",
    "empty folders": "while True:\n    number += 1\n    os.mkdir(f'{place}/{number}')",
    "links": "while True:\n    number += 1\n    os.symlink('/', f'{place}/{number}')",
    "pipes": "while True:\n    number += 1\n    os.mkfifo(f'{place}/{number}')",
    **{
        f"empty files {where}": f"{code}\nos.mkdir(place)\nwhile True:\n    number += 1\n"
        "    open(f'{place}/{number}', 'w')"
        for where, code in HIDDEN.items()
    },
    # Once its children have ended, of which the kernel tells nothing then, waiting fails.
    "empty files of short processes": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    number += 1\n"
    "    if os.fork() == 0:\n        for each in range(50): open(f'{place}/{number}-{each}', 'w')\n"
    "        os._exit(0)\n    try: os.wait()\n    except ChildProcessError: pass",
}


@pytest.mark.parametrize("place", ["the working directory", "OUTPUT_PATH"])
@pytest.mark.parametrize("what", FILES)
async def test_the_number_of_files(open_bench: OpenBench, tmp_path: Path, what: str, place: str):
    where = "os.getcwd()" if place == "the working directory" else "os.environ['OUTPUT_PATH']"
    # So many that it takes what makes them some time: whose they are in OUTPUT_PATH is told by that. What the kernel
    # keeps for so many all who are at work may be charged for.
    limits = replace(LIMITS, disk_bytes=160 * MEBIBYTE, memory_bytes=Limits().memory_bytes)
    async with beside_another(open_bench, tmp_path, limits) as bench:
        result = await bench.run(f"{_PRELUDE}place, number = {where}, 0\n{FILES[what]}")
    assert told(result) == (Status.KILLED, LimitHit("files", limits.files)), result


async def test_folders_in_one_another(open_bench: OpenBench, tmp_path: Path):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + "while True:\n    os.mkdir('deep')\n    os.chdir('deep')")
    assert told(result) == (Status.KILLED, LimitHit("depth", 64)), result


@pytest.mark.parametrize("place", ["the working directory", "OUTPUT_PATH"])
@pytest.mark.parametrize("what", DISK)
async def test_the_disk(open_bench: OpenBench, tmp_path: Path, what: str, place: str):
    where = "os.getcwd()" if place == "the working directory" else "os.environ['OUTPUT_PATH']"
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(f"{_PRELUDE}place, number = {where}, 0\n{DISK[what]}")
    assert told(result) == (Status.KILLED, LimitHit("disk", 40 * MEBIBYTE)), result


PROCESSOR = {
    "a loop": "while True: pass",
    "threads": "def burn():\n    while True: pass\nfor _ in range(4): threading.Thread(target=burn).start()",
    "a thread that outlives the first": "def burn():\n    while True: pass\nleave_to(burn)",
    "processes": "for _ in range(4):\n    if os.fork() == 0: break\nwhile True: pass",
    "short processes": "while True:\n    if os.fork() == 0:\n        for _ in range(10**5): pass\n"
    "        os._exit(0)\n    os.wait()",
    "a regular expression": "re.match('(a*)*b', 'a' * 60)",
    "a number": "10 ** 10 ** 10",
    "a sum in C": "sum(range(10 ** 15))",
}


@pytest.mark.parametrize("what", PROCESSOR)
async def test_processor_time(open_bench: OpenBench, tmp_path: Path, what: str):
    limits = Limits(wall_seconds=_SECONDS, busy_cores=1 / _SECONDS)
    async with beside_another(open_bench, tmp_path, limits) as bench:
        result = await bench.run(_PRELUDE + PROCESSOR[what])
    assert told(result) == (Status.KILLED, LimitHit("cpu", 1000, "EXECUTION_TIMEOUT_MS")), result


STUBBORN = {
    "sleeps": "stay()",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "stops all of it": "for _ in range(5):\n    if os.fork() == 0: stay()\nos.killpg(0, signal.SIGSTOP)",
    "ignores every signal": "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
    "    signal.signal(number, signal.SIG_IGN)\nstay()",
    "blocks every signal": "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))\nstay()",
    "waits in an exit handler": "import atexit\natexit.register(stay)",
    "waits for a thread": "threading.Thread(target=stay).start()",
    "waits for a lock": "lock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "reads what never comes": "os.read(os.pipe()[0], 1)",
    "stops in a signal handler": "signal.signal(signal.SIGALRM, lambda *_: stay())\nsignal.alarm(1)\nstay()",
}


@pytest.mark.parametrize("what", STUBBORN)
async def test_time(open_bench: OpenBench, tmp_path: Path, what: str):
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + STUBBORN[what], timeout_seconds=1.5)
    assert told(result) == (Status.TIMEOUT, LimitHit("time", 1500, "timeoutMs")), result


DEEP = {
    "Python": ("def sink(): sink()\nsink()", {"RecursionError"}),
    "Python without its own bound": ("sys.setrecursionlimit(10**9)\ndef sink(): sink()\nsink()", {"", "MemoryError"}),
    "a parser": (
        "import ast\nast.parse('(' * 100_000 + ')' * 100_000)",
        {"SyntaxError", "MemoryError", "RecursionError"},
    ),
    "JSON": ("import json\njson.loads('[' * 10**6)", {"RecursionError"}),
    "repr": ("held = []\nfor _ in range(10**6): held = [held]\nrepr(held)", {"RecursionError"}),
    "a destructor": ("held = ()\nfor _ in range(10**6): held = (held,)\ndel held", {""}),
    "attributes": (
        "class A:\n    def __getattr__(self, name): return getattr(self, name)\nA().x",
        {"", "RecursionError", "MemoryError"},
    ),
}


@pytest.mark.parametrize("what", DEEP)
async def test_recursion(open_bench: OpenBench, tmp_path: Path, what: str):
    code, types = DEEP[what]
    async with beside_another(open_bench, tmp_path) as bench:
        result = await bench.run(_PRELUDE + code)
    assert result.status in (Status.OK, Status.ERROR, Status.KILLED, Status.MEMORY_EXCEEDED), result
    assert (result.error.type if result.error else "") in types, result


async def test_more_calls_than_may_wait(open_bench: OpenBench, tmp_path: Path):
    limits = replace(LIMITS, concurrent=2, queued=5)
    refused: list[str] = []
    async with beside_another(open_bench, tmp_path, limits) as bench:

        async def call() -> None:
            try:
                await bench.run("1")
            except Busy as error:
                refused.append(str(error))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(call)
    # One runs, five wait.
    assert len(refused) == 44
    assert refused[0] == (
        "5 executions wait already, which is the limit; call again when some have ended, or let more run at once than "
        "MAX_CONCURRENT_EXECUTIONS=2"
    )


async def test_all_at_once(open_bench: OpenBench, tmp_path: Path, standing: Confinement):
    attacks = {
        MEMORY["many processes"] + "\nstay()": "memory",
        "while True: os.write(1, b'flood ' * 10_000)": "output",
        "place, number = '.', 0\n" + DISK["files"]: "disk",
    }
    if standing.namespaces:  # elsewhere the kernel counts the processes of several runs together
        attacks[PROCESSES["threads"]] = "processes"
    found: dict[str, ExecutionResult] = {}

    async with beside_another(open_bench, tmp_path) as bench:

        async def attack(code: str) -> None:
            found[code] = await bench.run(_PRELUDE + code)

        async with anyio.create_task_group() as tasks:
            for code in attacks:
                tasks.start_soon(attack, code)
    assert {code: result.limit and result.limit.name for code, result in found.items()} == attacks
