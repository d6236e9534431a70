"""Every bound but memory's: what hits it, how the run ends, and what its result tells."""

import tempfile
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from mcp_python_executor.errors import Busy
from mcp_python_executor.execution.model import ExecutionResult, Interpreter, Status
from mcp_python_executor.limits import MEBIBYTE, LimitHit, Limits
from mcp_python_executor.process.disk import Disk
from tests.bench import OpenBench, bench_in

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# Uses the processor for so many seconds of its own; what it waits for takes none.
BURN = """
import os, signal, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def burn_in_child(seconds):
    pid = os.fork()
    if pid == 0:
        burn(seconds)
        os._exit(0)
    return pid
"""


def is_stopped_at(result: ExecutionResult, hit: LimitHit) -> bool:
    return (result.status, result.limit) == (Status.KILLED, hit)


def is_refused_at(result: ExecutionResult, hit: LimitHit) -> bool:
    """Whether the program failed by itself, and its result tells the bound."""
    return (result.status, result.limit, result.signal) == (Status.ERROR, hit, "")


# Processor time


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("burn(60)", id="one process"),
        pytest.param("for _ in range(4): burn_in_child(60)\ntime.sleep(60)", id="many at once"),
        pytest.param("while True: os.waitpid(burn_in_child(0.01), 0)", id="one shortly after the other"),
        pytest.param(
            """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try: os.waitpid(burn_in_child(0.2), 0)  # it has ended when this fails
    except ChildProcessError: pass
""",
            id="processes that are not accounted for",
        ),
        pytest.param(
            "import threading\nfor _ in range(4): threading.Thread(target=burn, args=(60,)).start()", id="threads"
        ),
    ],
)
async def test_processor_time_is_bounded_over_the_whole_tree(open_bench: OpenBench, isolation: str, code: str):
    limits = Limits(wall_seconds=30, busy_cores=0.02)
    async with open_bench(isolation=isolation, limits=limits) as bench:
        result = await bench.run(BURN + code)
    assert is_stopped_at(result, LimitHit("cpu", 600, "EXECUTION_TIMEOUT_MS")), result
    assert result.cpu_seconds > 0.6


async def test_processor_time_counts_once_for_children_that_were_waited_for(open_bench: OpenBench, isolation: str):
    limits = Limits(wall_seconds=60, busy_cores=1 / 60)
    code = "for _ in range(3): os.waitpid(burn_in_child(0.2), 0)\ntime.sleep(0.2)"
    async with open_bench(isolation=isolation, limits=limits) as bench:
        result = await bench.run(BURN + code)
    assert result.status is Status.OK, result
    assert result.cpu_seconds > 0.6


async def test_a_lower_timeout_lowers_processor_time_too(open_bench: OpenBench):
    async with open_bench(limits=Limits(busy_cores=0.05)) as bench:
        result = await bench.run("while True: pass", timeout_seconds=10)
    assert is_stopped_at(result, LimitHit("cpu", 500, "timeoutMs")), result


# Processes and threads


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("for _ in range(200):\n    if os.fork() == 0: time.sleep(60)", id="processes"),
        pytest.param("for _ in range(200): threading.Thread(target=time.sleep, args=(60,)).start()", id="threads"),
        pytest.param(
            "for _ in range(10):\n    if os.fork() == 0:\n        for _ in range(10):\n"
            "            threading.Thread(target=time.sleep, args=(60,)).start()\n        time.sleep(60)",
            id="threads of processes",
        ),
    ],
)
async def test_processes_and_threads_are_bounded_together(open_bench: OpenBench, isolation: str, code: str):
    limits = Limits(processes=50)
    async with open_bench(isolation=isolation, limits=limits) as bench:
        result = await bench.run("import os, threading, time\n" + code + "\ntime.sleep(60)")
    # Whoever is not root may meet the rlimit first.
    assert is_stopped_at(result, LimitHit("processes", 50)) or is_refused_at(result, LimitHit("processes", 50)), result


async def test_a_hundred_threads_and_twenty_processes_work(open_bench: OpenBench, isolation: str):
    code = """
import subprocess, threading
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(100)]
for thread in threads: thread.start()
children = [subprocess.Popen(["sleep", "0.3"]) for _ in range(20)]
print(sum(child.wait() for child in children))
stop.set()
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert (result.status, result.stdout) == (Status.OK, "0\n"), result


async def test_orphans_that_ended_are_no_processes_any_more(open_bench: OpenBench, isolation: str):
    code = """
import os
for _ in range(3000):
    child = os.fork()
    if child == 0:
        os.fork()
        os._exit(0)
    os.waitpid(child, 0)
print("done")
"""
    limits = Limits(processes=50, wall_seconds=120)
    async with open_bench(isolation=isolation, limits=limits) as bench:
        result = await bench.run(code)
    assert (result.status, result.stdout) == (Status.OK, "done\n"), result


# Files


@pytest.fixture
def on_disk(tmp_path: Path) -> None:
    """The kernel counts what is written to a disk, and tmpfs is none."""
    before = psutil.Process().io_counters().write_bytes
    (tmp_path / "block").write_bytes(bytes(MEBIBYTE))
    if psutil.Process().io_counters().write_bytes == before:
        pytest.skip("needs temporary files on a disk")


async def test_open_files_are_bounded_and_told_by_name(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation, limits=Limits(open_files=64)) as bench:
        result = await bench.run("files = [open('/dev/null') for _ in range(100)]")
    assert is_refused_at(result, LimitHit("open_files", 64)), result


async def test_a_files_size_is_bounded_and_told_by_name(open_bench: OpenBench, isolation: str):
    fills = f"file = open('big', 'wb', buffering=0)\nfile.write(bytes({MEBIBYTE}))\n"
    limits = Limits(file_bytes=MEBIBYTE)
    async with open_bench(isolation=isolation, limits=limits) as bench:
        filled = await bench.run(fills)
        refused = await bench.run(fills + "file.write(b'x')")
        killed = await bench.run(
            "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n" + fills + "file.write(b'x')"
        )
    assert filled.status is Status.OK, filled
    assert is_refused_at(refused, LimitHit("file_size", MEBIBYTE)), refused
    assert is_stopped_at(killed, LimitHit("file_size", MEBIBYTE)), killed
    assert killed.signal == "SIGXFSZ"


@pytest.mark.parametrize(
    "then",
    [
        pytest.param("os.remove(name)", id="removed while open"),
        pytest.param("os.fsync(file.fileno()); file.close(); os.remove(name)", id="removed"),
        pytest.param("file.close()", id="kept"),
    ],
)
@pytest.mark.usefixtures("on_disk")
async def test_bytes_written_to_the_disk_are_bounded_wherever_they_are(
    open_bench: OpenBench, isolation: str, then: str
):
    code = f"""
