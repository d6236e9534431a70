"""What can be asked of the command line, and how it answers what can't."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from mcp_python_executor.settings import VARIABLES
from tests.cli.conftest import Command


def test_help_explains_every_setting_and_command(command: Command):
    told = command("--help")
    assert told.returncode == 0
    assert all(variable.flag in told.stdout for variable in VARIABLES.values())
    assert all(re.search(rf"^    {name} ", told.stdout, re.MULTILINE) for name in ("run", "venv", "doctor"))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["run", "--nonsense"]])
def test_help_and_argument_errors_import_nothing_slow(arguments: list[str]):
    program = (
        "import sys\nfrom mcp_python_executor.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('slow:', {'anyio', 'mcp', 'structlog'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("slow: set()\n")


def test_the_version_is_the_installed_one(command: Command):
    assert command("--version").stdout == f"mcp-python-executor {version('mcp-python-executor')}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense; see mcp-python-executor --help"),
        (["run"], "nothing to run; give a program with -c CODE, or a file"),
        (["run", "/no/such/file.py"], "'/no/such/file.py' is not a file; give a program with -c CODE, or a file"),
        (["venv"], "the following arguments are required: COMMAND; see mcp-python-executor venv --help"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(command: Command, arguments: list[str], line: str):
    done = command(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (64, "", f"mcp-python-executor: {line}\n")


@pytest.mark.parametrize("arguments", [[], ["run", "-c", "1"], ["venv", "list"], ["doctor"]])
def test_a_bad_setting_stops_every_command_with_one_line(command: Command, arguments: list[str]):
    done = command(*arguments, MAX_MEMORY_MB="lots")
    assert (done.returncode, done.stdout) == (78, "")
    assert re.fullmatch(r"mcp-python-executor: MAX_MEMORY_MB='lots': must be a whole number .*\n", done.stderr)


def test_a_setting_may_stand_before_the_command_or_after_it(command: Command):
    for arguments in (["--log-level", "loud", "doctor"], ["doctor", "--log-level", "loud"]):
        done = command(*arguments)
        assert (done.returncode, done.stderr.split(":")[1]) == (78, " --log-level='loud'")
