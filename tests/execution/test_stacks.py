from pathlib import Path

import pytest

from mcp_python_executor.execution import stacks
from mcp_python_executor.execution.model import Status
from mcp_python_executor.limits import Limits
from tests.bench import OpenBench

PROGRAM = Path("/runs/1/work/main.py")


def dump(*frames: tuple[str, int, str]) -> str:
    """As faulthandler writes it: the latest call first."""
    return stacks.START.decode() + "".join(f'  File "{name}", line {line} in {what}\n' for name, line, what in frames)


def test_a_stack_reads_like_a_traceback_without_frames_of_libraries():
    text = dump(
        ("/env/lib/requests/api.py", 5, "get"),
        (str(PROGRAM), 2, "load"),
        (str(PROGRAM), 4, "<module>"),
        (str(stacks.INSIDE / "program.py"), 40, "run"),
        ("<frozen runpy>", 1, "_run"),
    )
    error = stacks.as_error(text, PROGRAM, ["def load():", "    get()", "", "load()"], [Path("/env")])
    assert error
    assert (error.type, error.message, error.line) == ("Timeout", "stopped in load", 2)
    assert error.traceback == (
        "Stack where it was stopped (most recent call last):\n"
        f'  File "{PROGRAM}", line 4, in <module>\n    load()\n'
        f'  File "{PROGRAM}", line 2, in load\n    get()\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        f'  File "{PROGRAM}", line {"9" * 5000} in f',
        dump(("/env/x.py", 1, "f")),
        dump((str(stacks.INSIDE / "x"), 1, "f")),
    ],
)
def test_a_stack_without_frames_of_the_users_tells_nothing(text: str):
    assert stacks.as_error(text, PROGRAM, [], [Path("/env")]) is None


def test_tasks_that_wait_are_told_after_the_thread():
    text = dump(("/usr/lib/selectors.py", 9, "select"), (str(PROGRAM), 4, "<module>"))
    text += "Task 'Task-1' (most recent call first):\n"
    text += f'  File "/usr/lib/t.py", line 1 in sleep\n  File "{PROGRAM}", line 2 in f\n'
    error = stacks.as_error(text, PROGRAM, ["async def f():", "    await s()", "", "run(f())"], [Path("/usr/lib")])
    assert error
    assert (error.message, error.line) == ("stopped in f", 2)
    assert error.traceback.splitlines()[2:] == [
        "    run(f())",
        "Task 'Task-1' where it waited (most recent call last):",
        f'  File "{PROGRAM}", line 2, in f',
        "    await s()",
    ]


def test_a_task_at_work_is_where_the_program_is():
    text = dump((str(PROGRAM), 3, "work"), (str(PROGRAM), 4, "<module>"))
    text += f"Task 'Task-2' (most recent call first):\n  File \"{PROGRAM}\", line 2 in tick\n"
    error = stacks.as_error(text, PROGRAM, ["async def tick():", "    await s()", "    pass", "work()"], [])
    assert error
    assert (error.message, error.line) == ("stopped in work", 3)


def test_a_line_that_the_program_has_not_has_no_source():
    error = stacks.as_error(dump((str(PROGRAM), 10**8, "f"), ("/etc/passwd", 1, "g")), PROGRAM, ["x"], [])
    assert error
    assert error.line is None
    assert "    " not in error.traceback


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize(
    "work", ["pass", "__import__('re').match('(a+)+$', 'a' * 40 + 'b')", "__import__('time').sleep(9)"]
)
async def test_a_program_that_is_stopped_tells_where_it_was(open_bench: OpenBench, isolation: str, work: str):
    code = f"def busy():\n    while True:\n        {work}\n\nbusy()"
    async with open_bench(isolation=isolation, limits=Limits(wall_seconds=0.7)) as bench:
        result = await bench.run(code)
    assert result.status is Status.TIMEOUT
    assert result.error
    assert result.error.line in (2, 3)
    assert result.error.traceback.splitlines()[-2].endswith(f"line {result.error.line}, in busy")
    assert result.error.traceback.splitlines()[2] == "    busy()"
    assert "inside" not in result.error.traceback


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("start", ["await main()", "asyncio.run(main())"])
async def test_coroutines_tell_where_they_wait(open_bench: OpenBench, isolation: str, start: str):
    code = f"""
import asyncio
async def fetch():
    await asyncio.sleep(9)
async def main():
    await asyncio.gather(fetch(), fetch())
{start}
"""
    async with open_bench(isolation=isolation, limits=Limits(wall_seconds=0.7)) as bench:
        result = await bench.run(code)
    assert result.status is Status.TIMEOUT
    assert result.error
    told = result.error.traceback
    assert told.count("in fetch\n    await asyncio.sleep(9)\n") == 2
    assert "in main\n    await asyncio.gather(fetch(), fetch())\n" in told
    assert "asyncio/" not in told


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
async def test_a_script_that_is_stopped_tells_where_it_was(open_bench: OpenBench, tmp_path: Path):
    script = tmp_path / "scripts" / "endless.py"
    script.parent.mkdir()
    script.write_text("import time\n\ntime.sleep(9)\n")
    async with open_bench(script=script, limits=Limits(wall_seconds=0.7)) as bench:
        result = await bench.run("", script=script)
    assert result.error
    assert result.error.traceback.splitlines()[1:] == [f'  File "{script}", line 3, in <module>', "    time.sleep(9)"]


@pytest.mark.anyio
@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize(
    "code",
    [
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass",
        "import os\nos.closerange(3, 99)\nwhile True: pass",
        "import os\nos.execvp('sleep', ['sleep', '9'])",
    ],
)
async def test_a_program_that_can_t_tell_is_stopped_all_the_same(open_bench: OpenBench, code: str):
    async with open_bench(limits=Limits(wall_seconds=0.7)) as bench:
        result = await bench.run(code)
    assert (result.status, result.error) == (Status.TIMEOUT, None)
