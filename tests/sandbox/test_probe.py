import os
from pathlib import Path

import pytest

from mcp_python_executor.sandbox.probe import Confinement, Wall, Walls, choose_confinement, probe

pytestmark = pytest.mark.anyio


def test_every_wall_stands_where_the_tests_run(walls: Walls):
    assert walls.strict
    assert walls.missing == ""
    assert [wall.name for wall in walls.walls] == [
        *("bubblewrap", "namespaces", "mounts", "landlock", "seccomp", "processes")
    ]
    assert walls.landlock_abi >= 1


def test_root_has_bubblewrap_run_by_a_user_without_privilege(walls: Walls):
    assert walls.unprivileged is (os.getuid() == 0)


async def test_without_bubblewrap_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = await probe()
    assert walls.bubblewrap is None
    assert "bubblewrap: not installed; install it: " in walls.missing


async def test_a_bubblewrap_that_does_not_work_is_no_wall(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = await probe()
    assert walls.bubblewrap is None
    assert "fails: bwrap: setting up uid map: Permission denied" in walls.missing


async def test_where_apparmor_restricts_namespaces_its_profile_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    restricted, broken = tmp_path / "restricted", tmp_path / "bwrap"
    restricted.write_text("1\n")
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("mcp_python_executor.sandbox.probe._APPARMOR", restricted)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "extra-profiles/bwrap-userns-restrict" in (await probe()).walls[0].remedy


def test_what_is_missing_is_one_line_with_its_remedy():
    walls = Walls(
        (Wall("a", True, "fine"), Wall("b", False, "gone", "get it"), Wall("c", False, "old", "renew")), None, 3
    )
    assert walls.missing == "b: gone; get it; c: old; renew"


BWRAP = Path("/usr/bin/bwrap")
FULL = Confinement(BWRAP, namespaces=True, landlock=True, seccomp=True)
BY_BUBBLEWRAP = Confinement(BWRAP, landlock=True, seccomp=True)
BY_LANDLOCK = Confinement(landlock=True, seccomp=True)


@pytest.mark.parametrize(
    ("bubblewrap", "namespaces", "abi", "seccomp", "chosen"),
    [
        (BWRAP, True, 7, True, FULL),
        (BWRAP, True, 1, True, FULL),
        (BWRAP, False, 6, True, BY_BUBBLEWRAP),
        (BWRAP, False, 5, True, None),
        (None, True, 6, True, BY_LANDLOCK),
        (None, False, 6, True, BY_LANDLOCK),
        (None, True, 5, True, None),
        (BWRAP, True, 0, True, None),
        (BWRAP, True, 7, False, None),
        (None, False, 0, False, None),
    ],
)
def test_what_strict_is_met_by(
    bubblewrap: Path | None, namespaces: bool, abi: int, seccomp: bool, chosen: Confinement | None
):
    assert choose_confinement(bubblewrap, namespaces=namespaces, landlock_abi=abi, seccomp=seccomp) == chosen


def test_without_a_bound_on_processes_strict_is_not_met():
    assert choose_confinement(BWRAP, namespaces=True, landlock_abi=7, seccomp=True, processes=False) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root is refused: the escapes are tried as an ordinary user too")
async def test_root_without_bubblewrap_is_told_to_be_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    walls = await probe()
    assert not walls.strict
    assert "processes: the kernel does not count root's; start the server as an ordinary user" in walls.missing


def test_a_plain_process_is_not_strict():
    assert not Confinement().strict
    assert BY_LANDLOCK.strict
    assert FULL.names == ["bubblewrap", "namespaces", "landlock", "seccomp"]
