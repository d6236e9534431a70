"""How cost grows: with the number of environments, of calls at once, and with the size of the output.

The charts are drawn by the product, in the environment that has matplotlib already: no dependency of ours draws.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from benchmarks import programs
from benchmarks.calls import running
from benchmarks.environments import fill
from benchmarks.load import at_once
from benchmarks.measure import Spread, Step, timed
from benchmarks.site import BARE, FULL, Site

_ENVIRONMENTS = (1, 10, 50, 200)
_AT_ONCE = (1, 2, 4, 8, 16)
_OUTPUT_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_PAUSE_SECONDS = 0.02

_DRAW = """
import json, os
import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as plt
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
axes.yaxis.set_major_formatter("{x:g}")
axes.grid(alpha=0.3)
axes.legend(frameon=False)
figure.savefig(os.path.join(os.environ["OUTPUT_PATH"], chart["file"]), metadata={"Date": None})
plt.close()
"""


Point = tuple[int, Spread]


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows along the x axis, and seconds at each point of it, by the name of what takes them."""

    x: str
    series: Mapping[str, Sequence[Point]]


async def environments(site: Site) -> Curve:
    """Of a call, as there are more environments of a hundred packages each."""
    listing, printing = list[Point](), list[Point]()
    for count in _ENVIRONMENTS:
        crowded = site.beside(f"crowded-{count}")
        if not crowded.venvs.exists():
            fill(crowded.venvs, count)
        async with crowded.server() as bench:

            async def listed(_: int) -> None:
                await bench.call("list_venvs")

            listing.append((count, await _spread(listed, site.rounds)))
            printing.append((count, await _spread(running(bench, programs.PRINT, BARE), site.rounds)))
    return Curve("environments", {"list_venvs": listing, "print(1)": printing})


async def concurrency(site: Site) -> Curve:
    """Of one call among so many at once, and of all of them for each."""
    latency, share = list[Point](), list[Point]()
    async with site.server(MAX_CONCURRENT_EXECUTIONS=str(max(_AT_ONCE))) as bench:
        run = running(bench, programs.PRINT, BARE)
        for width in _AT_ONCE:
            calls = list[float]()

            async def call(number: int) -> None:
                calls.append(await timed(run, number))  # noqa: B023 - called before the next list is there

            times = width * site.rounds
            began = time.perf_counter()
            await at_once(call, width, times)(0)
            latency.append((width, Spread.of(calls)))
            share.append((width, Spread.of([(time.perf_counter() - began) / times])))
    return Curve("calls at once", {"one call": latency, "time per call": share})


async def output(site: Site) -> Curve:
    """Of a program that prints so many bytes, and of the same as a plain process that is read to its end."""
    ours, plain = list[Point](), list[Point]()
    async with site.server() as bench:
        for size in _OUTPUT_BYTES:
            code = f"for _ in range({size // 100}): print('x' * 99)"

            async def process(_: int) -> None:
                site.run(site.python(BARE), "-I", "-c", code)  # noqa: B023 - called before there is another

            ours.append((size, await _spread(running(bench, code, BARE), site.rounds)))
            plain.append((size, await _spread(process, site.rounds)))
    return Curve("bytes printed", {"execute_python": ours, "python -I -c": plain})


async def _spread(step: Step, rounds: int) -> Spread:
    await step(0)
    seconds: list[float] = []
    for number in range(rounds):
        await anyio.sleep(_PAUSE_SECONDS)
        seconds.append(await timed(step, number))
    return Spread.of(seconds)


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
