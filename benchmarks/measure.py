"""Measuring in pairs: what is measured and its floor by turns, so that a machine's drift meets both alike."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Step = Callable[[int], Awaitable[None]]
"""Does the work once; is told which round it is."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure. `mark` is the ratio to its floor that it has to keep, where there is one."""

    name: str
    work: Step
    floor: Step
    rounds: int
    warm_up: int
    mark: float | None = None


@dataclass(slots=True)
class Figures:
    """Seconds of each round of a case and of its floor."""

    work: list[float] = field(default_factory=list[float])
    floor: list[float] = field(default_factory=list[float])

    @property
    def ratio(self) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(work / floor for work, floor in zip(self.work, self.floor, strict=True))


async def measure(case: Case) -> Figures:
    """The figures of `case`, its warm-up rounds left out."""
    figures = Figures()
    for number in range(case.warm_up + case.rounds):
        seconds: dict[Step, float] = {}
        for step in (case.work, case.floor) if number % 2 else (case.floor, case.work):
            began = time.perf_counter()
            await step(number)
            seconds[step] = time.perf_counter() - began
        if number >= case.warm_up:
            figures.work.append(seconds[case.work])
            figures.floor.append(seconds[case.floor])
    return figures
