"""Where the time of one call goes: from the client through the wire, the server and the worker, and back."""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from mcp_types import TextContent

from benchmarks import programs
from benchmarks.site import BARE, FULL, Bench, Site

PROGRAMS = {
    "print(1)": (programs.PRINT, BARE),
    "numpy": (programs.NUMPY, FULL),
    "pandas": (programs.PANDAS, FULL),
    "plot": (programs.PLOT, FULL),
}
# Before the program: when it begins.
_BEGINS = "import time\nprint(time.monotonic())\n"
_PAUSE_SECONDS = 0.02
_WARM_UP = 10
# What happens between the time noted last and this one.
STAGES = {
    "read": "client: validates, serialises and writes the request; the pipe; the server's loop wakes",
    "parsed": "server: the line becomes a message",
    "called": "server: the SDK dispatches it",
    "checked": "server: arguments are checked",
    "forked": "server: the environment, its lease, a turn and a worker",
    "begun": "server: the request goes to the worker",
    "ran": "worker: wakes, reads, parses and compiles, and the program begins",
    "reported": "worker: the program runs and ends, and its report comes",
    "exited": "worker: exits, and the kernel tells that nothing of the run can execute",
    "ended": "server: the outputs are complete, what followed the run ends",
    "told": "server: its files are looked for, and the result is kept",
    "rendered": "server: the result becomes text and structured content",
    "left": "server: the SDK serialises it, and it is written",
    "answered": "the pipe; client: its loop wakes, parses and validates the answer",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of each stage, in their order, which sum to those of the whole call.

    `client` are seconds of the client's own processor time, which are part of the first and the last stage.
    """

    stages: dict[str, float]
    client: float

    def lines(self) -> list[str]:
        """A table in Markdown."""
        whole = sum(self.stages.values())
        rows = [
            f"| {STAGES[name]} | {seconds * 1000:.2f} ms | {seconds / whole:.0%} |"
            for name, seconds in self.stages.items()
        ]
        client = f"of it the client's own processor time | {self.client * 1000:.2f} ms | {self.client / whole:.0%}"
        whole_row = f"| the whole call | {whole * 1000:.2f} ms | |"
        return ["| stage | time | share |", "| --- | --: | --: |", *rows, whole_row, f"| {client} |"]


async def profile(site: Site, program: str) -> Profile:
    """The means of the middle half of the calls of one of PROGRAMS, which the median of all is in."""
    code, venv = PROGRAMS[program]
    file = Path(tempfile.mkdtemp(dir=site.directory)) / "stages"
    async with site.server("benchmarks.staged_server", str(file), venv=venv) as bench:
        await site.warm(bench, code, venv)
        for _ in range(_WARM_UP):
            await _call(bench, code, venv)
        calls = [await _call(bench, code, venv) for _ in range(site.rounds * 4)]
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    by_time = sorted((_whole(call, answers) for call in calls), key=lambda call: call["answered"] - call["asked"])
    middle = by_time[len(calls) // 4 : -len(calls) // 4]
    names = ["asked", *STAGES]
    stages = {
        name: statistics.fmean(call[name] - call[before] for call in middle)
        for before, name in itertools.pairwise(names)
    }
    return Profile(stages, statistics.fmean(call["client"] for call in middle))


async def _call(bench: Bench, code: str, venv: str) -> dict[str, float]:
    """When the client asked, the program ran and the client had its answer; and the client's processor time."""
    await anyio.sleep(_PAUSE_SECONDS)
    used = time.process_time()
    asked = time.monotonic()
    result = await bench.execute(_BEGINS + code, venv)
    answered = time.monotonic()
    (text,) = [part.text for part in result.content if isinstance(part, TextContent)]
    began = float(text.split("\n", 1)[0])
    return {"asked": asked, "ran": began, "answered": answered, "client": time.process_time() - used}


def _whole(call: dict[str, float], answers: Sequence[dict[str, float]]) -> dict[str, float]:
    """The call with what the server noted of it; a stage that was over before the one before it took no time."""
    *_, noted = [noted for noted in answers if call["asked"] < noted["read"] < call["answered"]]
    call |= noted
    return call | dict(zip(STAGES, itertools.accumulate((call[name] for name in STAGES), max), strict=True))
