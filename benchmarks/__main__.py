"""`python -m benchmarks` prints a table: calls through a connected client against plain processes of the same work.

The floor of a program is a bare start of the environment's own interpreter (`python -I -c CODE`); the floor of an
environment is raw uv, with a cache of the same contents: `uv venv` and `uv pip install`, or `uv add` where something is
added to what is there; the floor of the walls is the same call to a second server, which runs plain processes
(ISOLATION=none). What results cost is what the same call takes more than from a third server, which has none, and a
figure that comes back is measured against a program that saves it, in the same warm interpreter.
"""

import argparse
import os
import stat
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from benchmarks.environments import Environments, fill, listing
from benchmarks.measure import Case, Figures, measure

NUMPY = """
import numpy as np
print(np.linalg.norm(np.arange(10_000.0).reshape(100, 100)))
"""
PANDAS = """
import pandas as pd
frame = pd.DataFrame({"key": [n % 7 for n in range(10_000)], "value": range(10_000)})
print(frame.groupby("key").value.mean())
"""
PLOT = """
import os
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 3, 2])
plt.savefig(os.path.join(os.environ.get("OUTPUT_PATH", "."), "plot.png"))
plt.close()
"""
FIGURE = """
import io
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(8, 6), dpi=100)
axes.plot([1, 3, 2])
"""
SAVED_FIGURE = f"{FIGURE}figure.savefig(io.BytesIO())\nplt.close()\n"
# Each with the share of its floor that it may take, where that is settled.
PROGRAMS = {
    "print(1)": ("print(1)", 0.5),
    "numpy": (NUMPY, 0.15),
    "pandas group-by": (PANDAS, None),
    "plot saved": (PLOT, None),
}
VENV = "bench"
PARTS = ("programs", "environments")

# A server forks its next worker behind an answer: until then the other one's call would be measured with it.
_REFILL_SECONDS = 0.1


