"""A program cannot signal, trace, read or change any process but its own."""

import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import ExecutionResult
from tests.bench import Bench, OpenBench
from tests.escapes.attack import CANARY, attack
from tests.escapes.outside import Bystander, bystander, family, lasting, numbers, state

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# What every attack here begins with. It aims at everybody, by every number that they have anywhere, and at whoever is
# above it: not at the server by what cannot be survived, and at 1 only where that is an init of its own, for a host's
# would take everything with it.
_AIM = """
import ctypes, fcntl, os, resource, signal, socket, struct, subprocess
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
everybody = sorted(({numbers} | {{os.getppid()}}) - {{0, os.getpid()}})
def aim(shoot, *more):
    for pid in everybody:
        for each in more or (None,):
            if pid in {server} and each == signal.SIGKILL: continue
            try:
                told = shoot(pid) if each is None else shoot(pid, each)
                print("HIT", pid, told)
            except (OSError, OverflowError, subprocess.SubprocessError) as error:
                print(pid, error)
    print("aimed at", everybody)
"""
# What a process can survive, and what it cannot.
_HEARD = (signal.SIGUSR1, signal.SIGIO, signal.SIGURG)
_SIGNALS = "signal.SIGUSR1, signal.SIGKILL"


class Scene:
    """Everybody that a program may not touch: a server, which is this process, what it started, and a bystander."""

    def __init__(self, bench: Bench, by: Bystander, heard: list[int]) -> None:
        self._bench, self._heard = bench, heard
        self.bystander = by

    async def attack(self, code: str) -> str:
        """What an attack on everybody said; nobody was touched by it."""
        pids = [*family(), self.bystander.pid]
        before = {pid: state(pid) for pid in lasting(pids)}
        assert all(before.values())
        told = await attack(self._bench, _AIM.format(numbers=numbers(pids), server=numbers(pids[:1])) + code)
        assert "aimed at [" in told, told
        assert self.bystander.told() == "untouched"
        assert self._heard == []
        assert {pid: state(pid) for pid in before} == before
        return told


@pytest.fixture
async def scene(open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Scene]:
    """A scene with another program under way, which must come to its good end after the attack."""
    async with opened_scene(open_bench, tmp_path) as opened:
        yield opened


@asynccontextmanager
async def opened_scene(open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Scene]:
    """See `scene`."""
    output = tmp_path / "out"
    output.mkdir()
    started = anyio.Event()
    ended: list[ExecutionResult] = []
    code = f"""
import os, time
canary = {CANARY!r}
print("up", flush=True)
while not os.path.exists(os.environ["OUTPUT_PATH"] + "/go"): time.sleep(0.01)
print("still here")
"""

    def hear(_: str, __: str) -> None:
        started.set()

    async def other() -> None:
        ended.append(await bench.run(code, listener=hear))

    with bystander() as by, hearing() as heard:
        async with open_bench(output_path=output) as bench:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                with anyio.fail_after(60):
                    await started.wait()
                yield Scene(bench, by, heard)
                (output / "go").touch()
            assert ended[0].stdout == "up\nstill here\n", ended
            assert (await bench.run("1")).result == "1"


@contextmanager
def hearing() -> Generator[list[int]]:
    """Which of the signals that attacks use have come to this process."""
    heard: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in _HEARD}
    try:
        yield heard
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_INFO = "struct.pack('iiiiii', number, 0, -1, os.getpid(), os.getuid(), 0) + bytes(104)"
# How `number` is sent to `pid`. System calls have their numbers of x86-64.
SENDING = {
    "kill": ["os.kill(pid, number)", "os.killpg(pid, number) if pid > 1 else None"],
    "kill, the tool": ["subprocess.run(['kill', f'-{number:d}', str(pid)], check=True, capture_output=True)"],
    "thread": ["call(200, pid, number)", "call(234, pid, pid, number)"],
    "queue": [f"call(129, pid, number, {_INFO})", f"call(297, pid, pid, number, {_INFO})"],
    "pidfd": [
        "signal.pidfd_send_signal(os.pidfd_open(pid), number)",
        "call(424, os.pidfd_open(pid), number, 0, 4)",  # PIDFD_SIGNAL_PROCESS_GROUP
        "call(424, call(434, pid, os.O_EXCL), number, 0, 1)",  # PIDFD_THREAD
    ],
}


