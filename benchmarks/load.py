"""What the server bears: many calls at once, and how long its event loop keeps others waiting meanwhile."""

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import anyio

from benchmarks import programs
from benchmarks.calls import plain, running
from benchmarks.measure import Case, Mark, Row, Step, measure
from benchmarks.site import BARE, FULL, Bench, Site

WIDE = 8
_CALLS = 25 * WIDE
_PLAIN_RUNS = 50
_SLEEPS = 16


def at_once(step: Step, width: int, times: int) -> Step:
    """`step` so many times, `width` at once."""

    async def work(number: int) -> None:
        numbers = iter(range(times))

        async def caller() -> None:
            for _ in numbers:
                await step(number)

        async with anyio.create_task_group() as tasks:
            for _ in range(width):
                tasks.start_soon(caller)

    return work


def _rounds(site: Site) -> int:
    """Of seconds each."""
    return max(1, site.rounds // 5)


async def sustained(site: Site, *, code: str, venv: str, mark: float) -> Row:
    """A program's rate with as many callers as keep both cores busy, against a loop of the smallest plain process."""
    async with site.measured(venv) as bench:
        await site.warm(bench, code, venv)
        work = at_once(running(bench, code, venv), WIDE, _CALLS)
        floor = plain(site, programs.PRINT, venv, _PLAIN_RUNS)
        floor_is = '`python -I -c "print(1)"` in a loop'
        case = Case(work, floor, floor_is, _rounds(site), 1, Mark(mark, at_least=True), _CALLS, _PLAIN_RUNS, rate=True)
        return await measure(case)


async def sleeps(site: Site) -> Row:
    """As many programs at once as may run, all of which wait, against one of them."""
    async with site.measured(MAX_CONCURRENT_EXECUTIONS=str(_SLEEPS)) as bench:
        one = running(bench, programs.SLEEP, BARE)
        case = Case(at_once(one, _SLEEPS, _SLEEPS), one, "one of them", _rounds(site), 1, Mark(1.4), rest=0.5)
        return await measure(case)


async def stall(site: Site) -> Row:
    """The longest that the server's event loop was late under load, against an idle loop beside it at that time."""
    ours, idle = site.directory / "ours.late", site.directory / "idle.late"
    for file in (ours, idle):
        file.write_text("")
    command = [sys.executable, "-m", "benchmarks.watchdog", str(idle)]
    async with (
        await anyio.open_process(command, stdin=None) as process,
        site.server("benchmarks.watchdog", str(ours), "serve") as bench,
    ):
        try:
            return await _stall(site, bench, ours, idle)
        finally:
            process.terminate()


async def _stall(site: Site, bench: Bench, ours: Path, idle: Path) -> Row:
    load = at_once(running(bench, programs.PRINT, BARE), WIDE, _CALLS)
    windows: list[tuple[float, float]] = []

    async def floor(number: int) -> float:
        began = time.monotonic()
        await load(number)
        windows.append((began, time.monotonic()))
        return longest(idle, *windows[-1])

    async def work(_: int) -> float:
        return longest(ours, *windows[-1])

    return await measure(Case(work, floor, "an idle loop beside it", _rounds(site), 2))


def longest(file: Path, began: float, ended: float) -> float:
    """Seconds of the longest delay that a watchdog noted in `file` between the two times."""
    noted = (line.split() for line in file.read_text().splitlines())
    return max((float(late) for at, late in noted if began <= float(at) <= ended), default=0.0)


async def starting(site: Site) -> Row:
    """From the start of a server to its list of tools, against the import that it can't do without."""
    async with site.server():
        pass  # its default environment is there, as when a host starts it again

    async def work(_: int) -> float:
        began = time.perf_counter()
        async with site.started() as bench:
            await bench.client.list_tools()
            return time.perf_counter() - began

    async def floor(_: int) -> None:
        site.run(sys.executable, "-c", "from mcp.server import MCPServer")

    floor_is = '`python -c "from mcp.server import MCPServer"`'
    return await measure(Case(work, floor, floor_is, _rounds(site), 1, Mark(1.1), rest=0.5))


ROWS: Mapping[str, Callable[[Site], Awaitable[Row]]] = {
    "print(1), 8 wide": partial(sustained, code=programs.PRINT, venv=BARE, mark=4),
    "import pandas, 8 wide": partial(sustained, code=programs.WITH_PANDAS, venv=FULL, mark=2.5),
    "import pyplot, 8 wide": partial(sustained, code=programs.WITH_MATPLOTLIB, venv=FULL, mark=2),
    "16 sleeps at once": sleeps,
    "longest stall, 8 wide": stall,
    "start to tools/list": starting,
}
