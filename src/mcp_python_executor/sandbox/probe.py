"""Which walls this machine offers, each found out by trying it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wall:
    """One wall: whether it stands here, how that shows (`bubblewrap 0.8.0`), and how to get it where it does not."""

    name: str
    stands: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Walls:
    """The walls of this machine. `strict` when they are enough for code that nobody has read."""

    walls: tuple[Wall, ...]
    bubblewrap: Path | None
    landlock_abi: int

    @property
    def strict(self) -> bool:
        """Whether ISOLATION=strict can be met here."""
        return all(wall.stands for wall in self.walls)

    @property
    def missing(self) -> str:
        """One line: which walls are missing and how to get them; empty when none is."""
        return "; ".join(f"{wall.name}: {wall.detail}; {wall.remedy}" for wall in self.walls if not wall.stands)
