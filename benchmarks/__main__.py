"""`python -m benchmarks` measures the product against floors in the same run; docs/performance.md says what and how."""

import argparse
import json
import tempfile
from collections.abc import Awaitable, Callable, Generator, Mapping
from compileall import compile_dir
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import SubprocessError
from typing import cast

import anyio
import psutil
from mcp import MCPError

import mcp_python_executor
from benchmarks import calls, environments, load, memory, report, rivals, stages
from benchmarks.curves import draw
from benchmarks.measure import Row
from benchmarks.site import Failed, Site

Rows = Mapping[str, Callable[[Site], Awaitable[Row]]]

ROWS: Rows = {**calls.ROWS, **load.ROWS, **environments.ROWS, **memory.ROWS}


async def main(site: Site, rows: Rows) -> dict[str, Row]:
    """Measures each row and prints it as it is known."""
    measured: dict[str, Row] = {}
    print(report.HEADER)
    for name, measure in rows.items():
        try:
            measured[name] = await measure(site)
            print(report.line(name, measured[name]), flush=True)
        except* (Failed, MCPError, OSError, SubprocessError, psutil.Error) as failures:
            print(f"{name:24} {', '.join(map(str, _leaves(failures)))}", flush=True)
    return measured


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for part in group.exceptions for leaf in _leaves(part)]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--only", metavar="ROW", action="append", help="measure this row, or those that `print*` matches")
    made.add_argument("--list", action="store_true", help="name the rows and measure nothing")
    made.add_argument("--rounds", type=int, default=50, help="of a call; of what takes longer a part (default: 50)")
    made.add_argument("--installs", type=int, default=8, help="rounds of an environment's change (default: 8)")
    made.add_argument("--executions", type=int, default=10_000, help="of the memory's growth (default: 10000)")
    made.add_argument("--directory", type=Path, help="work in it and keep it: the next run finds its environments")
    made.add_argument(
        "--stages",
        nargs="?",
        const="print(1)",
        choices=stages.PROGRAMS,
        help="show where the time of a call of this program goes, and no rows (default: print(1))",
    )
    made.add_argument("--rival", metavar="NAME=COMMAND", action="append", default=[], help="measure another server too")
    made.add_argument(
        "--adapter",
        metavar="NAME=TOOL ARGUMENTS",
        action="append",
        default=[],
        help="the rival's tool that runs code, and its arguments as JSON in which $CODE stands for the code",
    )
    made.add_argument("--charts", type=Path, metavar="FOLDER", help="draw how cost grows, as SVG")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of docs/performance.md")
    return made


def chosen(rows: Rows, patterns: list[str] | None) -> Rows:
    """The rows that the patterns name, all without any; one that names none ends the program."""
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in rows):
            raise SystemExit(f"there is no row {pattern!r}; there are {', '.join(rows)}")
    named = patterns or ["*"]
    return {name: row for name, row in rows.items() if any(fnmatchcase(name, pattern) for pattern in named)}


def run(arguments: list[str] | None = None) -> None:
    """Runs what the command line asks for."""
    options = parser().parse_args(arguments)
    rows = chosen({**ROWS, **rivals.rows(rivals.parse(options.rival, options.adapter))}, options.only)
    if options.list:
        print(*rows, sep="\n")
        return
    compile_dir(Path(mcp_python_executor.__file__).parent, quiet=2)  # as an installer leaves it
    with _directory(options.directory) as directory:
        counts = {name: getattr(options, name) for name in ("rounds", "installs", "executions")}
        site = Site(directory, **counts)
        if options.stages:
            print(*anyio.run(stages.profile, site, options.stages).lines(), sep="\n")
            return
        measured = anyio.run(main, site, rows)
        curves = anyio.run(draw, site, options.charts.resolve()) if options.charts else {}
    if options.json:
        options.json.write_text(json.dumps(report.as_json(measured, curves, **counts), indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(measured))
    if failed := rows.keys() - measured.keys():
        raise SystemExit(f"rows that failed: {', '.join(failed)}")


@contextmanager
def _directory(kept: Path | None) -> Generator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory("-benchmarks") as name:
            yield Path(name)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()


if __name__ == "__main__":
    run()