class Bench:
    """A connected client and the floors that belong to it, in a directory of their own."""

    def __init__(self, client: Client, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self._python = directory / "venvs" / VENV / "bin" / "python"
        self._environment = os.environ | {"UV_CACHE_DIR": str(directory / "cache"), "OUTPUT_PATH": str(directory)}

    async def call(self, tool: str, **arguments: Any) -> None:
        """Calls a tool, which has to succeed."""
        result = await self._client.call_tool(tool, arguments)
        if result.is_error:
            raise SystemExit(f"{tool} failed: {result.content}")

    async def execute(self, code: str) -> None:
        """Runs a program by the tool."""
        await self.call("execute_python", code=code, venvName=VENV)

    async def settled(self) -> None:
        """Returns when the environment's modules are compiled, which goes on behind an install and takes the cores."""
        marker = anyio.Path(self._directory / "venvs" / VENV / "generation.json")
        with anyio.fail_after(300):
            while (await marker.stat()).st_mode & stat.S_IWUSR:  # noqa: ASYNC110 - another process seals it, last
                await anyio.sleep(0.1)

    def run(self, *command: str | Path) -> None:
        """Runs a plain process to its end."""
        subprocess.run(command, env=self._environment, cwd=self._directory, capture_output=True, check=True)

    def program(self, name: str, rounds: int) -> Case:
        """A program run by the tool, and by the environment's interpreter."""
        code, mark = PROGRAMS[name]

        async def work(_: int) -> None:
            await self.execute(code)

        async def floor(_: int) -> None:
            self.run(self._python, "-I", "-c", code)

        return Case(name, work, floor, rounds, warm_up=10, mark=mark)

    def twice(self, rounds: int) -> Case:
        """Two calls in a row: the second finds no worker that was forked ahead."""
        once = self.program("print(1)", rounds)

        async def work(number: int) -> None:
            await once.work(number)
            await once.work(number)

        async def floor(number: int) -> None:
            await once.floor(number)
            await once.floor(number)

        return Case("print(1) twice", work, floor, rounds, warm_up=10)

    def walls(self, plain: "Bench", calls: int, rounds: int) -> Case:
        """What the walls cost calls in a row: the same ones to a server that puts up none.

        The first finds a worker that was forked ahead, its walls up; each of the others waits for one.
        """
        code, _ = PROGRAMS["print(1)"]

        async def work(_: int) -> None:
            for _ in range(calls):
                await self.execute(code)

        async def floor(_: int) -> None:
            for _ in range(calls):
                await plain.execute(code)

        name = "walls" if calls == 1 else f"walls, {calls} calls"
        return Case(name, work, floor, rounds, warm_up=10, rest=_REFILL_SECONDS)

    def results(self, bare: "Bench", rounds: int) -> Case:
        """What a call takes more than one to the server `bare`, which gives no results, against a bare interpreter."""
        once, less = self.program("print(1)", rounds), bare.program("print(1)", rounds)
        return Case("results", once.work, once.floor, rounds, 10, mark=0.03, rest=_REFILL_SECONDS, without=less.work)

    def figure(self, rounds: int) -> Case:
        """A figure that is left open and comes back as a picture, against one that the program saves."""

        async def work(_: int) -> None:
            await self.execute(FIGURE)

        async def floor(_: int) -> None:
            await self.execute(SAVED_FIGURE)

        return Case("figure 800x600", work, floor, rounds, warm_up=10, mark=1.3, rest=_REFILL_SECONDS)

    def empty_call(self, rounds: int) -> Case:
        """What a call costs that does next to nothing, against a bare interpreter's start."""

        async def work(_: int) -> None:
            await self.call("list_venvs")

        async def floor(_: int) -> None:
            self.run(self._python, "-I", "-c", "pass")

        return Case("list_venvs", work, floor, rounds, warm_up=3)


async def main(parts: Sequence[str], rounds: int, installs: int) -> None:
    """Measures every case of `parts` and prints its row as it is known."""
    print(f"{'':18} {'median':>10} {'floor':>10} {'ratio':>7} {'mark':>6}")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        for part in parts:
            directory = Path(name) / part
            directory.mkdir()
            await (programs(directory, rounds) if part == "programs" else environments(directory, rounds, installs))


async def programs(directory: Path, rounds: int) -> None:
    """What executions cost."""
    async with (
        Client(server(directory)) as client,
        Client(server(directory, "--isolation", "none")) as plain_client,
        Client(server(directory, str(directory / "bare"), module="benchmarks.no_results")) as bare_client,
    ):
        bench, plain, bare = (Bench(one, directory) for one in (client, plain_client, bare_client))
        await bench.call("install_packages", packages=["numpy", "pandas", "matplotlib"], venvName=VENV)
        await bench.settled()
        first, *others = [bench.program(program, rounds) for program in PROGRAMS]
        # Before the one server learns what to import ahead, and the other does not.
        walls = (bench.walls(plain, 1, rounds), bench.walls(plain, 2, rounds))
        results = bench.results(bare, rounds)
        for case in (first, *walls, results, *others, bench.figure(rounds), bench.twice(rounds)):
            await show(case)
        await show(bench.empty_call(rounds))


async def environments(directory: Path, rounds: int, installs: int) -> None:
    """What environments cost."""
    async with Client(server(directory)) as client:
        bench = Bench(client, directory)
        await bench.call("list_packages")  # once the default environment is there
        for case in Environments(bench.call, bench.run, directory).cases(installs):
            await show(case)
    crowded = directory / "crowded"
    fill(crowded / "venvs")
    async with Client(server(crowded)) as client:
        bench = Bench(client, crowded)
        await bench.call("list_packages")
        await show(listing(bench.call, bench.run, rounds))


async def show(case: Case) -> None:
    """Measures a case and prints its row."""
    print(row(case, await measure(case)), flush=True)


def server(directory: Path, *arguments: str, module: str = "mcp_python_executor") -> StdioServerParameters:
    """A server whose environments are below `directory`, run by `module`."""
    settings = {"VENVS_BASE_PATH": str(directory / "venvs"), "LOG_LEVEL": "error"}
    return StdioServerParameters(command=sys.executable, args=["-m", module, *arguments], env=os.environ | settings)


def row(case: Case, figures: Figures) -> str:
    """The case's line of the table, times in milliseconds."""
    work, floor = (statistics.median(seconds) * 1000 for seconds in (figures.net, figures.floor))
    mark = "" if case.mark is None else f"{case.mark:6.2f} {'kept' if figures.ratio <= case.mark else 'MISSED'}"
    return f"{case.name:18} {work:7.1f} ms {floor:7.1f} ms {figures.ratio:7.3f} {mark}".rstrip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="leave out the other part")
    parser.add_argument("--rounds", type=int, default=50, help="of each program (default: 50)")
    parser.add_argument(
        "--installs", type=int, default=8, help="rounds of what makes or changes an environment (default: 8)"
    )
    options = parser.parse_args()
    anyio.run(main, [options.only] if options.only else PARTS, options.rounds, options.installs)
