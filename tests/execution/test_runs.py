from pathlib import Path

import pytest

from mcp_python_executor.errors import StoreError
from mcp_python_executor.execution.runs import open_runs


def test_a_servers_runs_are_gone_when_it_ends(tmp_path: Path):
    with open_runs(tmp_path / "runs") as directory:
        (directory / "x").mkdir()
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_a_dead_server_left_is_removed_and_a_live_ones_stays(tmp_path: Path):
    dead = tmp_path / "runs" / "dead" / "x"
    dead.mkdir(parents=True)
    with open_runs(tmp_path / "runs") as live, open_runs(tmp_path / "runs") as other:
        assert live.exists()
        assert other.exists()
        assert not dead.parent.exists()


def test_a_place_that_cannot_be_written_says_which_setting_moves_it(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="set VENVS_BASE_PATH"), open_runs(tmp_path / "file" / "runs"):
        pass
