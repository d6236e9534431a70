from pathlib import Path

import pytest

from mcp_python_executor.sandbox.probe import Wall, Walls, probe

pytestmark = pytest.mark.anyio


def test_every_wall_stands_where_the_tests_run(walls: Walls):
    assert walls.strict
    assert walls.missing == ""
    assert [wall.name for wall in walls.walls] == ["bubblewrap", "namespaces", "mounts", "landlock", "seccomp"]
    assert walls.landlock_abi >= 1


async def test_without_bubblewrap_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = await probe()
    assert not walls.strict
    assert walls.bubblewrap is None
    assert "bubblewrap: not installed; install it: " in walls.missing


async def test_a_bubblewrap_that_does_not_work_is_no_wall(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = await probe()
    assert not walls.strict
    assert walls.bubblewrap is None
    assert "fails: bwrap: setting up uid map: Permission denied" in walls.missing


def test_what_is_missing_is_one_line_with_its_remedy():
    walls = Walls(
        (Wall("a", True, "fine"), Wall("b", False, "gone", "get it"), Wall("c", False, "old", "renew")), None, 3
    )
    assert walls.missing == "b: gone; get it; c: old; renew"
