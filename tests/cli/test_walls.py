"""Which walls stand, from the terminal."""

import json
import os
import re

import pytest

from tests.cli.conftest import WITHOUT_LANDLOCK, Command
from tests.variables import LIMITS


@pytest.mark.usefixtures("walls")
def test_doctor_says_which_walls_stand(command: Command):
    done = command("doctor")
    assert done.returncode == 0
    assert all(re.search(rf"^ok +{name}: ", done.stdout, re.MULTILINE) for name in ("bubblewrap", "landlock"))
    assert "Memory and processes of a run are held by " in done.stdout
    told = json.loads(command("doctor", "--json").stdout)
    assert told["strict"] is True
    assert told["memoryAndProcesses"]["heldBy"] in ("cgroup", "watch")


@pytest.mark.usefixtures("walls")
def test_doctor_tells_the_versions_of_bubblewrap_and_landlock(command: Command, told_walls: dict[str, str]):
    printed, told = command("doctor").stdout, json.loads(command("doctor", "--json").stdout)
    details = {wall["name"]: wall["detail"] for wall in told["walls"]}
    for name, detail in told_walls.items():
        assert re.search(rf"^ok +{name}: {re.escape(detail)}$", printed, re.MULTILINE)
        assert details[name] == detail


@pytest.mark.usefixtures("walls")
def test_doctor_tells_each_limit_and_what_holds_it(command: Command):
    printed = command("doctor", MAX_MEMORY_MB="100").stdout.partition("\nLimits, and what holds them:\n")[2]
    lines = dict(line.strip().split(": ", 1) for line in printed.splitlines())
    told = json.loads(command("doctor", "--json", MAX_MEMORY_MB="100").stdout)
    mechanisms = told["limits"].pop("mechanisms")
    assert mechanisms.keys() == told["limits"].keys() == LIMITS
    assert lines == {f"{name} {told['limits'][name]:.0f}": mechanism for name, mechanism in mechanisms.items()}
    assert told["limits"]["memoryMb"] == 100
    held = {"cgroup": "cgroup of each execution", "watch": "watched every 50 ms over all processes"}
    for name in ("memoryMb", "processes"):
        assert mechanisms[name].startswith(held[told["memoryAndProcesses"]["heldBy"]])
    for name in ("openFiles", "fileBytes"):
        assert mechanisms[name].startswith("rlimit of each process")


@pytest.mark.usefixtures("walls")
def test_doctor_says_what_programs_miss_where_fewer_walls_stand(command: Command, without_bubblewrap: str):
    done = command("doctor", PATH=without_bubblewrap)
    assert re.search(r"^MISSING +bubblewrap: not installed\n +install it: ", done.stdout, re.MULTILINE)
    if os.getuid() == 0:
        assert done.returncode == 1
        assert "MISSING  processes: the kernel does not count root's" in done.stdout
        return
    assert done.returncode == 0
    assert "programs run behind landlock, seccomp. While a wall above is missing they have no /dev/shm" in done.stdout


def test_doctor_says_how_to_get_a_missing_wall_and_fails(command: Command, without_bubblewrap: str):
    done = command("doctor", below=WITHOUT_LANDLOCK, PATH=without_bubblewrap)
    assert done.returncode == 1
    assert re.search(r"^MISSING +bubblewrap: not installed\n +install it: ", done.stdout, re.MULTILINE)
    assert "--isolation none" in done.stdout
