"""Looking at environments and walls from the terminal."""

import json
import re

import pytest

from tests.cli.conftest import WITHOUT_LANDLOCK, Command


def test_venv_list_shows_a_table(command: Command):
    lines = command("venv", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PYTHON", "PACKAGES", "LAST", "USED", "STATUS", "DESCRIPTION"]
    assert any(line.startswith("default (default)") and "ready" in line for line in lines[1:])


def test_venv_list_as_json_has_the_objects_of_the_tool(command: Command):
    venvs = {venv["name"]: venv for venv in json.loads(command("venv", "list", "--json").stdout)}
    assert venvs["default"]["isDefault"]
    assert venvs["default"]["status"] == "ready"


@pytest.mark.usefixtures("walls")
def test_doctor_says_which_walls_stand(command: Command):
    done = command("doctor")
    assert done.returncode == 0
    assert all(re.search(rf"^ok +{name}: ", done.stdout, re.MULTILINE) for name in ("bubblewrap", "landlock"))
    assert json.loads(command("doctor", "--json").stdout)["strict"] is True


@pytest.mark.usefixtures("walls")
def test_doctor_says_what_programs_miss_where_fewer_walls_stand(command: Command, without_bubblewrap: str):
    done = command("doctor", PATH=without_bubblewrap)
    assert done.returncode == 0
    assert re.search(r"^MISSING +bubblewrap: not installed\n +install it: ", done.stdout, re.MULTILINE)
    assert "programs run behind landlock, seccomp. While a wall above is missing they have no /dev/shm" in done.stdout


def test_doctor_says_how_to_get_a_missing_wall_and_fails(command: Command, without_bubblewrap: str):
    done = command("doctor", below=WITHOUT_LANDLOCK, PATH=without_bubblewrap)
    assert done.returncode == 1
    assert re.search(r"^MISSING +bubblewrap: not installed\n +install it: ", done.stdout, re.MULTILINE)
    assert "--isolation none" in done.stdout
