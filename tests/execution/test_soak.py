"""Thousands of executions of every kind through one runner: each ends as it should, and nothing of them is left.

A sample by default; all with --long.
"""

import gc
import random
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from mcp_python_executor.execution.model import ExecutionResult, Status
from mcp_python_executor.limits import MEBIBYTE, Limits
from tests.bench import PROGRAMS, Bench, OpenBench
from tests.conftest import SEED, open_descriptors

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

LIMITS = Limits(
    memory_bytes=128 * MEBIBYTE,
    kept_output_bytes=MEBIBYTE,
    processes=100,  # forks_past_the_bound.py goes beyond
    concurrent=5,
)
# More than run at once: some are cancelled while they wait for their turn.
CALLERS = 7
EXECUTIONS = 2000
# So many ended runs can be asked about; those of them that left something to be asked for keep it on the disk.
KEPT = 100
# What an allocator holds back differs from time to time by some megabytes; a kilobyte for each run is a leak.
MOST_GROWTH = 30 * MEBIBYTE


@dataclass(frozen=True)
class Kind:
    """A kind of program with what must come of it; `weight` is how often it comes.

    NUMBER in `code`, `stdout` and `value` is the execution's own. `stdout` None may be anything. The caller of one that
    is to be CANCELLED takes it back `after` so many seconds, or at its first output. Of those that are to be `alone`
    one runs at a time, beside others.
    """

    name: str
    code: str
    ends: Status
    weight: int
    stdout: str | None = None
    value: str | None = None
    files: int = 0
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    after: float | None = None
    alone: bool = False


def program(name: str) -> str:
    return (PROGRAMS / name).read_text()


SHORT = {"timeout_seconds": 0.3}
FILES = """
import os
for name in ("a.csv", "deep/b.txt", os.environ["OUTPUT_PATH"] + "/c.bin"):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    open(name, "wb").write(os.urandom(10_000))
print(NUMBER)
"""
THREADS = """
import threading, time
for n in range(8): threading.Thread(target=time.sleep, args=(0.01,)).start()
print(NUMBER)
"""

KINDS = [
    Kind("prints", "print(NUMBER)\nNUMBER", Status.OK, 30, "NUMBER\n", "NUMBER"),
    Kind("reads", "print(len(input()))", Status.OK, 6, "300000\n", request={"stdin": b"x" * 300_000}),
    Kind("never reads", "print(NUMBER)", Status.OK, 4, "NUMBER\n", request={"stdin": b"x" * 300_000}),
    Kind("fails", "print(NUMBER)\n1 / 0", Status.ERROR, 15, "NUMBER\n"),
    Kind("cannot be compiled", "print(NUMBER", Status.ERROR, 4, ""),
    Kind("exits", "import sys\nprint(NUMBER)\nsys.exit(3)", Status.ERROR, 4, "NUMBER\n"),
    Kind("crashes", "import os\nprint(NUMBER)\nos.kill(os.getpid(), 11)", Status.KILLED, 4, "NUMBER\n"),
    Kind("threads", THREADS, Status.OK, 4, "NUMBER\n"),
    Kind("writes files", FILES, Status.OK, 15, "NUMBER\n", files=3),
    Kind("prints much", "print('x' * 200_000)", Status.OK, 8),
    Kind("floods", program("floods.py"), Status.KILLED, 6),
    Kind("never ends", program("ignores_everything.py"), Status.TIMEOUT, 4, request=SHORT),
    Kind("stops itself", "import os\nos.kill(os.getpid(), 19)", Status.TIMEOUT, 2, request=SHORT),
    Kind("leaves children", program("leaves_grandchildren.py"), Status.OK, 8, "leaving\n", files=1),
    Kind("runs away", program("runs_away.py"), Status.OK, 4, "away\n"),
    # The kernel counts the processes of all runs together: two of these would take them from the others.
    Kind("forks past the bound", program("forks_past_the_bound.py"), Status.KILLED, 2, alone=True),
    Kind("takes memory", "held = bytearray(256 << 20)\nwhile True: pass", Status.MEMORY_EXCEEDED, 3),
    Kind("takes memory by many", program("takes_memory_by_many.py"), Status.MEMORY_EXCEEDED, 2),
    Kind("forges", program("forges_a_report.py"), Status.OK, 6, "went on\n"),
    Kind("forges and runs on", program("forges_and_runs_on.py"), Status.TIMEOUT, 2, request=SHORT),
    Kind("closes everything", program("closes_everything.py"), Status.OK, 4, ""),
    Kind("hard to remove", program("leaves_what_is_hard_to_remove.py"), Status.OK, 4, "left\n"),
    Kind("taken back at once", "print(NUMBER)", Status.CANCELLED, 4, after=0),
    Kind("taken back soon", "while True: pass", Status.CANCELLED, 4, after=0.003),
    Kind("taken back late", "while True: pass", Status.CANCELLED, 4, after=0.05),
    Kind("taken back at its output", program("beats.py"), Status.CANCELLED, 6),
    Kind("taken back with children", program("leaves_grandchildren.py") + "\ntime.sleep(60)", Status.CANCELLED, 4),
]
CASES = list(
    enumerate(
        random.Random(SEED).choices(KINDS, [kind.weight for kind in KINDS], k=EXECUTIONS)  # noqa: S311 - nothing secret
    )
)


