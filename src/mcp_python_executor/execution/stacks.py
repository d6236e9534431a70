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

_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')


def as_error(text: str, program: Path, lines: Sequence[str], libraries: Iterable[Path]) -> ProgramError | None:
    """The stack in `text` as the error of a program that was stopped; None where it has no frame of the user's.

    `lines` are those of `program`; frames of files below `libraries` are left out.
    """
    hidden = ("<frozen", *(f"{path}/" for path in (INSIDE, *libraries)))
    frames = [found.groups() for found in map(_FRAME.fullmatch, text.splitlines()) if found]
    below_ours = dropwhile(lambda frame: frame[0].startswith(("<string>", *hidden)), reversed(frames))
    own = [frame for frame in below_ours if not frame[0].startswith(hidden)]
    if not own:
        return None
    told = ["Stack where it was stopped (most recent call last):"]
    line = None
    for name, number, function in own:
        told.append(f'  File "{name}", line {number}, in {function}')
        if name == str(program) and 0 < int(number) <= len(lines):
            line = int(number)
            told.append(f"    {lines[line - 1].strip()}")
    return ProgramError("Timeout", f"stopped in {own[-1][2]}", "\n".join(told) + "\n", line)
