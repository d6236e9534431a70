"""A bar at the bottom of a terminal: what a package operation does, and how much of its downloads has come."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

# As uv tells of what is large: `downloading numpy (16.1MiB)`, and later `downloaded numpy`.
_BEGUN = re.compile(r"downloading (\S+) \(([0-9.]+)([KMG]?)i?B\)")
_DONE = re.compile(r"downloaded (\S+)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@contextmanager
def open_bar() -> Generator[Callable[[str], None]]:
    """What takes each stage of an operation and shows it; the bar is gone when the block ends."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, DownloadColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking", total=None)
        sizes = Sizes()

        def show(stage: str) -> None:
            sizes.hear(stage)
            progress.update(task, description=stage, completed=sizes.done, total=sizes.total or None)

        yield show


class Sizes:
    """How many bytes are to come and how many have, as far as the stages of an operation tell."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self.done = 0

    @property
    def total(self) -> int:
        """Of all downloads that have begun."""
        return sum(self._begun.values())

    def hear(self, stage: str) -> None:
        """Take one stage."""
        if found := _BEGUN.fullmatch(stage):
            self._begun[found[1]] = int(float(found[2]) * _UNITS[found[3]])
        elif found := _DONE.fullmatch(stage):
            self.done += self._begun.get(found[1], 0)
