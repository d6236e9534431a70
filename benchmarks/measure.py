"""Measuring in pairs: what is measured and its floor by turns, so that a machine's drift meets both alike."""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import anyio

Step = Callable[[int], Awaitable[float | None]]
"""Does the work once, and is told which round it is. Gives what counts, where that is not the time that it took."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of what was measured, and its quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a row has to keep: its ratio, or what was measured itself where there is no floor."""

    value: float
    at_least: bool = False

    def is_kept(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.value if self.at_least else value <= self.value


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a case. Seconds, but where `unit` says something else (`MB`, `B`)."""

    measured: Spread
    floor: Spread | None
    ratio: Spread | None
    floor_is: str
    mark: Mark | None = None
    unit: str = "s"

    @property
    def is_kept(self) -> bool | None:
        """Whether the mark is kept; None without one."""
        return None if self.mark is None else self.mark.is_kept((self.ratio or self.measured).median)


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure against a floor, which `floor_is` names.

    `work` does `units` of what is measured and `floor` `floor_units`. With `rate` the ratio is that of their rates:
    more is better. `rest` are seconds before each step, for what goes on behind the answer to the step before it.
    `prepare` is done before each round, and not measured. With `without`, what counts is what `work` takes more than
    that.
    """

    work: Step
    floor: Step
    floor_is: str
    rounds: int
    warm_up: int
    mark: Mark | None = None
    units: int = 1
    floor_units: int = 1
    rate: bool = False
    rest: float = 0
    prepare: Step | None = None
    without: Step | None = None


@dataclass(slots=True)
class Figures:
    """What each round of a case took, its floor, and what its work is measured without."""

    work: list[float] = field(default_factory=list[float])
    floor: list[float] = field(default_factory=list[float])
    without: list[float] = field(default_factory=list[float])

    def row(self, case: Case) -> Row:
        """The spread of each, and of the rounds' own ratios."""
        net = [work - less for work, less in zip(self.work, self.without or repeat(0.0), strict=False)]
        measured = [seconds / case.units for seconds in net]
        floor = [seconds / case.floor_units for seconds in self.floor]
        pairs = zip(floor, measured, strict=True) if case.rate else zip(measured, floor, strict=True)
        ratio = [one / other for one, other in pairs]
        return Row(Spread.of(measured), Spread.of(floor), Spread.of(ratio), case.floor_is, case.mark)


async def measure(case: Case) -> Row:
    """What came of `case`, its warm-up rounds left out."""
    figures = Figures()
    steps = [(case.floor, figures.floor), (case.work, figures.work)]
    if case.without is not None:
        steps.append((case.without, figures.without))
    for number in range(case.warm_up + case.rounds):
        if case.prepare is not None:
            await case.prepare(number)
        for step, values in steps:
            await anyio.sleep(case.rest)
            value = await timed(step, number)
            if number >= case.warm_up:
                values.append(value)
    return figures.row(case)


async def timed(step: Step, number: int = 0) -> float:
    """What the step says that it took, or else the seconds until it ended."""
    began = time.perf_counter()
    value = await step(number)
    return time.perf_counter() - began if value is None else value