@pytest.mark.parametrize("way", SENDING)
async def test_nobody_is_sent_a_signal(scene: Scene, way: str):
    await scene.attack("\n".join(f"aim(lambda pid, number: {shoot}, {_SIGNALS})" for shoot in SENDING[way]))


# How something is made to tell its owner of itself by a signal, once `own` has made that another process.
TELLING = {
    "streams": """
        r, w = os.pipe(); own(r); os.write(w, b'x'); os.close(r); os.close(w)
        a, b = socket.socketpair(); own(a.fileno()); b.send(b'x')
        own(1); print('x' * 100, flush=True)
        own(3); time.sleep(0.001)
    """,
    "files": """
        place = os.open('.', os.O_RDONLY)
        own(place); fcntl.fcntl(place, fcntl.F_NOTIFY, 4)
        open(f'created-{pid}-{number}', 'w').close()
        os.close(place)
        leased = os.open(f'created-{pid}-{number}', os.O_RDONLY)
        own(leased); fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_RDLCK); own(leased)
        try: os.open(f'created-{pid}-{number}', os.O_WRONLY | os.O_NONBLOCK)
        except BlockingIOError: pass
        os.close(leased)
    """,
}


@pytest.mark.parametrize("what", TELLING)
async def test_nobody_is_made_the_owner_of_a_signal(scene: Scene, what: str):
    code = """
import textwrap, time
def tell(pid, number):
    groups = [-pid, struct.pack("ii", 2, pid)] if pid > 1 else []
    for owner in (pid, struct.pack("ii", 0, pid), *groups):
        def own(descriptor):
            fcntl.fcntl(descriptor, fcntl.F_SETOWN if isinstance(owner, int) else 15, owner)  # F_SETOWN_EX
            fcntl.fcntl(descriptor, 10, number)  # F_SETSIG
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC | fcntl.fcntl(descriptor, fcntl.F_GETFL))
        try: exec(textwrap.dedent(how), {**globals(), "own": own, "pid": pid, "number": number})
        except ProcessLookupError as error: print(pid, error)
for kept in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(kept, signal.SIG_IGN)
"""
    await scene.attack(f"{code}how = {TELLING[what]!r}\naim(tell, {_SIGNALS})")


async def test_a_signal_to_everybody_reaches_nobody_else(scene: Scene):
    # Those that do not wait for this one ignore it, whoever they are.
    await scene.attack("aim(lambda pid: os.kill(-1, signal.SIGURG))")


async def test_the_end_of_an_orphan_signals_nobody(scene: Scene):
    code = """
def orphan(number):
    if os.fork() == 0:
        if call(56, number, 0, 0, 0, 0) == 0:  # clone: the signal that its parent is to get when it ends
            while os.getppid() == parent: pass
        os._exit(0)
parent = os.getpid()
aim(lambda pid: [orphan(number) for number in (signal.SIGUSR1, signal.SIGKILL)])
"""
    await scene.attack(code)


# What would trace `pid`, or take from it.
TRACING = """
    call(101, 0x4206, pid, 0, 0)                        # ptrace: PTRACE_SEIZE, which stops nobody
    call(310, pid, here, 1, there, 1, 0), room.raw      # process_vm_readv
    call(311, pid, here, 1, there, 1, 0)                # process_vm_writev
    call(438, os.pidfd_open(pid), 0, 0)                 # pidfd_getfd
    call(312, pid, os.getpid(), 0, 0, 0)                # kcmp
    call(274, pid, room, room), room.raw                # get_robust_list
    call(440, os.pidfd_open(pid), there, 1, 21, 0)      # process_madvise
    call(448, os.pidfd_open(pid), 0)                    # process_mrelease
    call(279, pid, 1, there, there, room, 0), room.raw  # move_pages
    call(256, pid, 8, room, room)                       # migrate_pages
    call(298, bytes(128), pid, -1, -1, 0)               # perf_event_open
"""


async def test_nobody_is_traced_or_read(scene: Scene):
    code = f"""
room = ctypes.create_string_buffer(b"evil", 64)
here = struct.pack("QQ", ctypes.addressof(room), 8)
there = struct.pack("QQ", {scene.bystander.address}, 8)
for shoot in {TRACING!r}.strip().splitlines():
    aim(eval(f"lambda pid: ({{shoot.partition('#')[0]}},)"))
"""
    told = await scene.attack(code)
    assert "HIT" not in told
    assert CANARY not in told


