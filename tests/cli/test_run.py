"""Running programs from the terminal: real programs behind real walls."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, SECONDS, WITHOUT_LANDLOCK, Command

pytestmark = pytest.mark.usefixtures("walls")


def test_a_program_runs_and_the_walls_it_ran_behind_are_told(command: Command):
    done = command("run", "-c", "print(6 * 7)")
    assert (done.returncode, done.stdout) == (0, "42\n")
    told = r"mcp-python-executor: ok in \d+ ms, venv 'default', behind bubblewrap, namespaces, landlock, seccomp\n"
    assert re.fullmatch(told, done.stderr)


def test_the_value_of_a_last_expression_is_shown(command: Command):
    assert command("run", "-c", "x = 6\nx * 7").stdout == "42\n"


def test_a_program_gets_standard_input_and_arguments(command: Command):
    program = "import sys\nprint(sys.argv[1:], input(), input())"
    done = command("run", "-c", program, "--", "-v", "--venv", "x", stdin="a\nb\n")
    assert done.stdout == "['-v', '--venv', 'x'] a b\n"


def test_a_file_runs_in_its_own_folder(command: Command, tmp_path: Path):
    (tmp_path / "helper.py").write_text("WORD = 'sibling'")
    script = tmp_path / "script.py"
    script.write_text("import sys, helper\nprint(helper.WORD, open('helper.py').read(), sys.argv[1:])")
    done = command("run", str(script), "--venv", "default", "--fast")
    assert done.stdout == "sibling WORD = 'sibling' ['--fast']\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("import sys; sys.exit(3)", 3),
        ("raise SystemExit", 0),
        ("raise ValueError('no')", 1),
        ("import os; os.abort()", 128 + signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
        ("import os; os.kill(os.getpid(), 35)", 128 + 35),
    ],
)
def test_the_exit_status_is_the_programs(command: Command, program: str, status: int):
    assert command("run", "-c", program).returncode == status


def test_a_failing_program_shows_its_traceback_once(command: Command):
    done = command("run", "-c", "def f():\n    return 1 / 0\nf()")
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError: division by zero") == 1
    assert "mcp_python_executor/" not in done.stderr


def test_a_timeout_ends_the_program_with_124_and_names_the_setting(command: Command):
    done = command("run", "--execution-timeout-ms", "300", "-c", "print('begun', flush=True)\nwhile True: pass")
    assert (done.returncode, done.stdout) == (124, "begun\n")
    assert "EXECUTION_TIMEOUT_MS" in done.stderr


def test_what_a_program_prints_is_shown_whole(command: Command):
    done = command("run", "--max-output-bytes", "256", "-c", "for n in range(100_000): print(n)")
    assert done.stdout.splitlines() == [str(number) for number in range(100_000)]


def test_the_files_that_a_program_made_are_kept_and_named(command: Command, tmp_path: Path):
    program = (
        "import os\nopen('a.txt', 'w').write('here')\nopen(os.environ['OUTPUT_PATH'] + '/b.txt', 'w').write('out')"
    )
    done = command("run", "-c", program, OUTPUT_PATH=str(tmp_path / "out"))
    wrote = dict(re.findall(r"wrote '(.*)' \((\d) bytes\)", done.stderr))
    assert sorted(Path(path).name for path in wrote) == ["a.txt", "b.txt"]
    assert {Path(path).read_text() for path in wrote} == {"here", "out"}
    assert str(tmp_path / "out" / "b.txt") in wrote
    shutil.rmtree(next(Path(path).parents[1] for path in wrote if path.endswith("a.txt")))


def test_an_environment_that_does_not_exist_is_told_with_those_that_do(command: Command):
    done = command("run", "--venv", "defualt", "-c", "1")
    assert (done.returncode, done.stdout) == (64, "")
    assert re.match(r"mcp-python-executor: .*'defualt'.*'default'", done.stderr)


def test_without_walls_a_program_is_refused_with_what_to_install_and_the_other_way(
    command: Command, without_bubblewrap: str
):
    done = command("run", "-c", "print('ran')", below=WITHOUT_LANDLOCK, PATH=without_bubblewrap)
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == 1
    assert "bubblewrap" in done.stderr
    assert "--isolation none" in done.stderr


@pytest.mark.usefixtures("walls")
def test_without_bubblewrap_the_other_walls_stand_and_are_told(command: Command, without_bubblewrap: str):
    done = command("run", "-c", "print(open('/etc/passwd').read())", PATH=without_bubblewrap)
    if os.getuid() == 0:  # whose processes the kernel does not count
        assert (done.returncode, done.stdout) == (69, "")
        assert "start the server as an ordinary user" in done.stderr
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert "PermissionError" in done.stderr
    assert done.stderr.endswith("behind landlock, seccomp\n")


def test_isolation_none_runs_without_walls_and_says_so(command: Command, without_bubblewrap: str):
    done = command("run", "--isolation", "none", "-c", "print('ran')", PATH=without_bubblewrap)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "without walls" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_too(environment: dict[str, str], number: signal.Signals, tmp_path: Path):
    program = "import os, time\nprint('begun', flush=True)\nopen(os.environ['OUTPUT_PATH'] + '/f', 'w')\ntime.sleep(60)"
    with subprocess.Popen(
        [*COMMAND, "run", "--output-path", str(tmp_path / "out"), "-c", program],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number


def test_when_nobody_reads_the_output_any_more_the_program_ends(environment: dict[str, str]):
    with subprocess.Popen(
        [*COMMAND, "run", "-c", "while True: print('y')"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(SECONDS) == 128 + signal.SIGPIPE
