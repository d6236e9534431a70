import os
import subprocess
import sys
from pathlib import Path

import pytest

import mcp_python_executor
from mcp_python_executor.inside import landlock

PARENT = Path(mcp_python_executor.__file__).parent

CONFINED = """
import errno, os, sys
sys.path.insert(0, {parent!r})
from inside import landlock, namespaces
namespaces.no_new_privileges()
landlock.restrict({read!r}, {write!r}, ["/dev/null"], network=False)
{code}
"""


def confined(code: str, *, read: list[str], write: list[str]) -> str:
    """What `code` prints in a process that reads `read` and writes `write`."""
    program = CONFINED.format(parent=str(PARENT), read=[*read, "/usr", "/lib", sys.base_prefix], write=write, code=code)
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A readable, a writable and a closed directory, a file `x` in each."""
    for name in ("read", "write", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    return tmp_path / "read", tmp_path / "write", tmp_path / "closed"


def test_places_are_read_and_written_as_allowed(places: tuple[Path, Path, Path]):
    read, write, closed = places
    code = f"""
def attempt(action):
    try:
        return action() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
for place in ({str(read)!r}, {str(write)!r}, {str(closed)!r}):
    print(attempt(lambda: open(place + "/x").read()),
          attempt(lambda: os.listdir(place)),
          attempt(lambda: open(place + "/x", "a").write("")),
          attempt(lambda: os.truncate(place + "/x", 0)),
          attempt(lambda: os.mkdir(place + "/new")),
          attempt(lambda: os.rename(place + "/x", place + "/y")))
"""
    told = confined(code, read=[str(read)], write=[str(write)]).splitlines()
    assert told[0] == "read ['x'] EACCES EACCES EACCES EACCES"
    assert told[1] == "write ['x'] done done done done"
    assert told[2] == "EACCES EACCES EACCES EACCES EACCES EACCES"


def test_a_path_that_is_not_there_needs_no_rule(tmp_path: Path):
    assert confined("print('up')", read=[str(tmp_path / "missing")], write=[]) == "up"


def test_what_a_kernel_does_not_know_is_left_out_by_its_abi(monkeypatch: pytest.MonkeyPatch):
    handled: list[tuple[int, int]] = []

    def ruleset(version: int, filesystem: int, **_: bool) -> int:
        handled.append((version, filesystem.bit_length()))
        raise OSError("far enough")

    monkeypatch.setattr(landlock, "_ruleset", ruleset)
    for version in range(1, 11):
        monkeypatch.setattr(landlock, "abi", lambda version=version: version)
        with pytest.raises(OSError, match="far enough"):
            landlock.restrict([], [], [], network=False)
    rights = [13, 14, 15, 15, 16, 16, 16, 16, 17, 17]
    assert handled == list(enumerate(rights, 1))


def test_sockets_of_others_are_nowhere_reached_by_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    resolve_unix = 1 << 16
    handled: list[int] = []
    allowed: list[int] = []

    def ruleset(_: int, filesystem: int, *, network: bool) -> int:  # noqa: ARG001 - all that it is called with
        handled.append(filesystem)
        return os.open(tmp_path, os.O_RDONLY)

    def allow(_: int, __: str, rights: int) -> None:
        allowed.append(rights)

    monkeypatch.setattr(landlock, "abi", lambda: 9)
    monkeypatch.setattr(landlock, "_ruleset", ruleset)
    monkeypatch.setattr(landlock, "_allow", allow)
    monkeypatch.setattr(landlock, "_restrict", os.close)
    landlock.restrict(["/"], [str(tmp_path)], ["/dev/null"], network=True, look=["/proc"])
    assert [rights & resolve_unix for rights in handled] == [resolve_unix]
    assert [rights & resolve_unix for rights in allowed] == [0, 0, 0, 0]


def test_without_landlock_nothing_is_confined_in_silence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(OSError, match="no Landlock"):
        landlock.restrict([], [], [], network=False)
