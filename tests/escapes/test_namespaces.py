"""What only namespaces of its own hide from a program: that others run, and how."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import Bench, OpenBench
from tests.escapes.attack import attack
from tests.escapes.outside import family, numbers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


@asynccontextmanager
async def another_under_way(open_bench: OpenBench, tmp_path: Path) -> AsyncGenerator[Bench]:
    """A bench in which another program runs, in processes of its own."""
    output = tmp_path / "out"
    output.mkdir()
    started = anyio.Event()
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0: break
print("up", flush=True)
while not os.path.exists(os.environ["OUTPUT_PATH"] + "/go"): time.sleep(0.01)
"""

    def hear(_: str, __: str) -> None:
        started.set()

    async def other() -> None:
        await bench.run(code, listener=hear)

    async with open_bench(output_path=output) as bench, anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        with anyio.fail_after(60):
            await started.wait()
        yield bench
        (output / "go").touch()


# How the processes of others show, by their numbers: in what is told of them, or how it is refused.
SIGHTS = {
    "by a signal": "os.kill(pid, 0)",
    "by a handle": "os.close(os.pidfd_open(pid))",
    "by their groups": "os.getpgid(pid), os.getsid(pid)",
    "by their priorities": "os.getpriority(os.PRIO_PROCESS, pid)",
    "by their scheduling": "os.sched_getscheduler(pid), os.sched_getparam(pid), os.sched_getaffinity(pid)",
}


@pytest.mark.parametrize("how", SIGHTS)
async def test_nobody_else_is_found(open_bench: OpenBench, confinement: Confinement, tmp_path: Path, how: str):
    async with another_under_way(open_bench, tmp_path) as bench:
        others = numbers(family())
        code = f"""
import os
def there(pid):
    try: {SIGHTS[how]}
    except ProcessLookupError: return False
    except PermissionError: pass
    return True
# The run's own first process, which forks nobody, has the first number of its namespace.
print("found", [pid for pid in {others} - {{1, os.getpid()}} if there(pid)])
"""
        told = await attack(bench, code)
    # Elsewhere it may tell; docs/safety.md says so.
    assert ("found []" in told) is confinement.namespaces


async def test_how_many_processes_others_start_is_not_told(
    open_bench: OpenBench, confinement: Confinement, tmp_path: Path
):
    code = "import os, subprocess\nprint('numbers', os.getpid(), subprocess.Popen('true').pid)"
    async with another_under_way(open_bench, tmp_path) as bench:
        told = {(await attack(bench, code)).splitlines()[0] for _ in range(3)}
    assert (len(told) == 1) is confinement.namespaces


async def test_whether_others_work_in_a_directory_is_not_told(
    open_bench: OpenBench, confinement: Confinement, tmp_path: Path
):
    async with another_under_way(open_bench, tmp_path) as bench:
        runs = [path for path in bench.zygotes.engine.runs.glob("*/*") if (path / "work").is_dir()]
        code = f"""
import os
own = os.path.dirname(os.getcwd())
for path in {[str(path) for path in runs]}:
    try: print("own" if path == own else "another", os.stat(path).st_size > 0)
    except FileNotFoundError: print("nothing there")
"""
        told = await attack(bench, code)
    assert runs
    assert told.count("own ") + told.count("another ") + told.count("nothing there") == len(runs)
    # Landlock keeps nobody from asking; docs/safety.md says so.
    assert ("another " not in told) is confinement.namespaces


async def test_proc_lists_its_own_processes_and_no_others(
    open_bench: OpenBench, confinement: Confinement, tmp_path: Path
):
    code = """
import os, signal
children = []
for _ in range(3):
    children.append(os.fork())
    if not children[-1]: signal.pause()
try: listed = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
except PermissionError: listed = "nothing"
print("listed", listed, "of", sorted({1, os.getpid(), *children}))
"""
    async with another_under_way(open_bench, tmp_path) as bench:
        listed, own = (await attack(bench, code)).splitlines()[0].removeprefix("listed ").split(" of ")
    # Elsewhere what lies in /proc is not listed at all.
    assert listed == (own if confinement.namespaces else "nothing")


async def test_its_namespaces_are_not_the_hosts(open_bench: OpenBench, confinement: Confinement):
    kinds = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
    code = f"""
import os, socket
for kind in {kinds}: print("own", os.readlink("/proc/self/ns/" + kind))
print("host name", socket.gethostname())
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    own = [line.removeprefix("own ") for line in told.splitlines() if line.startswith("own ")]
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]  # noqa: PTH115 - no path
    assert len(own) == len(host)
    if confinement.bubblewrap is not None:
        assert set(own).isdisjoint(host)
        assert "host name sandbox\n" in told
