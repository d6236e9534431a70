"""How cost grows: with the number of environments, of calls at once, and with the size of the output.

The charts are drawn by the product, in the environment that has matplotlib already: no dependency of ours draws.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from benchmarks import programs
from benchmarks.calls import plain, running
from benchmarks.environments import fill
from benchmarks.load import at_once
from benchmarks.measure import Spread, Step, timed
from benchmarks.site import BARE, FULL, Bench, Site

_ENVIRONMENTS = (1, 10, 50, 200)
_AT_ONCE = (1, 2, 4, 8, 16)
_OUTPUT_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_PAUSE_SECONDS = 0.02
_IN_A_ROW = 5

_DRAW = """
import json, os
import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter
plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "chart", "font.family": "sans-serif"})
chart = json.loads(input())
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, points in chart["series"].items():
    x, spreads = zip(*points)
    y = [spread["median"] * 1000 for spread in spreads]
    below = [(spread["median"] - spread["lower"]) * 1000 for spread in spreads]
    above = [(spread["upper"] - spread["median"]) * 1000 for spread in spreads]
    axes.errorbar(x, y, (below, above), label=name, marker="o", capsize=3)
axes.set(xscale="log", yscale="log", xlabel=chart["x"], ylabel="ms, median and quartiles")
axes.set_xticks(x, [f"{value:,}" for value in x], minor=False)
axes.set_xticks([], minor=True)
axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
axes.yaxis.set_major_formatter("{x:g}")
axes.yaxis.set_minor_formatter(NullFormatter())
axes.grid(alpha=0.3)
axes.legend(frameon=False)
figure.savefig(os.path.join(os.environ["OUTPUT_PATH"], chart["file"]), metadata={"Date": None})
plt.close()
"""


Point = tuple[int, Spread]
# By the series' name and the place on the x axis.
Steps = dict[tuple[str, int], Step]


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows along the x axis, and seconds at each point of it, by the name of what takes them."""

    x: str
    series: Mapping[str, Sequence[Point]]


async def environments(site: Site) -> Curve:
    """Of a call, as there are more environments of a hundred packages each."""
    steps: Steps = {}
    async with AsyncExitStack() as servers:
        for count in _ENVIRONMENTS:
            crowded = site.beside(f"crowded-{count}")
            if not crowded.venvs.exists():
                fill(crowded.venvs, count)
            bench = await servers.enter_async_context(crowded.server())
            steps["list_venvs", count] = _listing(bench)
            steps["print(1)", count] = running(bench, programs.PRINT, BARE)
        return Curve("environments", await _alternating(steps, site.rounds))


def _listing(bench: Bench) -> Step:
    async def step(_: int) -> None:
        await bench.call("list_venvs")

    return step


async def concurrency(site: Site) -> Curve:
    """Of one call among so many at once, and of all of them for each."""
    latencies: dict[int, list[float]] = {width: [] for width in _AT_ONCE}
    async with site.server(MAX_CONCURRENT_EXECUTIONS=str(max(_AT_ONCE))) as bench:
        run = running(bench, programs.PRINT, BARE)
        steps: Steps = {("time per call", width): _burst(run, width, latencies[width]) for width in _AT_ONCE}
        series = await _alternating(steps, max(1, site.rounds // _IN_A_ROW))
    one_call = [(width, Spread.of(seconds)) for width, seconds in latencies.items()]
    return Curve("calls at once", {"one call": one_call, **series})


def _burst(run: Step, width: int, latencies: list[float]) -> Step:
    times = width * _IN_A_ROW

    async def call(number: int) -> None:
        latencies.append(await timed(run, number))

    async def step(number: int) -> float:
        return await timed(at_once(call, width, times), number) / times

    return step


async def output(site: Site) -> Curve:
    """Of a program that prints so many bytes, and of the same as a plain process that is read to its end."""
    async with site.server() as bench:
        steps: Steps = {}
        for size in _OUTPUT_BYTES:
            code = f"for _ in range({size // 100}): print('x' * 99)"
            steps["execute_python", size] = running(bench, code, BARE)
            steps["python -I -c", size] = plain(site, code, BARE)
        return Curve("bytes printed", await _alternating(steps, site.rounds))


async def _alternating(steps: Steps, rounds: int) -> dict[str, list[Point]]:
    """Each series: the steps by turns, so that a machine's drift meets all points alike."""
    seconds: dict[tuple[str, int], list[float]] = {point: [] for point in steps}
    for number in range(1 + rounds):  # the first warms up
        for point, step in steps.items():
            await anyio.sleep(_PAUSE_SECONDS)
            seconds[point].append(await timed(step, number))
    series: dict[str, list[Point]] = {name: [] for name, _ in steps}
    for (name, x), values in seconds.items():
        series[name].append((x, Spread.of(values[1:])))
    return series


CURVES: Mapping[str, Callable[[Site], Awaitable[Curve]]] = {
    "environments": environments,
    "concurrency": concurrency,
    "output": output,
}


async def draw(site: Site, folder: Path) -> dict[str, Curve]:
    """Measures each curve and draws it as NAME.svg in `folder`."""
    curves = {name: await measure(site) for name, measure in CURVES.items()}
    async with site.server(venv=FULL, OUTPUT_PATH=str(folder)) as bench:
        for name, curve in curves.items():
            told = json.dumps(asdict(curve) | {"file": f"{name}.svg"})
            await bench.call("execute_python", code=_DRAW, inputData=[told], venvName=FULL)
    return curves
