import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox import probe as sandbox_probe
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.sandbox.probe import Confinement, Wall, Walls, choose_confinement, probe

pytestmark = pytest.mark.anyio


def test_every_wall_stands_where_the_tests_run(walls: Walls):
    assert walls.strict
    assert walls.missing == ""
    assert [wall.name for wall in walls.walls] == [
        *("bubblewrap", "namespaces", "mounts", "landlock", "seccomp", "processes")
    ]
    assert walls.landlock_abi >= 1


# What a kernel may say and not do; and which try then fails, though nothing refused to be put up.
HOLLOW = {
    "landlock": ("landlock.restrict = lambda *_, **__: None", "opening a file was not refused"),
    "scopes": ("landlock._ALL_SCOPES = 0", "a signal to a process beyond was not refused"),
    "mounts": ("namespaces.join_mounts = lambda _: None", "its /proc shows the processes of others"),
    "seccomp": ("seccomp.install = lambda _: None", "a Unix socket was not refused"),
    "processes": ("m.resource.setrlimit = lambda *_: None", "a process too many was not refused"),
    "namespaces": (
        "call = m._call; m._call = lambda name, *rest: name == 'mount' or call(name, *rest)",
        "making a locked mount writable was not refused",
    ),
}


@pytest.mark.parametrize("wall", HOLLOW)
async def test_a_wall_that_refuses_nothing_does_not_stand(walls: Walls, monkeypatch: pytest.MonkeyPatch, wall: str):
    hollow, told = HOLLOW[wall]
    true_bootstrap = sandbox_probe.bootstrap

    def bootstrap(module: str) -> list[str]:
        flag, option, boot = true_bootstrap(module)
        prepare = f"from inside import landlock, namespaces, seccomp; {hollow}; m.main()"
        return [flag, option, boot.replace("m.main()", prepare)]

    assert walls.missing == ""
    monkeypatch.setattr(sandbox_probe, "bootstrap", bootstrap)
    found = await probe()
    if wall == "scopes":
        assert not found.scopes
        assert told in found.walls[3].detail
    else:
        missing = {each.name: each.detail for each in found.walls if not each.stands}
        assert missing.pop(wall) == told
        assert missing == ({"mounts": "not reached"} if wall == "namespaces" else {})
        assert found.confinement != walls.confinement


def shim(start: str) -> str:
    """A bwrap that `start`s what it is to put behind a wall, and does not put up the wall."""
    return f"""#!/bin/sh
test "$1" = --version && exec echo bubblewrap 0.8.0
while test "$1" != --; do shift; done
shift
exec {start} "$@"
"""


@pytest.mark.parametrize("start", ["", "unshare -r", "unshare -rmn"])
async def test_a_bubblewrap_that_only_starts_its_command_is_no_wall(monkeypatch: pytest.MonkeyPatch, start: str):
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bwrap"
        program.write_text(shim(start))
        for path in (program.parent, program):
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        found = await probe()
    assert found.bubblewrap is None
    assert not found.walls[0].stands
    assert found.walls[0].detail.startswith("bubblewrap 0.8.0 is no wall: ")
    assert found.confinement == (None if os.getuid() == 0 else Confinement(landlock=True, seccomp=True))


LOOSE = {
    "network": "it shares namespaces with the server: net",
    "files": "opening a file that it was not to show was not refused",
    "root": "its root is not read-only",
}


@pytest.mark.parametrize("what", LOOSE)
async def test_a_bubblewrap_that_leaves_something_open_is_no_wall(monkeypatch: pytest.MonkeyPatch, what: str):
    true_command = bubblewrap.command

    def command(program: Path, policy: Policy, argv: Sequence[str], *, unprivileged: bool = False) -> list[str]:
        shown = (*policy.read, Path(tempfile.gettempdir())) if what == "files" else policy.read
        loose = replace(policy, read=shown, network=what == "network")
        line = true_command(program, loose, argv, unprivileged=unprivileged)
        if what == "root":
            sealed = line.index("/", line.index("--remount-ro"))
            del line[sealed - 1 : sealed + 1]
        return line

    monkeypatch.setattr(bubblewrap, "command", command)
    found = await probe()
    assert found.walls[0].detail.endswith(f" is no wall: {LOOSE[what]}")
    assert found.bubblewrap is None


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
    ("bubblewrap", "namespaces", "landlock", "scopes", "seccomp", "chosen"),
    [
        (BWRAP, True, True, True, True, FULL),
        (BWRAP, True, True, False, True, FULL),
        (BWRAP, False, True, True, True, BY_BUBBLEWRAP),
        (BWRAP, False, True, False, True, None),
        (None, True, True, True, True, BY_LANDLOCK),
        (None, False, True, True, True, BY_LANDLOCK),
        (None, True, True, False, True, None),
        (BWRAP, True, False, False, True, None),
        (BWRAP, False, False, True, True, None),
        (BWRAP, True, True, True, False, None),
        (None, False, False, False, False, None),
    ],
)
def test_what_strict_is_met_by(
    bubblewrap: Path | None, namespaces: bool, landlock: bool, scopes: bool, seccomp: bool, chosen: Confinement | None
):
    told = choose_confinement(bubblewrap, namespaces=namespaces, landlock=landlock, scopes=scopes, seccomp=seccomp)
    assert told == chosen


def test_without_a_bound_on_processes_strict_is_not_met():
    walls = {"namespaces": True, "landlock": True, "scopes": True, "seccomp": True}
    assert choose_confinement(BWRAP, **walls, processes=False) is None


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
