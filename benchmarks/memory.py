"""Memory of a server with all that it started, each page by its share (PSS), so that what is shared counts once."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import psutil

from benchmarks import programs
from benchmarks.calls import running
from benchmarks.load import at_once
from benchmarks.measure import Mark, Row, Spread
from benchmarks.site import BARE, Bench, Site

_MEGABYTE = 1024 * 1024
# Growth counts from this part of the executions on: by then pools, caches and the records of ended runs are full.
_FULL_AFTER = 5
_GROWTH_MARK_BYTES = 1024
_AT_ONCE = 2
# By then an idle server has forked its spare worker, and removed what ended runs left.
_IDLE_SECONDS = 2


@asynccontextmanager
async def _server(site: Site, *command: str) -> AsyncGenerator[tuple[Bench, psutil.Process]]:
    others = set(psutil.Process().children())
    async with site.client(*command) as bench:
        (process,) = set(psutil.Process().children()) - others
        yield bench, process


async def _bytes(server: psutil.Process) -> int:
    await anyio.sleep(_IDLE_SECONDS)
    return sum(process.memory_full_info().pss for process in (server, *server.children(recursive=True)))


async def idle(site: Site) -> Row:
    """An idle server and its one warm zygote, against a server of the SDK that can do nothing."""
    async with site.server():
        pass  # the environment is there
    ours, empty = list[float](), list[float]()
    for _ in range(max(1, site.rounds // 10)):
        async with _server(site) as (bench, server):
            await bench.execute(programs.PRINT)
            ours.append(await _bytes(server) / _MEGABYTE)
        async with _server(site, "benchmarks.empty_server") as (_, server):
            empty.append(await _bytes(server) / _MEGABYTE)
    ratio = [one / other for one, other in zip(ours, empty, strict=True)]
    return Row(Spread.of(ours), Spread.of(empty), Spread.of(ratio), "an SDK server with one empty tool", unit="MB")


async def growth(site: Site) -> Row:
    """What each execution leaves in memory, from a fifth of them to the last."""
    first = site.executions // _FULL_AFTER
    async with site.server():
        pass
    async with _server(site) as (bench, server):
        run = running(bench, programs.PRINT, BARE)
        await at_once(run, _AT_ONCE, first)(0)
        before = await _bytes(server)
        await at_once(run, _AT_ONCE, site.executions - first)(0)
        grown = (await _bytes(server) - before) / (site.executions - first)
    return Row(
        Spread.of([grown]),
        None,
        None,
        f"none: from execution {first} to {site.executions}",
        Mark(_GROWTH_MARK_BYTES),
        "B",
    )


ROWS: Mapping[str, Callable[[Site], Awaitable[Row]]] = {"idle server, one zygote": idle, "growth a run": growth}