import os, time
files = []
for number in range(20):
    name = f"block{{number}}"
    file = open(name, "wb")
    files.append(file)
    file.write(bytes(5 << 20))
    file.flush()
    {then}
time.sleep(60)
"""
    async with open_bench(isolation=isolation, limits=Limits(disk_bytes=50 * MEBIBYTE)) as bench:
        result = await bench.run(code)
    assert is_stopped_at(result, LimitHit("disk", 50 * MEBIBYTE)), result


@pytest.mark.parametrize("then", ["pass", "os.remove(name)"], ids=["kept", "removed while open"])
@pytest.mark.parametrize("place", ["the working directory", "OUTPUT_PATH"])
async def test_bytes_written_to_memory_are_bounded_too(
    tmp_path: Path, interpreter: Interpreter, isolation: str, place: str, then: str
):
    code = f"""
import os, time
files = []
for number in range(20):
    name = os.path.join(os.environ["OUTPUT_PATH"] if {place!r} == "OUTPUT_PATH" else ".", str(number))
    files.append(open(name, "wb"))
    files[-1].write(bytes(5 << 20)), files[-1].flush()
    {then}
    time.sleep(0.02)
while True:
    os.stat(".")
"""
    limits = Limits(disk_bytes=50 * MEBIBYTE)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        output, runs = (Path(memory), tmp_path) if place == "OUTPUT_PATH" else (None, Path(memory))
        bench_there = bench_in(runs, within=interpreter, isolation=isolation, limits=limits, output_path=output)
        async with bench_there as bench:
            result = await bench.run(code)
    assert is_stopped_at(result, LimitHit("disk", 50 * MEBIBYTE)), result


async def test_a_full_temporary_directory_is_told_by_name(open_bench: OpenBench):
    code = "open('{}/big', 'wb').write(bytes(2 << 20))"
    async with open_bench(limits=Limits(temporary_bytes=3 * MEBIBYTE)) as bench:
        results = [await bench.run(code.format(place)) for place in ("/tmp", "/var/tmp", "/dev/shm")]
    for result in results:
        assert is_refused_at(result, LimitHit("temporary", MEBIBYTE)), result


async def test_a_bound_that_a_program_copes_with_is_not_told(open_bench: OpenBench, isolation: str):
    code = "files = []\ntry:\n    while True: files.append(open('/dev/null'))\nexcept OSError: files.clear()"
    async with open_bench(isolation=isolation, limits=Limits(open_files=64)) as bench:
        result = await bench.run(code)
    assert (result.status, result.limit) == (Status.OK, None)


# The queue


async def test_a_full_queue_names_its_length_and_the_way_out(open_bench: OpenBench):
    async with open_bench(limits=Limits(concurrent=1, queued=2)) as bench, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(bench.run, "import time\ntime.sleep(60)")
        with anyio.fail_after(60):
            while bench.runner.queued < 2:  # noqa: ASYNC110 - it has no event of its own
                await anyio.sleep(0.01)
        with pytest.raises(Busy, match=r"^2 executions wait already, .* call again .* MAX_CONCURRENT_EXECUTIONS=1$"):
            await bench.run("1")
        tasks.cancel_scope.cancel()


async def test_a_look_that_ends_after_the_run_changes_nothing_and_nobody_waits_for_it(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    answered, looked = threading.Event(), threading.Event()

    def look_for_long(_: Disk) -> str:
        looked.set()
        answered.wait(1)
        return "disk"

    monkeypatch.setattr(Disk, "exceeds", look_for_long)
    async with open_bench() as bench:
        try:
            result = await bench.run("import time\ntime.sleep(0.3)")
        finally:
            answered.set()
    assert looked.is_set()
    assert (result.status, result.limit) == (Status.OK, None)


async def test_a_run_is_not_charged_with_what_somebody_else_writes_to_the_output_path(
    open_bench: OpenBench, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    limits = Limits(disk_bytes=40 * MEBIBYTE)
    code = """
import os, time
end = time.monotonic() + 3
while time.monotonic() < end: sum(len(files) for _, _, files in os.walk("/usr/lib"))
os.path.getsize(os.environ["OUTPUT_PATH"] + "/copied")
"""

    async def copy() -> None:
        await anyio.sleep(1)  # past its first looks
        await anyio.to_thread.run_sync((tmp_path / "out" / "copied").write_bytes, bytes(60 * MEBIBYTE))

    async with open_bench(output_path=tmp_path / "out", limits=limits) as bench, anyio.create_task_group() as tasks:
        tasks.start_soon(copy)
        result = await bench.run(code)
        assert (result.status, result.limit, result.result) == (Status.OK, None, str(60 * MEBIBYTE))
