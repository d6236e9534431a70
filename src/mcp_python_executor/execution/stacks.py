"""Where a program was when its time was up: what a worker's faulthandler tells, as a traceback."""

import re
import signal
from collections.abc import Iterable, Sequence
from itertools import dropwhile
from pathlib import Path

from mcp_python_executor.execution.model import ProgramError
from mcp_python_executor.sandbox.probe import INSIDE

SIGNAL = signal.SIGRTMAX - 1
"""What a worker answers with its stack."""

START = b"Stack (most recent call first):\n"
"""How the answer begins: see faulthandler.dump_traceback."""

# The main thread's stack, and one task's.
_ONE_TASK = 2
_FRAME = re.compile(r'  File "(.*)", line (\d{1,9}) in (.*)')
_TASK = re.compile(r"(Task .*) \(most recent call first\):")

_Frame = tuple[str, int, str]


def as_error(text: str, program: Path, lines: Sequence[str], libraries: Iterable[Path]) -> ProgramError | None:
    """The stacks in `text` as the error of a program that was stopped; None where none has a frame of the user's.

    The first is the main thread's, each other one a task's that waits. `lines` are those of `program`; frames of files
    below `libraries` are left out.
    """
    hidden = ("<frozen", *(f"{path}/" for path in (INSIDE, *libraries)))
    found = list(_stacks(text))
    stacks = [(title, own) for title, frames in found if (own := _own(frames, hidden))]
    if not stacks:
        return None
    # Where one task waits, and the thread does nothing but wait for it, that is where the program is.
    is_waiting = [function for _, _, function in found[0][1][:1]] == ["select"]
    where = stacks[-1][1] if is_waiting and len(stacks) <= _ONE_TASK else stacks[0][1]
    told = [line for title, own in stacks for line in _told(title, own, program, lines)]
    line = next((number for name, number, _ in reversed(where) if _source(name, number, program, lines)), None)
    return ProgramError("Timeout", f"stopped in {where[-1][2]}", "\n".join(told) + "\n", line)


def _stacks(text: str) -> Iterable[tuple[str, list[_Frame]]]:
    """Each stack's title and frames, the latest call first."""
    title, frames = "Stack where it was stopped", list[_Frame]()
    for line in text.splitlines():
        if task := _TASK.fullmatch(line):
            yield title, frames
            title, frames = f"{task[1]} where it waited", []
        elif frame := _FRAME.fullmatch(line):
            frames.append((frame[1], int(frame[2]), frame[3]))
    yield title, frames


def _own(frames: list[_Frame], hidden: tuple[str, ...]) -> list[_Frame]:
    """The user's frames, the latest call last."""
    below_ours = dropwhile(lambda frame: frame[0].startswith(("<string>", *hidden)), reversed(frames))
    return [frame for frame in below_ours if not frame[0].startswith(hidden)]


def _told(title: str, own: list[_Frame], program: Path, lines: Sequence[str]) -> Iterable[str]:
    yield f"{title} (most recent call last):"
    for name, number, function in own:
        yield f'  File "{name}", line {number}, in {function}'
        if source := _source(name, number, program, lines):
            yield f"    {source}"


def _source(name: str, number: int, program: Path, lines: Sequence[str]) -> str:
    return lines[number - 1].strip() if name == str(program) and 0 < number <= len(lines) else ""
