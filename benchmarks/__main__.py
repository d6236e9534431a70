"""`python -m benchmarks` measures the product against floors in the same run; docs/performance.md says what and how."""

import argparse
import json
import tempfile
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path

import anyio

from benchmarks import calls, environments, load, memory, report, stages
from benchmarks.measure import Row
from benchmarks.site import Site

ROWS = {**calls.ROWS, **load.ROWS, **environments.ROWS, **memory.ROWS}


async def main(site: Site, names: list[str]) -> dict[str, Row]:
    """Measures each row and prints it as it is known."""
    rows: dict[str, Row] = {}
    print(report.HEADER)
    for name in names:
        rows[name] = await ROWS[name](site)
        print(report.line(name, rows[name]), flush=True)
    return rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--only", metavar="ROW", action="append", help="measure this row, or those that `print*` matches")
    made.add_argument("--list", action="store_true", help="name the rows and measure nothing")
    made.add_argument("--rounds", type=int, default=50, help="of a call; of what takes longer a part (default: 50)")
    made.add_argument("--installs", type=int, default=8, help="rounds of an environment's change (default: 8)")
    made.add_argument("--executions", type=int, default=10_000, help="of the memory's growth (default: 10000)")
    made.add_argument("--directory", type=Path, help="work in it and keep it: the next run finds its environments")
    made.add_argument("--stages", action="store_true", help="show where the time of print(1) goes, and no rows")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the table of docs/performance.md")
    return made


def chosen(patterns: list[str] | None) -> list[str]:
    """The rows that the patterns name, all without any; one that names none ends the program."""
    names = [name for name in ROWS if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)]
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SystemExit(f"there is no row {pattern!r}; there are {', '.join(ROWS)}")
    return names


def run(arguments: list[str] | None = None) -> None:
    """Runs what the command line asks for."""
    options = parser().parse_args(arguments)
    names = chosen(options.only)
    if options.list:
        print("\n".join(names))
        return
    if options.directory:
        options.directory.mkdir(parents=True, exist_ok=True)
    kept = nullcontext(str(options.directory)) if options.directory else tempfile.TemporaryDirectory("-benchmarks")
    with kept as directory:
        counts = {name: getattr(options, name) for name in ("rounds", "installs", "executions")}
        site = Site(Path(directory).resolve(), **counts)
        if options.stages:
            print(*anyio.run(stages.profile, site).lines(), sep="\n")
            return
        rows = anyio.run(main, site, names)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(rows, **counts), indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(rows))


if __name__ == "__main__":
    run()