class Soak:
    """Runs cases on one bench and remembers which executions left something that is kept."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kept: deque[str] = deque(maxlen=KEPT)
        self.left: set[str] = set()
        self._alone = anyio.Lock()

    async def run(self, cases: Sequence[tuple[int, Kind]]) -> None:
        """Runs `cases` to their ends, so many at once, and checks each."""
        waiting = iter(cases)

        async def call() -> None:
            for number, kind in waiting:
                async with self._alone if kind.alone else nullcontext():
                    await self._one(number, kind)

        async with anyio.create_task_group() as tasks:
            for _ in range(CALLERS):
                tasks.start_soon(call)

    async def _one(self, number: int, kind: Kind) -> None:
        code = kind.code.replace("NUMBER", str(number))
        with anyio.fail_after(120), anyio.CancelScope() as call:
            if kind.after is not None:
                call.deadline = anyio.current_time() + kind.after
            heard = partial(self._take_back, call) if kind.ends is Status.CANCELLED and kind.after is None else None
            result = await self.bench.run(code, listener=heard, **kind.request)
            self.kept.append(result.execution_id)
            if result.files or result.stdout_truncated or result.stderr_truncated:
                self.left.add(result.execution_id)
            self._check(number, kind, result)
            return
        assert kind.ends is Status.CANCELLED, f"{number}, {kind.name}"

    @staticmethod
    def _take_back(call: anyio.CancelScope, _stream: str, _text: str) -> None:
        call.cancel()

    @staticmethod
    def _check(number: int, kind: Kind, result: ExecutionResult) -> None:
        what = f"{number}, {kind.name}: {result}"
        assert result.status is kind.ends, what
        if kind.stdout is not None:
            assert result.stdout == kind.stdout.replace("NUMBER", str(number)), what
        if kind.ends is Status.OK:
            assert result.result == (kind.value and kind.value.replace("NUMBER", str(number))), what
            assert len(result.files) == kind.files, what


@dataclass(frozen=True)
class State:
    """What there is of a server and below it, numbers that differ from time to time left out."""

    descriptors: Counter[str]
    processes: Counter[str]
    threads: Counter[str]
    entries: int

    @classmethod
    def of(cls, runs: Path, kept: Sequence[str]) -> "State":
        """Now, without what `kept` executions left."""
        names = [path.name.split(".")[0] for path in (*runs.glob("*"), *runs.glob("*/*"))]
        return cls(
            Counter(re.sub(r"\d+", "N", what) for what in open_descriptors().values()),
            Counter(map(_described, psutil.Process().children(recursive=True))),
            # Those that wait for work end when the next work comes, at the earliest after ten seconds.
            Counter(
                re.sub(r"\d+", "N", thread.name)
                for thread in threading.enumerate()
                if "AnyIO worker" not in thread.name
            ),
            sum(name not in kept for name in names),
        )


def _described(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        name, status = process.name(), process.status()
        with suppress(psutil.AccessDenied):  # behind walls that an ordinary user cannot look over
            return f"{name} with {process.num_fds()} descriptors"
        return name if status != psutil.STATUS_ZOMBIE else f"{name}, not waited for"
    return "gone"


async def state(runs: Path, kept: Sequence[str], expected: State | None = None) -> State:
    """The state once it is as `expected`, or else as it has stayed."""
    found = State.of(runs, kept)
    with anyio.move_on_after(60):
        while found != expected:
            await anyio.sleep(0.1)
            before, found = found, State.of(runs, kept)
            if expected is None and found == before:
                break
    return found


def memory() -> tuple[int, int]:
    """Bytes that the server holds, and all below it."""
    gc.collect()
    server = psutil.Process()
    return server.memory_info().rss, sum(process.memory_info().rss for process in server.children(recursive=True))


async def test_of_many_executions_each_ends_as_it_should_and_nothing_is_left(
    open_bench: OpenBench, isolation: str, sample: Callable[..., list[tuple[int, Kind]]], tmp_path: Path
):
    cases, runs = sample(CASES, 60), tmp_path / "runs"
    async with open_bench(isolation=isolation, limits=LIMITS) as bench:
        soak = Soak(bench)
        await soak.run([(-1, KINDS[0])])
        await bench.make_room()
        began = await state(runs, [])
        quarter = len(cases) // 4
        await soak.run(cases[:quarter])
        assert await state(runs, soak.kept, began) == began
        before = memory()
        await soak.run(cases[quarter:])
        assert await state(runs, soak.kept, began) == began
        grown = [now - then for now, then in zip(memory(), before, strict=True)]
        assert max(grown) < MOST_GROWTH, grown
        assert (bench.runner.running, bench.runner.queued) == (0, 0)
        assert soak.left.intersection(soak.kept) <= {path.name.split(".")[0] for path in runs.rglob("*")}


async def test_a_replaced_interpreters_directory_goes_with_the_last_of_its_executions(
    open_bench: OpenBench, isolation: str, tmp_path: Path
):
    code = "open('kept.txt', 'w').write('x')"
    async with open_bench(isolation=isolation) as bench:
        first = await bench.run(code)
        (directory,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
        bench.zygotes.learn(bench.surroundings, ["csv"])
        with anyio.fail_after(60):
            while "csv" not in bench.zygotes.warmed(bench.surroundings):  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
            while [path.name for path in directory.iterdir()] != [first.execution_id]:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
        for _ in range(KEPT):
            await bench.run(code)
        with anyio.fail_after(60):
            while directory.exists():  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
