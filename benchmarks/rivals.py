"""Other servers that run Python, side by side: an adapter maps our programs onto a tool of theirs and its arguments.

A rival is a command that starts it, and runs programs in an interpreter that has numpy, pandas and matplotlib. Its rows
are ours, its floors too, measured in the same run; what a program prints must come back, or the row fails.
"""

import json
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from benchmarks import calls, load
from benchmarks.measure import Row
from benchmarks.site import Adapter, Rival, Site

_ROWS: Mapping[str, Callable[[Site], Awaitable[Row]]] = {**calls.ROWS, **load.ROWS}
# Those that any server can be asked for.
_COMPARED = (
    "print(1)",
    "print(1) back to back",
    "numpy",
    "pandas group-by",
    "plot saved",
    "print(1), 8 wide",
    "16 sleeps at once",
    "start to tools/list",
)


def rows(rivals: Iterable[Rival]) -> dict[str, Callable[[Site], Awaitable[Row]]]:
    """The rows of each."""
    return {f"{rival.name}: {name}": partial(_row, rival=rival, name=name) for rival in rivals for name in _COMPARED}


async def _row(site: Site, rival: Rival, name: str) -> Row:
    return replace(await _ROWS[name](site.for_rival(rival)), mark=None)  # the marks are ours


def parse(commands: Iterable[str], adapters: Iterable[str]) -> list[Rival]:
    """The rivals of a command line, NAME=COMMAND and NAME=TOOL ARGUMENTS for each."""
    by_name = dict(map(_named, adapters))
    rivals: list[Rival] = []
    for name, command in map(_named, commands):
        if name not in by_name:
            raise SystemExit(f'--rival {name!r} has no --adapter: add --adapter \'{name}=TOOL {{"code": "$CODE"}}\'')
        rivals.append(Rival(name, tuple(shlex.split(command)), _adapter(by_name[name])))
    return rivals


def _named(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise SystemExit(f"{option!r} has no name: NAME=...")
    return name, value


def _adapter(text: str) -> Adapter:
    tool, _, arguments = text.partition(" ")
    return Adapter(tool, json.loads(arguments))