async def test_nothing_of_anybody_is_read_in_proc(scene: Scene):
    code = """
def read(pid):
    found = []
    for name in "cmdline environ maps smaps mem auxv stack syscall io wchan personality".split():
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if name == "mem": file.seek(address)
                found.append(file.read(4096))
        except OSError as error:
            print(error)
    for name in ("fd", "map_files", "root", "cwd", "ns", "task"):
        try: found.append(os.listdir(f"/proc/{pid}/{name}"))
        except OSError as error: print(error)
    for name in ("exe", "cwd", "root", "fd/0", "fd/1", "fd/2", "fd/3", "ns/user"):
        try: found.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
        except OSError as error: print(error)
    return found
aim(read)
"""
    told = await scene.attack(f"address = {scene.bystander.address}\n{code}")
    assert CANARY not in told
    assert all("HIT 1 " in line or line.endswith("[]") for line in told.splitlines() if "HIT" in line), told


async def test_nothing_is_written_in_proc_not_even_of_its_own(scene: Scene):
    code = """
names = (
    "attr/current attr/exec autogroup clear_refs comm coredump_filter gid_map latency loginuid make-it-fail mem "
    "oom_adj oom_score_adj projid_map reclaim sched setgroups timens_offsets timerslack_ns uid_map"
).split()
def write(pid):
    found = []
    for name in [*names, f"task/{pid}/comm"]:
        for flags in (os.O_WRONLY, os.O_RDWR):
            try: found.append((name, os.open(f"/proc/{pid}/{name}", flags)))
            except OSError as error: print(error)
    if found: return found
    raise OSError("none")
everybody += [os.getpid()]
aim(write)
"""
    assert "HIT" not in await scene.attack(code)


# What would change how `pid` runs.
CHANGING = {
    "limits": ["resource.prlimit(pid, resource.RLIMIT_MSGQUEUE, (7, 7))"],
    "priorities": [
        "os.setpriority(os.PRIO_PROCESS, pid, 1)",
        "os.setpriority(os.PRIO_PGRP, pid, 1)",
        "[os.setpriority(os.PRIO_USER, user, 1) for user in (0, os.getuid())]",
        *(f"call(251, {which}, pid, 2 << 13 | 5)" for which in (1, 2)),  # ioprio_set
        "[call(251, 3, user, 2 << 13 | 5) for user in (0, os.getuid())]",
    ],
    "scheduling": [
        "os.sched_setaffinity(pid, {0})",
        "os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))",
        "os.sched_setparam(pid, os.sched_param(0))",
        "call(314, pid, struct.pack('IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0), 0)",  # sched_setattr
    ],
    "groups": ["os.setpgid(pid, pid)", "os.setpgid(pid, os.getpgrp())", "os.setpgid(0, pid)"],
}


@pytest.mark.parametrize("what", CHANGING)
async def test_how_anybody_runs_is_not_changed(scene: Scene, what: str):
    await scene.attack("\n".join(f"aim(lambda pid: {shoot})" for shoot in CHANGING[what]))


async def test_a_program_and_its_children_do_not_trace_each_other(open_bench: OpenBench):
    code = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def tell(name, *arguments):
    print(name, libc.syscall(*arguments), os.strerror(ctypes.get_errno()), flush=True)
child = os.fork()
if child == 0:
    tell("traceme", 101, 0, 0, 0, 0)
    signal.pause()
tell("attach", 101, 16, child, 0, 0)
tell("seize", 101, 0x4206, child, 0, 0)
tell("ptracer", 157, 0x59616D61, -1)
tell("dumpable", 157, 4, 0)
os.kill(child, signal.SIGKILL)
print("ended by", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    for name in ("attach", "seize", "ptracer", "dumpable"):
        assert f"{name} -1 Operation not permitted" in told
    assert "traceme 0" not in told
    assert "ended by -9" in told


async def test_a_program_stays_the_first_to_die_when_memory_runs_out(open_bench: OpenBench):
    code = """
import os, subprocess
for value in ("0", "-1000", "999"):
    for path in ("/proc/self/oom_score_adj", "/proc/thread-self/oom_score_adj"):
        try: open(path, "w").write(value); print("WRITTEN")
        except OSError as error: print(error)
    print(subprocess.run(["choom", "-n", value, "-p", str(os.getpid())], capture_output=True).returncode)
print("now", open("/proc/self/oom_score_adj").read())
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "WRITTEN" not in told
    assert "now 1000\n" in told
