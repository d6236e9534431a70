"""Which walls stand, from the terminal."""

import json
import os
import re

import pytest

from tests.cli.conftest import WITHOUT_LANDLOCK, Command


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
