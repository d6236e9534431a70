"""What a call costs that runs a program: one after the other, through a connected client."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from benchmarks import programs
from benchmarks.measure import Case, Mark, Row, Step, measure
from benchmarks.site import BARE, FULL, Bench, Site

# A host's pause between two calls; and what a server, or another one, may go on with behind an answer.
_PAUSE_SECONDS = 0.02
_REFILL_SECONDS = 0.1
_MOST_WARM_UP = 10
_IN_A_ROW = 10
_FLOOR_IS = "`python -I -c` of the same program"


def _warm_up(site: Site) -> int:
    return min(site.rounds, _MOST_WARM_UP)


def running(bench: Bench, code: str, venv: str, times: int = 1) -> Step:
    """A program run by the tool, so many times in a row."""

    async def work(_: int) -> None:
        for _ in range(times):
            await bench.execute(code, venv)

    return work


def plain(site: Site, code: str, venv: str, times: int = 1) -> Step:
    """A program run by the environment's interpreter, so many times in a row."""

    async def floor(_: int) -> None:
        for _ in range(times):
            site.run(site.python(venv), "-I", "-c", code)

    return floor


async def program(site: Site, *, code: str, venv: str, mark: float, times: int = 1) -> Row:
    """A program by the tool, against the environment's own interpreter."""
    async with site.measured(venv) as bench:
        await site.warm(bench, code, venv)
        work, floor = running(bench, code, venv, times), plain(site, code, venv, times)
        rest = _PAUSE_SECONDS if times == 1 else _REFILL_SECONDS
        rounds = site.rounds if times == 1 else max(1, site.rounds // 2)
        case = Case(work, floor, _FLOOR_IS, rounds, _warm_up(site), Mark(mark), times, times, rest=rest)
        return await measure(case)


async def walls(site: Site, *, times: int) -> Row:
    """What the walls cost: the same calls to a server that puts up none.

    The first finds a worker that was forked ahead, its walls up; each of the others waits for one.
    """
    async with site.server() as bench, site.server(ISOLATION="none") as other:
        work, floor = (running(one, programs.PRINT, BARE, times) for one in (bench, other))
        floor_is = "the same, `ISOLATION=none`"
        return await measure(Case(work, floor, floor_is, site.rounds, _warm_up(site), rest=_REFILL_SECONDS))


async def results(site: Site) -> Row:
    """What a call takes more than one to a server which gives no results, against a bare interpreter."""
    copy = tempfile.mkdtemp(dir=site.directory)
    async with site.server() as bench, site.server("benchmarks.no_results", copy) as other:
        work, without = (running(one, programs.PRINT, BARE) for one in (bench, other))
        floor = plain(site, programs.PRINT, BARE)
        case = Case(
            work, floor, _FLOOR_IS, site.rounds, _warm_up(site), Mark(0.03), rest=_REFILL_SECONDS, without=without
        )
        return await measure(case)


async def figure(site: Site) -> Row:
    """A figure that is left open and comes back as a picture, against one that the program saves."""
    async with site.server(venv=FULL) as bench:
        await site.warm(bench, programs.FIGURE, FULL)
        work, floor = (running(bench, code, FULL) for code in (programs.FIGURE, programs.SAVED_FIGURE))
        floor_is = "a call whose program saves it"
        return await measure(Case(work, floor, floor_is, site.rounds, _warm_up(site), Mark(1.3), rest=_REFILL_SECONDS))


async def call(site: Site, *, tool: str, command: Sequence[str] = ()) -> Row:
    """A call that runs nothing, to the server that `command` names, against a bare interpreter's start."""
    async with site.server(), site.client(*command) as bench:

        async def work(_: int) -> None:
            await bench.call(tool)

        floor = plain(site, "pass", BARE)
        return await measure(Case(work, floor, "`python -I -c pass`", site.rounds, _warm_up(site), rest=_PAUSE_SECONDS))


ROWS: Mapping[str, Callable[[Site], Awaitable[Row]]] = {
    "print(1)": partial(program, code=programs.PRINT, venv=BARE, mark=0.2),
    "print(1) back to back": partial(program, code=programs.PRINT, venv=BARE, mark=0.25, times=_IN_A_ROW),
    "numpy": partial(program, code=programs.NUMPY, venv=FULL, mark=0.03),
    "pandas group-by": partial(program, code=programs.PANDAS, venv=FULL, mark=0.03),
    "plot saved": partial(program, code=programs.PLOT, venv=FULL, mark=0.14),
    "figure 800x600": figure,
    "walls": partial(walls, times=1),
    "walls, 2 calls": partial(walls, times=2),
    "results": results,
    "empty SDK call": partial(call, command=("benchmarks.empty_server",), tool="nothing"),
    "empty call on our wire": partial(call, command=("benchmarks.empty_server", "wire"), tool="nothing"),
    "list_venvs": partial(call, tool="list_venvs"),
}
