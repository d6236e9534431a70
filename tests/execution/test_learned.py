import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_python_executor.execution.learned import Learned

_GENERATION = "0123456789abcdef"


@pytest.fixture
def server(tmp_path: Path) -> Callable[[], Learned]:
    """`server()`: what one more server on the same directory has learned."""
    return lambda: Learned(lambda generation: tmp_path / f"{generation}.json")


def run(learned: Learned, *used: str, times: int = 1) -> None:
    for _ in range(times):
        learned.count(_GENERATION, lambda name: name in used)


def test_what_is_used_most_lately_comes_first(server: Callable[[], Learned]):
    learned = server()
    learned.add(_GENERATION, ["json", "csv"])
    run(learned, "csv", times=5)
    run(learned, "json", times=2)
    assert learned.modules(_GENERATION) == ["csv", "json"]
    run(learned, "json", times=40)
    assert learned.modules(_GENERATION) == ["json", "csv"]


def test_what_no_program_uses_any_more_is_forgotten(server: Callable[[], Learned]):
    learned = server()
    learned.add(_GENERATION, ["json", "csv"])
    run(learned, "json", times=900)
    assert learned.modules(_GENERATION) == ["json", "csv"]
    run(learned, "json", times=200)
    assert learned.modules(_GENERATION) == ["json"]
    learned.save()
    assert server().modules(_GENERATION) == ["json"]


def test_servers_on_one_directory_add_to_what_each_other_learned(server: Callable[[], Learned]):
    one, other = server(), server()
    one.add(_GENERATION, ["numpy"])
    other.add(_GENERATION, ["json"])
    run(one, "numpy", times=3)
    one.save()
    other.save()
    assert server().modules(_GENERATION) == other.modules(_GENERATION) == ["numpy", "json"]
    run(one, times=1200)
    one.save()
    assert server().modules(_GENERATION) == []


def test_saving_twice_counts_once(server: Callable[[], Learned], tmp_path: Path):
    learned = server()
    learned.add(_GENERATION, ["json"])
    learned.save()
    learned.save()
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == {"modules": {"json": 1.0}}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"modules": []}',
        b'{"modules": {"json": "often"}}',
        b'{"modules": {"json": NaN}}',
        b'{"modules": {"json": Infinity}}',
        b'{"modules": {"json": -1}}',
        b'{"modules": {"json": 1e300}}',
        b'{"modules": {"antigravity": 9, "../../evil": 9, "os.path": 9, "evil": 9, "": 9}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_forgotten(server: Callable[[], Learned], tmp_path: Path, damage: bytes):
    file = tmp_path / f"{_GENERATION}.json"
    file.write_bytes(damage)
    learned = server()
    assert learned.modules(_GENERATION) == []
    learned.add(_GENERATION, ["csv"])
    learned.save()
    assert "csv" in server().modules(_GENERATION)


def test_a_directory_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path):
    learned = Learned(lambda generation: tmp_path / "missing" / generation)
    learned.add(_GENERATION, ["json"])
    learned.save()
    assert learned.modules(_GENERATION) == ["json"]
