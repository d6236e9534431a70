"""One execution leaves nothing for the next, and does not touch the interpreter that the next is forked from."""

import json
import os
import struct
import sys
import textwrap
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.execution.model import Status
from mcp_python_executor.process import proc
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_PRELUDE = f"""
import builtins, ctypes, importlib.util, os, resource, signal, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
HOME, CPUS, NICENESS = os.environ["HOME"], {os.sched_getaffinity(0)}, {os.nice(0)}
PLACES = ["/tmp", "/var/tmp", "/dev/shm", "/dev", "/run", tempfile.gettempdir(), HOME]
def found(**things):
    print("looked at", list(things), "and", [f"FOUND {{name}}" for name, thing in things.items() if thing])
"""
# What one execution does, and what the next one looks for.
LEFTOVERS = {
    "environment variables": (
        """
os.putenv("LEFT", "x")
os.environ.update(LEFT="x", PATH="/left", HOME="/left", PYTHONSTARTUP="/left", LD_PRELOAD="/left")
""",
        """
found(variable=os.environ.get("LEFT"), path="/left" in os.environ.values(), preload=os.environ.get("LD_PRELOAD"))
""",
    ),
    "modules": (
        """
import json
sys.modules["left"] = sys
json.dumps = builtins.open = os.stat = None
builtins.left = sys.left = 1
""",
        """
import json
found(module="left" in sys.modules, patch=not json.dumps or not open or not os.stat,
      builtin=hasattr(builtins, "left"), attribute=hasattr(sys, "left"))
""",
    ),
    "ways to import": (
        """
for name in ("left", "sitecustomize", "usercustomize", "json"):
    open(name + ".py", "w").write("value = 1")
sys.path.insert(0, os.getcwd())
sys.meta_path.insert(0, None)
sys.path_hooks.clear()
sys.path_importer_cache["left"] = None
""",
        """
import json
found(finder=None in sys.meta_path, hooks=not sys.path_hooks, cache="left" in sys.path_importer_cache,
      modules=[name for name in ("left", "usercustomize") if importlib.util.find_spec(name)],
      instead=hasattr(json, "value"))
""",
    ),
    "hooks of the interpreter": (
        """
os.register_at_fork(after_in_child=lambda: print("FOUND a hook"), before=lambda: print("FOUND a hook"))
sys.addaudithook(lambda *_: os.write(1, b"FOUND an audit hook"))
sys.excepthook = sys.displayhook = None
sys.setswitchinterval(1)
""",
        """
if os.fork() == 0:
    os._exit(0)
os.wait()
found(hooks=not sys.excepthook or not sys.displayhook, interval=sys.getswitchinterval() == 1)
""",
    ),
    "signals": (
        """
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.setitimer(signal.ITIMER_REAL, 0.1)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
""",
        """
numbers = signal.SIGUSR1, signal.SIGTERM, signal.SIGINT
found(ignored=[each for each in numbers if signal.getsignal(each) is signal.SIG_IGN],
      blocked=signal.pthread_sigmask(signal.SIG_BLOCK, set()), timer=signal.getitimer(signal.ITIMER_REAL)[0])
""",
    ),
    "what a person's Python starts with": (
        """
for folder in (".local/lib/python%d.%d/site-packages" % sys.version_info[:2], ".config/pip", ".cache", ".ipython"):
    os.makedirs(HOME + "/" + folder)
    open(HOME + "/" + folder + "/left.pth", "w").write("import left")
for name in (".pythonrc.py", ".bashrc", ".profile", ".pdbrc", ".netrc", ".pypirc"):
    open(HOME + "/" + name, "w").write("left")
""",
        """
found(files=os.listdir(HOME))
""",
    ),
    "files": (
        """
for place in PLACES:
    try:
        open(place + "/left", "x").write("x")
        print("left", place)
    except OSError as error:
        print(error)
""",
        """
def opens(path):
    try:
        return open(path)
    except OSError:
        return None
found(files=[place for place in PLACES if opens(place + "/left")])
""",
    ),
    "the process's own ways": (
        """
os.umask(0)
os.nice(5)
os.sched_setaffinity(0, {min(CPUS)})
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_STACK):
    resource.setrlimit(limit, (64, 64))
os.chdir("/")
""",
        """
limits = resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_STACK
found(umask=os.umask(0o22) != 0o22, niceness=os.nice(0) != NICENESS, processors=os.sched_getaffinity(0) != CPUS,
      scheduler=os.sched_getscheduler(0), directory=os.getcwd() == "/",
      limits=[limit for limit in limits if resource.getrlimit(limit) == (64, 64)])
""",
    ),
    "shared memory": ("print(libc.shmget(77, 4096, 0o1666))", "found(segment=libc.shmget(77, 4096, 0o666) >= 0)"),
    "semaphores": ("print(libc.semget(78, 1, 0o1666))", "found(semaphores=libc.semget(78, 1, 0o666) >= 0)"),
    "messages": ("print(libc.msgget(79, 0o1666))", "found(queue=libc.msgget(79, 0o666) >= 0)"),
    "named messages": (
        "print(libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o666, None))",
        "found(queue=libc.mq_open(b'/left', os.O_RDWR) >= 0)",
    ),
    "keys": (
        """
for ring in (-3, -4, -5):
    print(libc.syscall(248, b"user", b"left", b"left", 4, ring))
""",
        """
found(key=[ring for ring in (-3, -4, -5) if libc.syscall(250, 10, ring, b"user", b"left", 0) >= 0])
""",
    ),
}


