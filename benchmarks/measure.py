"""Measuring in pairs: what is measured and its floor by turns, so that a machine's drift meets both alike."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import repeat

import anyio

Step = Callable[[int], Awaitable[None]]
"""Does the work once; is told which round it is."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure. `mark` is the ratio to its floor that it has to keep, where there is one.

    `rest` are seconds before each step, for what goes on behind the answer to the step before it. `prepare` is done
    before each round, and not measured. With `without`, what counts is what `work` takes more than that.
    """

    name: str
    work: Step
    floor: Step
    rounds: int
    warm_up: int
    mark: float | None = None
    rest: float = 0
    prepare: Step | None = None
    without: Step | None = None


@dataclass(slots=True)
class Figures:
    """Seconds of each round of a case, of its floor, and of what its work is measured without."""

    work: list[float] = field(default_factory=list[float])
    floor: list[float] = field(default_factory=list[float])
    without: list[float] = field(default_factory=list[float])

    @property
    def net(self) -> list[float]:
        """Seconds of each round that count."""
        return [work - without for work, without in zip(self.work, self.without or repeat(0.0), strict=False)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(work / floor for work, floor in zip(self.net, self.floor, strict=True))


async def measure(case: Case) -> Figures:
    """The figures of `case`, its warm-up rounds left out."""
    figures = Figures()
    steps = [(case.floor, figures.floor), (case.work, figures.work)]
    if case.without is not None:
        steps.append((case.without, figures.without))
    for number in range(case.warm_up + case.rounds):
        if case.prepare is not None:
            await case.prepare(number)
        for step, seconds in steps:
            await anyio.sleep(case.rest)
            began = time.perf_counter()
            await step(number)
            if number >= case.warm_up:
                seconds.append(time.perf_counter() - began)
    return figures
