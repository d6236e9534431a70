"""The benchmark suite measures what it says, for as few rounds as there can be."""

import json
import re
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import empty_server, rivals
from benchmarks.load import at_once, longest
from benchmarks.measure import Case, Mark, Spread, measure
from benchmarks.stages import STAGES

pytestmark = pytest.mark.anyio


@pytest.mark.usefixtures("walls")
def test_one_command_measures_rows_against_their_floors_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table, figures = tmp_path / "table.md", tmp_path / "figures.json"
    rows = ["print(1)", "rival: print(1)"]
    command = f"{sys.executable} {empty_server.__file__}"  # its one tool answers 1, whatever the program
    rival = [f"--rival=rival={command}", "--adapter=rival=nothing {}"]
    written = [f"--markdown={table}", f"--json={figures}"]
    other = [f"--rival=other={command}", "--adapter=other=missing {}"]
    with pytest.raises(SystemExit, match="rows that failed: other: print"):
        benchmarks.run(["--only=print(1)", "--only=*: print(1)", *rival, *other, *written, "--rounds=1"])
    found = json.loads(figures.read_text())["rows"]
    assert list(found) == rows
    for row in found.values():
        assert row["ratio"]["median"] == pytest.approx(row["measured"]["median"] / row["floor"]["median"])
    told, written = capsys.readouterr().out.splitlines(), table.read_text().splitlines()
    for row in rows:
        assert sum(line.startswith(f"{row}  ") for line in told) == 1
        assert sum(line.startswith(f"| {row} |") for line in written) == 1


@pytest.mark.usefixtures("walls")
def test_the_stages_of_a_call_sum_to_the_whole_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benchmarks.run(["--stages", "--rounds=1", f"--directory={tmp_path}"])
    found = dict(re.findall(r"^\| (.+?) \| +(-?[0-9.]+) ms", capsys.readouterr().out, re.MULTILINE))
    assert list(found)[: len(STAGES)] == list(STAGES.values())
    times = [float(found[what]) for what in STAGES.values()]
    assert min(times) >= 0
    assert sum(times) == pytest.approx(float(found["the whole call"]), abs=0.01 * len(times))


async def test_a_ratio_is_the_median_of_the_rounds_own_and_warm_up_does_not_count():
    async def work(number: int) -> float:
        return [100.0, 6.0, 8.0, 40.0][number]

    async def floor(number: int) -> float:
        return [1.0, 2.0, 4.0, 10.0][number]

    case = Case(work, floor, "", rounds=3, warm_up=1, mark=Mark(2))
    row = await measure(case)
    assert (row.ratio, row.is_kept) == (Spread(3, 2.5, 3.5), False)
    case = Case(work, floor, "", rounds=3, warm_up=1, mark=Mark(2, at_least=True), units=4, floor_units=1, rate=True)
    row = await measure(case)
    assert row.ratio is not None
    assert (row.ratio.median, row.is_kept) == (pytest.approx(4 / 3), False)


async def test_so_many_calls_are_under_way_at_once():
    seen, running = set[int](), 0

    async def call(_: int) -> None:
        nonlocal running
        running += 1
        seen.add(running)
        await anyio.lowlevel.checkpoint()
        running -= 1

    await at_once(call, 3, 9)(0)
    assert max(seen) == 3


def test_the_longest_delay_of_a_window_is_found(tmp_path: Path):
    (tmp_path / "late").write_text("1.0 0.9\n2.0 0.1\n2.5 0.3\n4.0 0.8\n")
    assert longest(tmp_path / "late", 1.5, 3.0) == 0.3


def test_an_adapter_says_where_the_program_goes():
    (rival,) = rivals.parse(["one=run --fast 'a b'"], ['one=execute {"source": "$CODE", "mode": "new", "n": 1}'])
    assert (rival.name, rival.command, rival.adapter.tool) == ("one", ("run", "--fast", "a b"), "execute")
    assert rival.adapter.call("print(1)", "full") == {"source": "print(1)", "mode": "new", "n": 1}
    with pytest.raises(SystemExit, match="--rival 'two' has no --adapter"):
        rivals.parse(["two=run"], ["one=execute {}"])


def test_a_row_that_does_not_exist_is_refused():
    assert list(benchmarks.chosen(benchmarks.ROWS, ["print(1)*"])) == [
        "print(1)",
        "print(1) back to back",
        "print(1), 8 wide",
    ]
    with pytest.raises(SystemExit, match="there is no row 'fast'; there are print"):
        benchmarks.chosen(benchmarks.ROWS, ["fast"])
