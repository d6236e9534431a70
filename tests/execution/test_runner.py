import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import psutil
import pytest

from mcp_python_executor.errors import Busy, EngineError
from mcp_python_executor.execution import artifacts, hints, runner, zygotes
from mcp_python_executor.execution.artifacts import Found
from mcp_python_executor.execution.model import Interpreter, Status
from mcp_python_executor.execution.report import ReportedError
from mcp_python_executor.limits import MEBIBYTE, Limits
from tests.bench import OpenBench, make_interpreter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


async def test_a_program_prints_and_shows_its_last_value(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run("print('out')\nimport sys\nprint('err', file=sys.stderr)\n6 * 7")
    assert (result.status, result.stdout, result.stderr, result.result) == (Status.OK, "out\n", "err\n", "42")
    assert (result.exit_code, result.error) == (0, None)
    assert result.isolation == ("none" if isolation == "none" else "strict")
    assert 0 < result.cpu_seconds < 5
    assert result.peak_memory_bytes > MEBIBYTE


async def test_standard_input_is_what_was_given_and_then_ends(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation) as bench:
        given = await bench.run("print(input() + '|' + input())\ninput()", stdin=b"a\nb\n")
        empty = await bench.run("input()")
    assert given.stdout == "a|b\n"
    assert given.error is not None
    assert given.error.type == "EOFError"
    assert empty.error is not None
    assert empty.error.type == "EOFError"


async def test_a_megabyte_of_input_reaches_a_program_that_reads_it_late(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run("import sys, time\ntime.sleep(0.1)\nlen(sys.stdin.read())", stdin=b"x" * MEBIBYTE)
    assert result.result == str(MEBIBYTE)


async def test_arguments_reach_the_program(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run("import sys\nsys.argv[1:]", args=("--fast", "two words"))
    assert result.result == "['--fast', 'two words']"


async def test_an_error_tells_its_line_and_the_users_frames_only(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run("def f(x):\n    return 1 / x\n\nf(0)")
    assert result.status is Status.ERROR
    assert result.exit_code == 1
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.line) == ("ZeroDivisionError", "division by zero", 2)
    assert "return 1 / x" in result.error.traceback
    assert "inside" not in result.error.traceback


async def test_a_syntax_error_is_told_with_its_line(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run("x = 1\ny = = 2")
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("SyntaxError", 2)
    *_, line, caret, last = result.error.traceback.splitlines()
    assert (line.strip(), caret.strip(), last) == ("y = = 2", "^", "SyntaxError: invalid syntax")
    assert caret.index("^") == line.index("= 2")


@pytest.mark.parametrize(
    ("code", "expected", "stderr"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('bad')", 1, "bad\n"),
        ("import os; os._exit(5)", 5, ""),
        ("raise SystemExit(256 + 7)", 7, ""),
    ],
)
async def test_the_exit_status_is_an_interpreters(open_bench: OpenBench, code: str, expected: int, stderr: str):
    async with open_bench() as bench:
        result = await bench.run(code)
    assert (result.exit_code, result.stderr) == (expected, stderr)
    assert result.status is (Status.ERROR if expected else Status.OK)


async def test_threads_and_exit_handlers_end_before_the_result(open_bench: OpenBench, isolation: str):
    code = """
import atexit, threading, time
atexit.register(print, "handler")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("main")
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert result.stdout == "main\nthread\nhandler\n"


async def test_a_program_is_main_in_a_real_file(open_bench: OpenBench, isolation: str):
    code = """
import inspect, multiprocessing, sys
def square(x): print(x * x)
if __name__ == "__main__":
    print(inspect.getsource(square).strip(), sys.argv[0] == __file__, sys.modules["__main__"].square is square)
    process = multiprocessing.get_context("spawn").Process(target=square, args=(3,))
    process.start()
    process.join()
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert result.stdout == "def square(x): print(x * x) True True\n9\n", result


async def test_a_pool_of_processes_works_behind_all_walls(open_bench: OpenBench):
    code = """
import multiprocessing
def square(x): return x * x
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(square, [1, 2, 3]))
"""
    async with open_bench() as bench:
        result = await bench.run(code)
    assert result.stdout == "[1, 4, 9]\n" * 2, result


async def test_future_imports_hold_for_the_last_expression(open_bench: OpenBench):
    code = "from __future__ import annotations\ndef f(x: undefined): pass\nf.__annotations__"
    async with open_bench() as bench:
        result = await bench.run(code)
    assert result.result == "{'x': 'undefined'}"


async def test_a_deadline_ends_a_program_that_ignores_every_signal(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation, limits=Limits(wall_seconds=30)) as bench:
        result = await bench.run_program("ignores_everything.py", timeout_seconds=0.5)
    assert (result.status, result.stdout) == (Status.TIMEOUT, "deaf\n")
    assert result.limit is not None
    assert (result.limit.name, result.limit.value, result.limit.setting) == ("time", 500, "timeoutMs")


async def test_a_timeout_may_lower_the_deadline_and_never_raise_it(open_bench: OpenBench):
    async with open_bench(limits=Limits(wall_seconds=0.3)) as bench:
        result = await bench.run("while True: pass", timeout_seconds=60)
    assert result.limit is not None
    assert (result.limit.value, result.limit.setting) == (300, "EXECUTION_TIMEOUT_MS")


async def test_a_program_that_forks_and_exits_leaves_nothing_running(
    open_bench: OpenBench, isolation: str, tmp_path: Path
):
    async with open_bench(isolation=isolation, output_path=tmp_path / "out") as bench:
        (tmp_path / "out").mkdir()
        result = await bench.run_program("leaves_grandchildren.py")
        await assert_silent(tmp_path / "out" / "alive")
    assert (result.status, result.stdout) == (Status.OK, "leaving\n")


async def test_memory_is_bounded_over_the_whole_tree(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation, limits=Limits(memory_bytes=256 * MEBIBYTE)) as bench:
        result = await bench.run_program("takes_memory_by_many.py")
    assert result.status is Status.MEMORY_EXCEEDED
    assert result.limit is not None
    assert (result.limit.name, result.limit.value, result.limit.setting) == ("memory", 256, "MAX_MEMORY_MB")


async def test_a_map_that_is_never_touched_costs_no_memory(open_bench: OpenBench):
    async with open_bench(limits=Limits(memory_bytes=64 * MEBIBYTE)) as bench:
        result = await bench.run("import mmap, time\nm = mmap.mmap(-1, 1 << 30)\ntime.sleep(0.2)\nlen(m)")
    assert result.result == str(1 << 30)


async def test_output_is_cut_in_the_middle_and_kept_whole(open_bench: OpenBench):
    async with open_bench(limits=Limits(inline_output_bytes=1000)) as bench:
        result = await bench.run("for number in range(1000): print(number)")
        whole = bench.runner.records.page(result.execution_id, "stdout").data.decode()
        assert whole == "".join(f"{number}\n" for number in range(1000))
    assert result.stdout_truncated
    assert not result.stderr_truncated
    assert result.stdout.startswith("0\n1\n")
    assert result.stdout.endswith("998\n999\n")
    assert "bytes left out" in result.stdout


async def test_a_flood_of_output_ends_the_run_and_is_told_by_name(open_bench: OpenBench):
    async with open_bench(limits=Limits(kept_output_bytes=MEBIBYTE)) as bench:
        result = await bench.run_program("floods.py")
        assert bench.runner.records.page(result.execution_id, "stdout").total == MEBIBYTE
    assert result.status is Status.KILLED
    assert result.limit is not None
    assert (result.limit.name, result.limit.value) == ("output", MEBIBYTE)


async def test_output_is_heard_while_the_program_runs(open_bench: OpenBench):
    heard: list[tuple[str, str]] = []
    arrived = anyio.Event()

    def listen(stream: str, text: str) -> None:
        heard.append((stream, text))
        arrived.set()

    async with open_bench() as bench, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.run("print('é')\nimport time\ntime.sleep(60)", listener=listen))
        with anyio.fail_after(10):
            await arrived.wait()
        tasks.cancel_scope.cancel()
    assert heard == [("stdout", "é\n")]


async def test_a_cancelled_run_is_gone_at_once(open_bench: OpenBench, isolation: str, tmp_path: Path):
    (tmp_path / "out").mkdir()
    started = anyio.Event()

    def hear(_: str, __: str) -> None:
        started.set()

    async with open_bench(isolation=isolation, output_path=tmp_path / "out") as bench:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(bench.run_program, "beats.py", listener=hear))
            with anyio.fail_after(10):
                await started.wait()
            tasks.cancel_scope.cancel()
        await assert_silent(tmp_path / "out" / "alive")
        assert (bench.runner.running, bench.runner.queued) == (0, 0)
        assert bench.runner.metrics.totals[Status.CANCELLED] == 1
        assert (await bench.run("1")).result == "1"


async def assert_silent(path: Path) -> None:
    """Whoever touched `path` every few milliseconds is gone: ten of its beats pass without one."""
    file = anyio.Path(path)
    last = (await file.stat()).st_mtime_ns
    await anyio.sleep(0.1)
    assert (await file.stat()).st_mtime_ns == last


async def test_a_run_killed_by_a_signal_names_it(open_bench: OpenBench, isolation: str):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run("import os, signal\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert (result.status, result.signal, result.exit_code) == (Status.KILLED, "SIGSEGV", None)
    assert result.stdout == "x\n"


async def test_executions_beyond_the_bound_wait_their_turn(open_bench: OpenBench):
    order: list[int] = []

    heard: list[list[str]] = [[] for _ in range(5)]

    async def one(number: int) -> None:
        result = await bench.run(
            "import time\ntime.sleep(0.05)", listener=lambda stream, text: heard[number].append(f"{stream}: {text}")
        )
        assert result.status is Status.OK
        order.append(number)

    async with open_bench(limits=Limits(concurrent=1)) as bench, anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(one, number)
            await anyio.lowlevel.checkpoint()
    assert order == [0, 1, 2, 3, 4]
    for number in range(5):
        places = [f"queue: 1 executions are running and {before} wait before this one\n" for before in range(number)]
        assert heard[number] == places[::-1]


async def until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` has come true, which must be within a minute."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await anyio.sleep(0.01)


async def test_a_queue_that_is_full_refuses(open_bench: OpenBench):
    async with open_bench(limits=Limits(concurrent=1, queued=1)) as bench, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(lambda: bench.run("import time\ntime.sleep(60)"))
        await until(lambda: bench.runner.queued == 1)
        with pytest.raises(Busy, match="1 executions wait already"):
            await bench.run("1")
        tasks.cancel_scope.cancel()


async def test_a_zygote_that_is_killed_costs_only_its_runs(open_bench: OpenBench, isolation: str):
    def kill_zygotes(_: str, __: str) -> None:
        for child in psutil.Process().children():
            child.kill()

    async with open_bench(isolation=isolation) as bench:
        with anyio.fail_after(10), pytest.raises(EngineError, match="run it again"):
            await bench.run("print(1)\nwhile True: pass", listener=kill_zygotes)
        assert (await bench.run("1")).result == "1"


async def test_a_forged_report_changes_nothing_but_the_forgers_own_result(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run_program("forges_a_report.py")
        after = await bench.run("2")
    assert (result.status, result.stdout) == (Status.OK, "went on\n")
    assert result.pictures == []
    assert after.result == "2"


async def test_files_that_a_program_wrote_come_back(open_bench: OpenBench, isolation: str):
    code = """
import os
os.makedirs("deep/er"); open("deep/er/data.csv", "w").write("a,b")
open(os.path.join(os.environ["OUTPUT_PATH"], "plot é.png"), "wb").write(b"png")
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
        by_name = {file.path.name: file for file in result.files}
        content = bench.runner.records.page(result.execution_id, "work/deep/er/data.csv").data
    assert content == b"a,b"
    assert (by_name["data.csv"].size, by_name["data.csv"].mime_type) == (3, "text/csv")
    assert by_name["plot é.png"].uri == f"execution://{result.execution_id}/files/output/plot%20%C3%A9.png"


async def test_of_what_a_run_left_only_what_is_listed_stays_on_the_disk(open_bench: OpenBench, isolation: str):
    code = """
import os, tempfile
places = ["__pycache__", "a/" * 20, tempfile.gettempdir(), os.environ["HOME"], os.environ["OUTPUT_PATH"]]
for place in places:
    os.makedirs(place, exist_ok=True)
    with open(f"{place}/large", "wb") as file: file.write(b"x" * (1 << 20))
for number in range(300):
    with open(f"small-{number:03}", "wb") as file: file.write(b"x")
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
        directory = result.files[0].path.parent.parent
        listed = {file.path for file in result.files}
        assert len(listed) == 200
        await until(lambda: {Path(path) / name for path, _, names in os.walk(directory) for name in names} == listed)
        assert bench.runner.records.page(result.execution_id, "work/small-100").data == b"x"


async def test_what_is_written_under_a_shared_output_path_is_on_the_host(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "shared"
    output.mkdir()
    (output / "old.txt").write_text("old")
    await anyio.sleep(0.05)  # past the tick of the clock that stamps files
    async with open_bench(output_path=output) as bench:
        result = await bench.run("import os\nopen(os.path.join(os.environ['OUTPUT_PATH'], 'new.txt'), 'w').write('x')")
    assert (output / "new.txt").read_text() == "x"
    assert [file.path for file in result.files] == [output / "new.txt"]


async def test_a_missing_module_names_the_call_that_installs_it(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run("import cv2")
    assert result.error is not None
    assert (
        result.error.hint == "install it with install_packages(packages=['opencv-python-headless'], venvName='default')"
    )


async def test_a_program_finds_the_flags_of_any_interpreter(
    open_bench: OpenBench, interpreter: Interpreter, isolation: str
):
    plain = await anyio.run_process([interpreter.python, "-c", "import sys\nprint(sys.flags)"], env={"LANG": "C.UTF-8"})
    async with open_bench(isolation=isolation) as bench:
        assert (await bench.run("import sys\nprint(sys.flags)")).stdout == plain.stdout.decode()


async def test_a_script_runs_in_its_own_folder_which_it_can_read_and_not_write(open_bench: OpenBench, tmp_path: Path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper.py").write_text("value = 41")
    (folder / "data.txt").write_text("one")
    script = folder / "script.py"
    script.write_text(
        "import helper\nprint(helper.value + len(open('data.txt').read()) - 2, __name__)\nopen('new', 'w')"
    )
    async with open_bench(script=script) as bench:
        result = await bench.run("", script=script)
    assert result.stdout == "42 __main__\n"
    assert result.error is not None
    assert result.error.type in ("OSError", "PermissionError")
    assert sorted(path.name for path in folder.iterdir()) == ["data.txt", "helper.py", "script.py"]


async def test_open_figures_come_as_pictures_and_a_warm_run_draws_the_same(
    open_bench: OpenBench, plotting_interpreter: Interpreter
):
    code = """
import matplotlib.pyplot as plt, numpy as np, pandas as pd
plt.plot(np.arange(3)); plt.figure(); plt.plot([3, 1])
pd.DataFrame({"a": [1, 2]})["a"].sum()
"""
    async with open_bench(within=plotting_interpreter, limits=Limits(wall_seconds=60)) as bench:
        cold = await bench.run(code)
        await until(lambda: "pandas" in bench.zygotes.warmed(bench.surroundings))
        warm = await bench.run(code)
        draws = [(await bench.run("import numpy as np\nnp.random.rand()")).result for _ in range(2)]
    assert (cold.status, warm.status) == (Status.OK, Status.OK), (cold, warm)
    assert [picture.data for picture in cold.pictures] == [picture.data for picture in warm.pictures]
    assert len(cold.pictures) == 2
    assert cold.stderr == warm.stderr
    assert warm.result == "np.int64(3)"
    assert draws[0] != draws[1]


async def test_an_interpreter_that_nobody_asks_for_goes_and_comes_back_warm(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zygotes, "_LOOK_SECONDS", 0.05)
    async with open_bench() as bench:
        await bench.run("import colorsys")
        await until(lambda: "colorsys" in bench.zygotes.warmed(bench.surroundings))
        monkeypatch.setattr(zygotes, "_IDLE_SECONDS", 0.2)
        await until(lambda: not bench.zygotes.warmed(bench.surroundings))
        monkeypatch.undo()
        again = await bench.run("import sys; 'colorsys' in sys.modules")
    assert again.result == "True"


async def test_the_interpreter_used_longest_ago_makes_room(open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zygotes, "_MOST_ZYGOTES", 2)
    async with open_bench() as bench:
        usual = bench.surroundings
        for generation in ("a", "b", "a", "c"):
            bench.surroundings = replace(usual, interpreter=replace(usual.interpreter, generation=generation))
            await bench.run(f"import colorsys  # {generation}")
            await until(lambda: "colorsys" in bench.zygotes.warmed(bench.surroundings))
        kept = {
            generation
            for generation in ("a", "b", "c")
            if bench.zygotes.warmed(replace(usual, interpreter=replace(usual.interpreter, generation=generation)))
        }
        await until(lambda: len(list(bench.zygotes.engine.runs.iterdir())) == len(kept))
    assert kept == {"a", "c"}


async def test_a_program_that_uses_no_package_gets_a_light_interpreter(
    open_bench: OpenBench, plotting_interpreter: Interpreter
):
    looks = "import sys; 'nump' + 'y' in sys.modules"
    async with open_bench(within=plotting_interpreter) as bench:
        await bench.run("import numpy")
        await until(lambda: "numpy" in bench.zygotes.warmed(bench.surroundings))
        light = await bench.run(looks)
        heavy = await bench.run(looks + "  # numpy")
    assert (light.result, heavy.result) == ("False", "True")


@pytest.mark.parametrize(
    "code",
    [
        "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1",
        "for n in range(8): open(f'/tmp/{n}', 'wb').write(bytes(10 << 20))\nimport time; time.sleep(60)",
        "for n in range(8): open(f'/dev/shm/{n}', 'wb').write(bytes(10 << 20))\nimport time; time.sleep(60)",
        "import mmap, time\nm = mmap.mmap(-1, 1 << 38, flags=0x4022, prot=1)\nwhile True: m[::1 << 21]; time.sleep(1)",
    ],
    ids=["shared map", "tmp", "shared memory", "page tables"],
)
async def test_memory_that_no_heap_shows_counts(open_bench: OpenBench, code: str):
    async with open_bench(limits=Limits(memory_bytes=64 * MEBIBYTE)) as bench:
        result = await bench.run(code)
    assert result.status is Status.MEMORY_EXCEEDED, result


async def test_processes_are_bounded_and_told_by_name(open_bench: OpenBench, isolation: str):
    code = "import os, time\nfor _ in range(200):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)"
    async with open_bench(isolation=isolation, limits=Limits(processes=50)) as bench:
        result = await bench.run(code)
    limited = result.limit is not None and (result.limit.name, result.limit.value) == ("processes", 50)
    refused = result.error is not None and result.error.type == "BlockingIOError"  # who is not root meets the rlimit
    assert limited or refused, result


async def test_disk_is_bounded_and_told_by_name(open_bench: OpenBench):
    code = "import os, time\nos.posix_fallocate(os.open('big', os.O_CREAT | os.O_RDWR), 0, 100 << 20)\ntime.sleep(60)"
    async with open_bench(limits=Limits(disk_bytes=50 * MEBIBYTE)) as bench:
        result = await bench.run(code)
    assert result.limit is not None
    assert (result.limit.name, result.limit.value) == ("disk", 50 * MEBIBYTE)


async def test_a_package_that_takes_the_zygote_over_costs_only_its_own_runs(open_bench: OpenBench, tmp_path: Path):
    hostile = make_interpreter(tmp_path / "hostile")
    packages = next((hostile.prefix / "lib").glob("python*/site-packages"))
    (packages / "evil.py").write_text(
        "import os\nfor fd in range(3, 200):\n    try: os.write(fd, b'not json')\n    except OSError: pass"
    )
    (packages / "evil.pth").write_text("import evil")
    async with open_bench(within=hostile) as bench:
        for _ in range(2):
            assert (await bench.run("print(1)")).stdout == "1\n"


async def test_a_child_given_to_the_zygote_is_not_made(open_bench: OpenBench):
    code = """
import ctypes, os
print(ctypes.CDLL(None, use_errno=True).syscall(56, 0x8000 | 17, 0, 0, 0, 0), os.strerror(ctypes.get_errno()))
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        assert (await bench.run("1")).result == "1"
    assert result.stdout == "-1 Operation not permitted\n"


async def test_a_cold_start_that_is_cancelled_leaves_no_interpreter(open_bench: OpenBench):
    async with open_bench() as bench:
        with anyio.move_on_after(0.01):
            await bench.run("1")
        await until(lambda: not psutil.Process().children())


async def test_an_odd_error_is_a_result_as_any(open_bench: OpenBench):
    async with open_bench() as bench:
        for code, kind in (("open(b'/nope')", "FileNotFoundError"), ("import os\nos.stat(99)", "OSError")):
            result = await bench.run(code)
            assert (result.status, result.exit_code) == (Status.ERROR, 1)
            assert result.error
            assert result.error.type == kind
        surrogate = await bench.run("raise ValueError('\\ud800')")
    assert surrogate.error
    assert surrogate.error.message == "\\ud800"


async def test_a_forked_child_tells_nothing_in_its_parents_place(open_bench: OpenBench, isolation: str):
    code = """
import os
child = os.fork()
if not child:
    raise ValueError("the child's")
os.waitpid(child, 0)
"the parent's"
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert (result.status, result.exit_code, result.error, result.result) == (Status.OK, 0, None, '"the parent\'s"')
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("ValueError: the child's\n")


@pytest.mark.parametrize(("end", "status", "told"), [("", 0, ""), ("1 / 0", 1, "division by zero\n")])
async def test_a_program_that_closes_every_descriptor_ends_as_it_would(
    open_bench: OpenBench, isolation: str, end: str, status: int, told: str
):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(f"import os\nos.closerange(3, 256)\nother = os.dup(1), os.dup(2)\n{end}")
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.endswith(told)


async def test_a_million_short_writes_arrive_whole_and_are_heard(open_bench: OpenBench):
    heard: list[str] = []
    async with open_bench(limits=Limits(wall_seconds=120)) as bench:
        result = await bench.run(
            "import os\nfor _ in range(1_000_000): os.write(1, b'ab\\n')", listener=lambda _, text: heard.append(text)
        )
        page = bench.runner.records.page(result.execution_id, "stdout", limit=4 * MEBIBYTE)
    assert page.data == "".join(heard).encode() == b"ab\n" * 1_000_000


async def test_what_is_no_text_is_told_as_text_and_kept_as_it_is(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run("import os\nos.write(1, b'\\xff\\0\\x1b[31mred\\x1b[0m\\r\\nok\\n')\nprint('\\udcff')")
        page = bench.runner.records.page(result.execution_id, "stdout")
    assert result.stdout == "\ufffd\0red\nok\n\ufffd\n"
    assert page.data == b"\xff\0\x1b[31mred\x1b[0m\r\nok\n\xff\n"


async def test_interpreters_are_started_from_the_main_thread_alone(open_bench: OpenBench):
    async def start() -> None:
        async with open_bench(isolation="none") as bench:
            with pytest.raises(EngineError, match="from the main thread alone"):
                await bench.run("1")

    # What bubblewrap is told to end with is the thread that starts it: any other may end before the server does.
    await anyio.to_thread.run_sync(anyio.run, start)


async def test_a_disk_that_never_answers_keeps_few_threads(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[str] = []
    answer = threading.Event()

    def never_answer(told: ReportedError) -> str:
        asked.append(told.filename or "")
        answer.wait()
        return ""

    monkeypatch.setattr(hints, "of_hidden_path", never_answer)
    monkeypatch.setattr(runner, "_LOOK_FOR_FILE_SECONDS", 0.05)
    async with open_bench() as bench:
        try:
            for _ in range(4):
                result = await bench.run(f"open({str(tmp_path / 'hidden')!r})")
                assert result.error
                assert result.error.hint == ""
        finally:
            answer.set()
    assert asked == [str(tmp_path / "hidden")] * 2


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_of_a_run_whose_files_are_not_found_nothing_is_left(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, how: str
):
    looked: list[Path] = []
    call = anyio.CancelScope()

    def find(_: object, directory: Path, *__: object) -> Found:
        looked.append(directory)
        if how == "fails":
            raise OSError(errno.EIO, "broken")
        anyio.from_thread.run_sync(call.cancel)
        return Found()

    async with open_bench() as bench:
        monkeypatch.setattr(artifacts, "find", find)
        with call, suppress(OSError):
            await bench.run("open('file', 'w').write('x')")
            pytest.fail("it gave a result")
        assert (looked[0] / "work" / "file").exists()
        await until(lambda: not looked[0].exists())
        assert bench.runner.metrics.totals[Status.CANCELLED] == (how == "is cancelled")