@pytest.mark.parametrize("what", LEFTOVERS)
async def test_the_next_execution_does_not_find(open_bench: OpenBench, what: str):
    leave, find = LEFTOVERS[what]
    async with open_bench() as bench:
        assert "Error" not in (await attack(bench, _PRELUDE + find)).replace("OSError", "")
        await attack(bench, _PRELUDE + leave)
        for _ in range(2):  # the next one's worker may have been forked before
            told = await attack(bench, _PRELUDE + find)
            assert "looked at [" in told
            assert "FOUND" not in told


async def test_objects_of_an_execution_are_not_the_hosts(open_bench: OpenBench):
    code = "".join(leave + "\n" for what, (leave, _) in LEFTOVERS.items() if what in ("shared memory", "semaphores"))
    async with open_bench() as bench:
        await attack(bench, f"{_PRELUDE}{code}{LEFTOVERS['messages'][0]}")
    for kind in ("shm", "sem", "msg"):
        table = await anyio.Path(f"/proc/sysvipc/{kind}").read_text()
        assert not [line for line in table.splitlines() if line.split()[0] in ("77", "78", "79")]


# Against whoever forks the workers: the program's parent, and all above it that it can name.
TRICKS = {
    "kill": "os.kill(pid, number)",
    "kill its group": "os.killpg(pid, number)",
    "kill everybody": "os.kill(-1, signal.SIGWINCH)",
    "signal by handle": "signal.pidfd_send_signal(os.pidfd_open(pid), number)",
    "queue a signal": "call(129, pid, number, bytes(128))",
    "signal by a pipe": """
reader, writer = os.pipe()
fcntl.fcntl(reader, 8, pid)  # F_SETOWN
fcntl.fcntl(reader, 10, number)  # F_SETSIG
fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(writer, b"x")
""",
    "signal a group by a pipe": """
reader, writer = os.pipe()
fcntl.fcntl(reader, 8, -pid)
fcntl.fcntl(reader, 10, number)
fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(writer, b"x")
""",
    "attach": "call(101, 0x4206, pid, 0, 0)",
    "write its memory": "open(f'/proc/{pid}/mem', 'r+b', 0)",
    "write its memory by call": "call(311, pid, bytes(16), 1, bytes(16), 1, 0)",
    "take its descriptors": "call(438, os.pidfd_open(pid), 3, 0)",
    "open its descriptors": "[os.open(f'/proc/{pid}/fd/{number}', os.O_RDWR) for number in range(16)]",
    "lower its limits": "resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, 4))",
    "lower its priority": "os.setpriority(os.PRIO_PROCESS, pid, 19)",
    "lower its group's priority": "os.setpriority(os.PRIO_PGRP, pid, 19)",
    "lower its user's priority": "os.setpriority(os.PRIO_USER, os.getuid(), 19)",
    "bind it to one processor": "os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})",
    "make it wait for others": "os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))",
    "starve its disk": "call(251, 1, pid, 3 << 13)",
    "move its pages": "call(256, pid, 8, bytes(8), bytes(8))",
    "advise its memory": "call(440, os.pidfd_open(pid), bytes(16), 1, 21, 0)",
    "make it the first to die": "open(f'/proc/{pid}/oom_score_adj', 'w').write('1000')",
    "join its group": "os.setpgid(0, pid)",
    "move it": "os.setpgid(pid, os.getpid())",
}


class Watch:
    """Sees from outside what stands above each execution, when it says that it is up, and then lets it go on.

    And the first processes of all namespaces.
    """

    def __init__(self, output: Path) -> None:
        self.seen: list[dict[int, tuple[object, ...]]] = []
        self.inits: list[dict[int, tuple[object, ...]]] = []
        self.output = output
        output.mkdir()

    def __call__(self, _: str, text: str) -> None:
        """Is told what is printed: `up DIRECTORY`."""
        for line in text.splitlines():
            if line.startswith("up "):
                ours = psutil.Process().children(recursive=True)
                (run,) = [process for process in ours if directory(process) == line.removeprefix("up ")]
                self.seen.append({process.pid: standing(process) for process in run.parents() if process in ours})
                self.inits.append({process.pid: standing(process) for process in ours if proc.is_first(process.pid)})
                (self.output / "seen").touch()


def directory(process: psutil.Process) -> str:
    """Where a process is, if it has not ended."""
    try:
        return process.cwd()
    except (OSError, psutil.Error):
        return ""


