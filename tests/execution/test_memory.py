"""The bound on memory, at real limits: what is charged to a program, and what is not."""

import anyio
import pytest

from mcp_python_executor.execution.model import ExecutionResult, Interpreter, Status
from mcp_python_executor.limits import MEBIBYTE, Limits
from tests.bench import Bench, OpenBench

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# The least that MAX_MEMORY_MB takes.
LEAST = Limits(memory_bytes=16 * MEBIBYTE)
# Long enough for the watch to look, which it does every 50 ms.
LOOKED_AT = "\nimport time\ntime.sleep(0.3)\n"


def is_told(result: ExecutionResult, megabytes: int = 512) -> bool:
    """Whether `result` says that memory of so much was exceeded, and how to raise it."""
    hit = result.limit
    return (
        result.status is Status.MEMORY_EXCEEDED
        and hit is not None
        and (hit.name, hit.value, hit.setting) == ("memory", megabytes, "MAX_MEMORY_MB")
    )


async def warm(bench: Bench, module: str) -> None:
    """Returns when `bench` has an interpreter that imported `module` ahead, as after a program that did."""
    bench.zygotes.learn(bench.surroundings, [module])
    with anyio.fail_after(60):
        while module not in bench.zygotes.warmed(bench.surroundings):  # noqa: ASYNC110 - it has no event of its own
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("block = b'x' * (700 << 20)", id="heap"),
        pytest.param(
            "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1", id="shared"
        ),
        pytest.param(
            """
import os, time
for _ in range(10):
    if os.fork() == 0:
        block = b"x" * (64 << 20)
        time.sleep(60)
""",
            id="many processes",
        ),
        pytest.param(
            "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'block = bytes(1) * (700 << 20)'])",
            id="another program",
        ),
        pytest.param(
            """
import os, shutil, sys
with open(os.open("hidden", os.O_CREAT | os.O_WRONLY, 0o111), "wb") as file, open(sys.executable, "rb") as own:
    shutil.copyfileobj(own, file)
os.environ["PYTHONHOME"] = sys.base_prefix
os.execv("hidden", ["python", "-c", "import time\\nblock = b'x' * (700 << 20)\\ntime.sleep(60)"])
""",
            id="a program that nobody may read",
        ),
    ],
)
async def test_memory_past_the_limit_ends_the_run_whoever_of_it_holds_it(
    open_bench: OpenBench, isolation: str, code: str
):
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code + "\nimport time\ntime.sleep(60)")
    assert is_told(result), result
    assert result.peak_memory_bytes > 512 * MEBIBYTE


async def test_files_in_temporary_directories_are_memory(open_bench: OpenBench):
    code = """
import time
for place in ("/tmp", "/var/tmp", "/dev/shm"):
    with open(f"{place}/block", "wb") as file:
        for _ in range(80): file.write(bytes(1 << 20))
block = b"x" * (300 << 20)
time.sleep(60)
"""
    async with open_bench() as bench:
        result = await bench.run(code)
    assert is_told(result), result


async def test_what_forks_have_in_common_counts_once(open_bench: OpenBench, isolation: str):
    code = """
import os, time
block = b"x" * (200 << 20)
for _ in range(6):
    if os.fork() == 0:
        time.sleep(60)
time.sleep(0.5)
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert result.status is Status.OK, result


async def test_a_map_of_a_gigabyte_that_is_never_touched_costs_nothing(open_bench: OpenBench, isolation: str):
    code = "import mmap\nm = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)" + LOOKED_AT + "len(m)"
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert result.result == str(1 << 30), result


async def test_numpy_with_64_threads_works_at_the_default_limit(
    open_bench: OpenBench, plotting_interpreter: Interpreter, isolation: str
):
    code = """
import ctypes, os
os.environ["OPENBLAS_NUM_THREADS"] = "64"  # as many as there are cores, at most
import numpy as np
library = next(line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line)
ctypes.CDLL(library).scipy_openblas_set_num_threads64_(64)
a = np.ones((500, 500))
total = (a @ a).sum()
"""
    async with open_bench(isolation=isolation, within=plotting_interpreter) as bench:
        result = await bench.run(code + LOOKED_AT + "(float(total), len(os.listdir('/proc/self/task')))")
    assert result.result == "(125000000.0, 64)", result


@pytest.mark.parametrize("isolation", ["strict", "none"])  # behind Landlock alone each worker imports for itself
async def test_what_its_interpreter_imported_ahead_is_not_charged(
    open_bench: OpenBench, plotting_interpreter: Interpreter, isolation: str
):
    async with open_bench(isolation=isolation, within=plotting_interpreter, limits=LEAST) as bench:
        await warm(bench, "pandas")
        nothing = await bench.run("# pandas\nprint(1)" + LOOKED_AT)
        little = await bench.run("import pandas\nprint(pandas.Series([1, 2]).sum())" + LOOKED_AT)
        much = await bench.run("# pandas\nblock = b'x' * (16 << 20)" + LOOKED_AT)
    assert (nothing.status, nothing.stdout) == (Status.OK, "1\n"), nothing
    assert (little.status, little.stdout) == (Status.OK, "3\n"), little
    assert is_told(much, 16), much


async def test_an_allocation_that_can_not_be_is_a_memory_error_of_the_programs_own(
    open_bench: OpenBench, isolation: str
):
    code = """
try:
    bytearray(10**13)
except MemoryError:
    print("went on")
bytearray(10**13)
"""
    async with open_bench(isolation=isolation) as bench:
        result = await bench.run(code)
    assert (result.status, result.stdout) == (Status.ERROR, "went on\n")
    assert result.error is not None
    assert (result.error.type, result.error.line) == ("MemoryError", 6)
    assert result.limit == Limits().hit("memory")
