"""A report is hostile input: a forger harms its own result, and nothing else."""

import json
import os
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.execution.model import ExecutionResult, Status
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.server import render
from tests.bench import OpenBench

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# Of each report what came over the channel, and a copy of its message.
_HELD_OF_A_REPORT = 2 * 32 * MEBIBYTE
_SLACK = 64 * MEBIBYTE
_PRELUDE = """
import json, os, struct, time
def send(data):
    while data:
        data = data[os.write(3, data):]
def report(**told):
    text = json.dumps(told).encode()
    send(struct.pack("!I", len(text)) + text)
"""
# What is sent on the channel, by what it is.
FORGED = {
    "no message": "send(b'garbage')",
    "half a length": "send(b'\\0\\0')",
    "half a message": "send(struct.pack('!I', 100) + b'{')",
    "an endless message": "send(struct.pack('!I', 2**32 - 1) + b'{')",
    "an empty message": "send(bytes(4))",
    "many messages": "for _ in range(50): report(result='forged')",
    "no JSON": "send(struct.pack('!I', 4) + b'oops')",
    "no object": "send(struct.pack('!I', 2) + b'[]')",
    "no text": "send(struct.pack('!I', 13) + b'{\"result\":\"\\xff\"')",
    "a lone surrogate": "send(struct.pack('!I', 19) + b'{\"result\":\"\\\\ud800\"}')",
    "deep JSON": "send(struct.pack('!I', 2_000_000) + b'[' * 1_000_000 + b']' * 1_000_000)",
    "a huge number": "send(struct.pack('!I', 100_010) + b'{\"line\": ' + b'9' * 100_000 + b'}')",
    "many keys": "report(**{str(n): n for n in range(100_000)})",
    "a failure of the walls": "report(failed='forged')",
    "a second sign of life": "report(ready=True)",
    "wrong types": "report(error=[], result={}, pictures='x', modules=1)",
    "wrong fields": "report(error={'type': 1, 'message': None, 'traceback': []})",
    "an end": "report(status=0, cpu=1e300, peak=2**63)",
    "an end that does not come": "report(status=3)",
    "another status": "report(status='killed', exitCode=9, signal='SIGKILL', files=['/etc/shadow'], stdout='forged')",
    "no pictures": "report(pictures=['AAAA', '!', '', 'x' * 1000], pictures_left_out=-1)",
    "too many pictures": "report(pictures=['iVBORw0KGgo='] * 21)",
    "too many modules": "report(modules=['os'] * 201)",
    "strange modules": "report(modules=['os.path', '../os', '', 'a' * 100_000, 'import os'])",
    "an error of none": "report(error={'type': '', 'message': '', 'traceback': '', 'line': -1, 'errno': 10**18})",
    "an error elsewhere": "report(error={'type': 'FileNotFoundError', 'message': 'm', 'traceback': 't', 'errno': 2,"
    " 'filename': '/etc/shadow' * 1000})",
    "a path of zeros": "report(error={'type': 'OSError', 'message': '', 'traceback': '', 'errno': 2,"
    " 'filename': '/\\0'})",
    "a module of none": "report(error={'type': 'ModuleNotFoundError', 'message': '', 'traceback': '', 'name': '...'})",
    "descriptors": "import socket; socket.send_fds(socket.socket(fileno=os.dup(3)), [b'\\0\\0\\0\\2{}'], [0, 1, 2])",
}


async def run(open_bench: OpenBench, code: str, **limits: float) -> ExecutionResult:
    """A forger's result; the next program of the same environment knows nothing of it."""
    async with open_bench(limits=Limits(**limits)) as bench:  # type: ignore[arg-type] - as they are
        with anyio.fail_after(30):
            result = await bench.run(_PRELUDE + code)
            assert (await bench.run("6 * 7")).result == "42"
    json.loads(render.execution(result).model_dump_json())
    return result


@pytest.mark.parametrize("what", FORGED)
async def test_a_forger_that_goes_on_changes_nothing_but_its_own_report(open_bench: OpenBench, what: str):
    result = await run(open_bench, FORGED[what] + "\nprint('went on')")
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == ("went on\n", "", 0, "")
    assert result.files == []
    assert len(result.pictures) <= 20


async def test_a_program_that_closes_the_channel_is_told_without_a_report(open_bench: OpenBench):
    result = await run(open_bench, "os.closerange(3, 256)\nprint('went on')")
    assert (result.stdout, result.stderr, result.error, result.result, result.signal) == (
        "went on\n",
        "",
        None,
        None,
        "",
    )


@pytest.mark.parametrize("what", ["half a message", "an endless message", "no message"])
async def test_a_forger_that_dies_is_told_as_it_died(open_bench: OpenBench, what: str):
    result = await run(open_bench, FORGED[what] + "\nos.kill(os.getpid(), 9)")
    assert (result.status, result.signal, result.error, result.result) == (Status.KILLED, "SIGKILL", None, None)


async def test_a_forger_that_runs_on_is_ended_in_time(open_bench: OpenBench):
    result = await run(open_bench, "report(result='forged')\nwhile True: time.sleep(1)", wall_seconds=0.5)
    assert result.status is Status.TIMEOUT