def standing(process: psutil.Process) -> tuple[object, ...]:
    """How the kernel treats a process."""
    place = Path(f"/proc/{process.pid}")
    return (
        *(process.status() == psutil.STATUS_STOPPED, process.nice(), process.ionice(), process.cpu_affinity()),
        *(os.getpgid(process.pid), os.sched_getscheduler(process.pid)),
        *((place / "oom_score_adj").read_text(), (place / "limits").read_text()),
    )


# Leaves without a report: what a program imported is learned from it, and a warmer interpreter takes over.
_UP = """
import os, time
print("up", os.getcwd(), flush=True)
seen, deadline = os.environ["OUTPUT_PATH"] + "/seen", time.monotonic() + 20
while not os.path.exists(seen) and time.monotonic() < deadline:
    time.sleep(0.005)
os.unlink(seen)
"""
_LEAVE = "\nprint('left', flush=True)\nos._exit(0)"


async def test_the_interpreter_that_forks_executions_is_not_touched(
    open_bench: OpenBench, standing: Confinement, tmp_path: Path
):
    tricks = [(name, textwrap.dedent(trick).strip()) for name, trick in TRICKS.items()]
    code = f"""
import ctypes, fcntl, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
parent = os.getppid()
for name, trick in {tricks}:
    for pid in {{*range(max(2, parent - 4), parent + 1), parent, 1, 2, 3}} - {{0, os.getpid()}}:
        for number in (signal.SIGUSR1, signal.SIGSTOP):
            try:
                print("tried", name, pid, exec(trick))
            except (OSError, OverflowError) as error:
                print("tried", name, pid, error)
"""
    watch = Watch(tmp_path / "out")
    async with open_bench(output_path=watch.output) as bench:
        await bench.run(_UP + _LEAVE, listener=watch)
        attacked = await bench.run(_UP + code + _LEAVE, listener=watch)
        after = await bench.run(_UP + "print(os.nice(0), os.sched_getscheduler(0))" + _LEAVE, listener=watch)
    assert {name for name in TRICKS if f"tried {name} " in attacked.stdout} == TRICKS.keys()
    assert attacked.stdout.endswith("left\n")
    assert after.stdout.endswith("0 0\nleft\n")
    before, _, later = ({**seen} for seen in watch.seen)
    if not standing.namespaces:  # each has a supervisor of its own
        del before[next(iter(before))], later[next(iter(later))]
    assert before
    assert later == before
    before, later = watch.inits[1:]
    stayed = before.keys() & later
    if standing.namespaces:  # bubblewrap's own if it is there, the interpreter's, and the attacked execution's
        assert len(stayed) >= 2 + (standing.bubblewrap is not None)
    assert {pid: later[pid] for pid in stayed} == {pid: before[pid] for pid in stayed}


async def test_orders_written_to_every_descriptor_give_the_interpreter_none(open_bench: OpenBench, tmp_path: Path):
    orders = [
        '{"op": "kill", "id": "0000000000000000"}',
        '{"op": "fork", "id": "x", "work": "/tmp", "directory": "/tmp", "write": ["/"], "environment": {}}',
        '{"event": "failed", "id": "", "reason": "forged"}',
        '{"event": "ended", "id": "0000000000000000"}',
    ]
    code = f"""
import os, socket
sent = 0
for number in range(1024):
    for order in {[order.encode() for order in orders]}:
        for way in (os.write, lambda number, data: socket.socket(fileno=os.dup(number)).send(data)):
            try:
                way(number, order)
                sent += 1
            except OSError:
                pass
print("sent", sent)
"""
    watch = Watch(tmp_path / "out")
    async with open_bench(output_path=watch.output) as bench:
        await bench.run(_UP + _LEAVE, listener=watch)
        attacked = await bench.run(code + _LEAVE)
        after = await bench.run(_UP + _LEAVE, listener=watch)
    assert "sent " in attacked.stdout
    assert after.stdout.endswith("left\n")
    assert watch.seen[0].keys() & watch.seen[1].keys()


async def test_a_forged_list_of_modules_runs_nothing_in_the_next_execution(open_bench: OpenBench):
    names = sorted(sys.stdlib_module_names)
    hostile = ["this", "antigravity", "__hello__", "left", "../left", "os; print(1)", "a" * 10_000, "yaml", "", "main"]
    async with open_bench() as bench:
        for start in range(0, len(names), 150):
            report = json.dumps({"modules": [*names[start : start + 150], *hostile]}).encode()
            code = f"""
import os
for name in {hostile[:8]}:
    try:
        open(name + ".py", "w").write("print('LEFT')")
    except OSError:
        pass
os.write(3, {struct.pack("!I", len(report)) + report!r})
os._exit(0)
"""
            assert (await bench.run(code)).status is Status.OK
        told = await bench.run("import sys, threading\nprint('this' in sys.modules, threading.active_count())")
    assert (told.stdout, told.stderr) == ("False 1\n", "")
