"""The environments from the terminal: real ones, made and changed by real commands."""

import json
import os
import platform
import pty
import re
import subprocess
import venv as standard
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, SECONDS, Command

NAME = "terminal"


@pytest.fixture
def made(command: Command) -> str:
    """An environment of this file's own, empty."""
    command("venv", "delete", NAME)
    done = command("venv", "create", NAME, "--description", "for the tests")
    assert done.returncode == 0, done.stderr
    return NAME


def test_the_list_is_a_table(command: Command):
    lines = command("venv", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PYTHON", "PACKAGES", "LAST", "USED", "STATUS", "DESCRIPTION"]
    assert any(line.startswith("default (default)") and "ready" in line for line in lines[1:])


def test_the_list_as_json_is_what_the_tool_gives(command: Command):
    venvs = {venv["name"]: venv for venv in json.loads(command("venv", "list", "--json").stdout)["venvs"]}
    assert venvs["default"]["isDefault"]
    assert venvs["default"]["status"] == "ready"


def test_an_environment_is_made_described_and_deleted(command: Command, made: str):
    assert f"terminal  {platform.python_version()}  0" in re.sub(" +", "  ", command("venv", "list").stdout)
    described = command("venv", "describe", made, "for all", "--json")
    assert json.loads(described.stdout)["venv"]["description"] == "for all"
    assert command("venv", "delete", made).stdout == "deleted terminal\n"
    again = command("venv", "delete", made)
    assert (again.returncode, again.stdout) == (64, "")
    assert "venv 'terminal' does not exist" in again.stderr


def test_a_description_stays_in_its_line_and_does_nothing_to_the_terminal(command: Command, made: str):
    command("venv", "describe", made, "one\ntwo\tthree \x1b[31mred\x9b0m")
    lines = command("venv", "list").stdout.splitlines()
    assert [line for line in lines if re.match("terminal .* ready +one two three \ufffd\\[31mred\ufffd0m$", line)]
    refused = command("venv", "create", "\x1b[2J\nup").stderr
    assert len(refused.splitlines()) == 1
    assert "\x1b" not in refused


def test_an_older_servers_environment_whose_name_looks_like_an_option_is_named_after_two_dashes(
    command: Command, environment: dict[str, str]
):
    standard.create(Path(environment["VENVS_BASE_PATH"], "-old"), symlinks=True)
    told = command("venv", "packages", "-old")
    assert told.returncode == 64
    assert "NAME VERSION REQUESTED" in " ".join(command("venv", "packages", "--", "-old").stdout.split())
    assert command("venv", "delete", "--", "-old").stdout == "deleted -old\n"


def test_packages_come_and_go_and_come_back(command: Command, made: str):
    installed = command("venv", "install", made, "six", "iniconfig>=2")
    assert [line.split()[:2] for line in installed.stdout.splitlines()] == [["+", "iniconfig"], ["+", "six"]]
    assert "nothing to do" in command("venv", "install", made, "six").stdout
    assert [line.split()[0] for line in command("venv", "packages", made).stdout.splitlines()] == [
        *("NAME", "iniconfig", "six")
    ]
    removed = json.loads(command("venv", "uninstall", made, "six", "--json").stdout)
    assert [one["name"] for one in removed["removed"]] == ["six"]
    assert command("venv", "rollback", made).stdout.startswith("rolled back terminal\n+ six ")
    command("venv", "install", made, "toml; python_version < '3'")
    assert command("venv", "rollback", made).stdout == "rolled back terminal\nno package is another\n"
    assert command("run", "--venv", made, "-c", "import six").returncode == 0


def test_an_environment_whose_files_are_gone_is_repaired(command: Command, environment: dict[str, str], made: str):
    command("venv", "install", made, "six")
    marker = Path(environment["VENVS_BASE_PATH"], made, "bin", "python")
    marker.parent.chmod(0o755)
    marker.unlink()
    listed = command("venv", "list").stdout.splitlines()
    assert [line for line in listed if re.match(r"terminal .* broken +for the tests$", line)]
    assert listed[-1].startswith("terminal is broken: its files are gone; repair it in a terminal with ")
    repaired = command("venv", "repair", made)
    assert repaired.returncode == 0, repaired.stderr
    assert repaired.stdout.startswith("repaired terminal: Python ")
    assert command("run", "--venv", made, "-c", "import six").returncode == 0


def test_the_default_environment_is_not_deleted_by_mistake(command: Command):
    done = command("venv", "delete", "default")
    assert (done.returncode, done.stdout) == (64, "")
    assert "--confirm" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "../up"], "can't name an environment"),
        (["install", NAME, "-r", "x"], "unrecognized arguments"),
        (["install", NAME, "--", "-r"], "is an option"),
        (["create", "other", "--python", "/no/such/python"], "is no file"),
        (["packages", "nowhere"], "does not exist"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line(command: Command, arguments: list[str], told: str):
    done = command("venv", *arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


def test_a_person_at_a_terminal_sees_what_is_being_done(environment: dict[str, str], made: str):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "venv", "install", made, "six"],
        env=environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        assert process.wait(SECONDS) == 0
        assert process.stdout
        assert process.stdout.read().startswith(b"+ six ")
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert "resolving" in seen
