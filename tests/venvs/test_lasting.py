"""What is committed outlasts a loss of power: seen in the system calls, by strace(1)."""

import os
import re
import shutil
import subprocess
import sys
import venv as standard
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mcp_python_executor.venvs.files import remove_tree
from tests.venvs.conftest import Open

pytestmark = pytest.mark.anyio

_PROGRAM = Path(__file__).parent / "commits.py"
_CALLS = "fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat"
_LINE = re.compile(r"^(?P<pid>\d+)\s+(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\((?P<arguments>.*))")
_PATH = re.compile(r'\d+<(/[^>]*)>|"([^"]*)"')
# What an operation renames into place (or removes), below the base path, in this order.
_GENERATION = (".store/blueprints/*", ".store/generations/*/generation.json")
_PLAIN = (*_GENERATION, ".store/venvs/plain.json")
_COMMITS: dict[str, Sequence[str]] = {
    "create": (*_GENERATION, ".store/venvs/made.json", "made"),
    "install": (*_GENERATION, ".store/venvs/lab.json", "lab"),
    "describe": (".store/venvs/lab.json",),
    "rollback": (".store/venvs/lab.json", "lab"),
    "repair": (".store/generations/*/generation.json",),
    "adopt": (*_PLAIN, "plain", *_PLAIN, "plain"),
    "adopt in two steps": (*_PLAIN, ".store/moves/plain", "plain", *_PLAIN, "plain"),
    "delete": ("lab",),
}


@dataclass(frozen=True)
class _Call:
    """A system call, with the paths that it names, by themselves or by a descriptor (strace tells those, with `-y`)."""

    name: str
    paths: tuple[str, ...]


@pytest.fixture(scope="session")
def strace() -> str:
    found = shutil.which("strace")
    if found is None or subprocess.run([found, "true"], capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs strace, and to be allowed to trace")
    return str(found)


@pytest.mark.parametrize("operation", _COMMITS)
async def test_what_is_new_is_on_disk_before_each_step_that_counts_and_the_step_after_it(
    opened: Open, base: Path, strace: str, tmp_path: Path, operation: str
):
    async with opened() as venvs:
        await venvs.install("lab", "six")
        await venvs.install("lab", "iniconfig")
        await venvs.install("broken", "packaging")
        await venvs.tidy()
    remove_tree((base / "broken").resolve())
    standard.create(base / "plain", symlinks=True)
    trace = tmp_path / "trace"
    command = [strace, "-f", "-y", "-qq", "-s", "4096", "-e", f"trace={_CALLS}", "-o", str(trace)]
    done = subprocess.run(  # noqa: ASYNC221 - nothing else is going on
        [*command, sys.executable, str(_PROGRAM), str(base), operation], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = _until_answered(list(_calls(trace.read_text())))
    matches = [_matching(_target(call, base), operation) for call in calls]
    assert [match for match in matches if match] == list(_COMMITS[operation])
    commits = [index for index, match in enumerate(matches) if match]
    for index, following in zip(commits, [*commits[1:], len(calls)], strict=True):
        _assert_content_is_on_disk(calls, index, base)
        directory = str((base / _target(calls[index], base)).parent)
        assert _Call("fsync", (directory,)) in calls[index:following], f"{directory} after {calls[index]}"


def _assert_content_is_on_disk(calls: Sequence[_Call], index: int, base: Path) -> None:
    source, target = calls[index].paths[0], _target(calls[index], base)
    if target.endswith(".json"):
        assert _Call("fsync", (source,)) in calls[:index], f"{source} before {calls[index]}"
    if target.endswith("generation.json"):
        generation = str((base / target).parent)
        assert _Call("syncfs", (generation,)) in calls[:index], f"what is in {generation} before {calls[index]}"
    if target.startswith(".store/blueprints/"):
        assert _Call("fsync", (source,)) in calls[:index], f"{source} before {calls[index]}"
        assert [call for call in calls[:index] if call.name == "syncfs"], f"what is in {source} before {calls[index]}"


def _calls(trace: str) -> Iterator[_Call]:
    """In the order in which they ended; a call that another thread's line interrupts is told in two lines."""
    begun: dict[str, tuple[str, str]] = {}
    for line in trace.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        if line.endswith("<unfinished ...>"):
            begun[found["pid"]] = (found["name"], found["arguments"])
            continue
        name, arguments = begun.pop(found["pid"]) if found["resumed"] else (found["name"], found["arguments"])
        if not re.search(r"= -1 E(?!NOENT)", line):
            yield _Call(name, tuple(one or other for one, other in _PATH.findall(arguments)))


def _until_answered(calls: list[_Call]) -> list[_Call]:
    (answered,) = [index for index, call in enumerate(calls) if "answered" in call.paths]
    return calls[:answered]


def _target(call: _Call, base: Path) -> str:
    """What below the base path a call gave a new meaning to."""
    if not call.name.startswith(("rename", "unlink")):
        return ""
    path = call.paths[-1]
    return path.removeprefix(f"{base}/") if path.startswith(f"{base}/") else ""


def _matching(target: str, operation: str) -> str:
    return next((pattern for pattern in _COMMITS[operation] if fnmatch(target, pattern)), "")