async def test_a_flood_on_the_channel_is_not_held(open_bench: OpenBench):
    before = psutil.Process().memory_info().rss
    code = """
send(struct.pack("!I", 2**32 - 1))
piece, end = bytes(1 << 20), time.monotonic() + 2
try:
    while time.monotonic() < end:
        os.write(3, piece)
except OSError as error:
    print(error)
print("went on")
"""
    result = await run(open_bench, "os.set_blocking(3, False)" + code)
    assert "went on" in result.stdout
    assert psutil.Process().memory_info().rss - before < 200 * MEBIBYTE


# Tiny items, and the field that they are sent in: parsed, each takes many times its size.
TINY = [("0", "pictures"), ("[]", "pictures"), ("[[]]", "modules"), ('{"":0}', "error"), ('"\\u00e9"', "x")]


@pytest.mark.parametrize("mebibytes", [30, 60])
async def test_five_reports_of_tiny_items_do_not_take_the_servers_memory(open_bench: OpenBench, mebibytes: int):
    code = """
item, field = json.loads(input())
items = (item + ",") * ((SIZE << 20) // (len(item) + 1))
text = f'{{"{field}": [{items}0]}}'.encode()
left, end = memoryview(struct.pack("!I", len(text)) + text), time.monotonic() + 3
os.set_blocking(3, False)
while left and time.monotonic() < end:  # past what a report may have nobody reads on
    try: left = left[os.write(3, left):]
    except BlockingIOError: time.sleep(0.01)
    except OSError: break
print("went on")
os._exit(0)
"""
    results: list[ExecutionResult] = []
    async with open_bench() as bench:

        async def forge(tiny: tuple[str, str]) -> None:
            program = _PRELUDE + code.replace("SIZE", str(mebibytes))
            results.append(await bench.run(program, stdin=json.dumps(tiny).encode() + b"\n"))

        await bench.run("1")
        before = psutil.Process().memory_info().rss
        forget_peak()
        async with anyio.create_task_group() as tasks:
            for tiny in TINY:
                tasks.start_soon(forge, tiny)
        grown = peak() - before
        assert (await bench.run("6 * 7")).result == "42"
    assert [result.stdout.splitlines()[-1:] for result in results] == [["went on"]] * 5
    assert {result.error for result in results} == {None}
    assert grown < 5 * _HELD_OF_A_REPORT + _SLACK, f"{grown / MEBIBYTE:.0f} MiB"


def forget_peak() -> None:
    """The most memory that this process had is from now on what it has: see clear_refs in proc(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory that this process had, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("field", ["result", "message", "traceback", "type", "name"])
async def test_what_a_forger_tells_at_length_is_cut(open_bench: OpenBench, field: str):
    error = {"type": "ModuleNotFoundError" if field == "name" else "PermissionError", "message": "m", "traceback": "t"}
    forged = f"told = {error!r}\ntold.update(errno=13, {field}='/tmp/' + 'x' * (8 << 20))\nreport(error=told)"
    if field == "result":
        forged = "report(result='x' * (8 << 20))"
    result = await run(open_bench, forged + "\nos._exit(1)")
    assert len(render.execution(result).model_dump_json()) < MEBIBYTE


async def test_a_forged_picture_is_bounded(open_bench: OpenBench):
    code = """
import base64
picture = base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(2 << 20)).decode()
report(pictures=[picture] * 10)
os._exit(0)
"""
    result = await run(open_bench, code)
    assert len(render.execution(result).model_dump_json()) < MEBIBYTE


# How a program goes on that told of its end, and whether it is waited for: what a child does ends with its parent.
GOES_ON = {
    "in its first thread": ("late()", True),
    "when its first thread has ended": (
        "import ctypes, threading\nthreading.Thread(target=late).start()\nctypes.CDLL(None).syscall(60, 0)",
        True,
    ),
    "in a child": ("if os.fork() == 0: late()\nos._exit(0)", False),
    "in an orphan": (
        "if os.fork() == 0:\n    if os.fork() == 0: late()\n    os._exit(0)\nos.wait()\nos._exit(0)",
        False,
    ),
}


@pytest.mark.parametrize("how", GOES_ON)
async def test_who_tells_of_an_end_and_goes_on_is_not_believed(open_bench: OpenBench, tmp_path: Path, how: str):
    code, is_waited_for = GOES_ON[how]
    late = """
def late():
    time.sleep(0.3)
    open(os.environ["OUTPUT_PATH"] + "/late", "w").close()
report(status=0)
os.closerange(0, 10)
"""
    output = tmp_path / "out"
    output.mkdir()
    async with open_bench(output_path=output) as bench:
        result = await bench.run(_PRELUDE + late + code)
        there = (output / "late").exists()
        await anyio.sleep(0.5)
    assert there is is_waited_for
    assert (output / "late").exists() is there
    assert [file.path.name for file in result.files] == ["late"] * there


async def test_what_a_forger_says_that_it_used_is_bounded(open_bench: OpenBench):
    async with open_bench() as bench:
        result = await bench.run(_PRELUDE + "report(status=0, cpu=1e300, peak=2**63)\nos._exit(0)")
    assert result.cpu_seconds <= result.duration_seconds * (os.cpu_count() or 1)
    assert result.peak_memory_bytes <= Limits().memory_bytes
