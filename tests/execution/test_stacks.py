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


@pytest.mark.parametrize("text", ["", "garbage", dump(("/env/x.py", 1, "f")), dump((str(stacks.INSIDE / "x"), 1, "f"))])
def test_a_stack_without_frames_of_the_users_tells_nothing(text: str):
    assert stacks.as_error(text, PROGRAM, [], [Path("/env")]) is None


def test_a_line_that_the_program_has_not_has_no_source():
    error = stacks.as_error(dump((str(PROGRAM), 10**9, "f"), ("/etc/passwd", 1, "g")), PROGRAM, ["x"], [])
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
