"""What is told of the tools follows from the settings in force."""

from pathlib import Path

import pytest

from mcp_python_executor.server import descriptions
from mcp_python_executor.server.tools import tools
from tests.variables import settings_from


@pytest.mark.parametrize(
    ("variables", "destructive", "open_world"),
    [
        ({}, False, False),
        ({"OUTPUT_PATH": "/home/u/out"}, True, False),
        ({"NETWORK_ACCESS": "full"}, False, True),
        ({"ISOLATION": "none"}, True, True),
    ],
)
def test_what_a_program_may_do_is_what_the_settings_open(
    variables: dict[str, str], destructive: bool, open_world: bool
):
    hints = tools(settings_from(variables))["execute_python"].definition.annotations
    assert hints
    assert (hints.read_only_hint, hints.destructive_hint) == (False, destructive)
    assert (hints.idempotent_hint, hints.open_world_hint) == (False, open_world)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "Limits: 30 s, 512 MB of memory, 32768 bytes of each output shown, no network."),
        ({}, "os.environ['OUTPUT_PATH']: it is fresh for each execution."),
        ({}, "the program can't read the user's files; a script reads its own folder."),
        ({"EXECUTION_TIMEOUT_MS": "1500", "MAX_MEMORY_MB": "64"}, "Limits: 1.5 s, 64 MB of memory, "),
        ({"NETWORK_ACCESS": "full"}, " shown, with network."),
        ({"ISOLATION": "none"}, " shown, no isolation: a program has all the user's rights."),
        ({"ISOLATION": "none"}, "the program reads whatever the user may read."),
        ({"OUTPUT_PATH": "/home/u/out"}, "it is /home/u/out on the user's machine, and every execution sees it."),
        ({"READ_PATHS": "/data:/more"}, "the program reads /data, /more and nothing else; a script reads its own"),
        ({"SCRIPT_ROOTS": "/work:/play"}, "the absolute path of a script below /work, /play, run in "),
    ],
)
def test_execute_python_is_described_with_the_settings_in_force(variables: dict[str, str], told: str):
    assert told in descriptions.execute_python(settings_from(variables))


def test_the_instructions_tell_the_places_and_limits_in_force(tmp_path: Path):
    given = {
        "OUTPUT_PATH": str(tmp_path / "out"),
        "READ_PATHS": str(tmp_path / "data"),
        "SCRIPT_ROOTS": str(tmp_path / "scripts"),
        "EXECUTION_TIMEOUT_MS": "7000",
    }
    told = descriptions.instructions(settings_from(given))
    assert f"under os.environ['OUTPUT_PATH']: it is {tmp_path}/out on" in told
    assert f"of the user's files the program reads {tmp_path}/data and nothing else" in told
    assert f"a script below {tmp_path}/scripts." in told
    assert "Limits: 7 s, " in told
    assert "no network" in told


def test_without_isolation_the_instructions_say_so():
    told = descriptions.instructions(settings_from({"ISOLATION": "none"}))
    assert "the program reads whatever the user may read" in told
    assert "no isolation" in told


def test_the_instructions_name_the_default_environment():
    assert "the environment 'mine'" in descriptions.instructions(settings_from({"DEFAULT_VENV_NAME": "mine"}))
