"""Logs: where they go and what a line looks like. Each in a process of its own, for logging is one per process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_python_executor import logs
from mcp_python_executor.errors import SettingsError

PROGRAM = """
import logging, pathlib, sys, structlog
from mcp_python_executor import logs
form, level, file = sys.argv[1:]
logs.configure(level=level, form=form, file=pathlib.Path(file) if file else None)
log = structlog.get_logger("server")
log.debug("unheard")
log.info("tool_called", tool="list_venvs", text="two\\nlines", odd="\\ud800", nothing="")
logging.getLogger("library").warning("foreign %s", "words")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def logged(form: str, level: str = "info", file: str = "") -> tuple[str, str]:
    """What PROGRAM wrote to standard output and to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, level, file], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout, done.stderr


def test_a_json_line_has_event_level_time_logger_and_keys():
    out, err = logged("json")
    assert out == ""
    first, second, third = (json.loads(line) for line in err.splitlines())
    assert first["timestamp"].endswith("Z")
    del first["timestamp"]
    assert first == {
        "event": "tool_called",
        "level": "info",
        "logger": "server",
        "tool": "list_venvs",
        "text": "two\nlines",
        "odd": "\ud800",
        "nothing": "",
    }
    assert (second["event"], second["level"], second["logger"]) == ("foreign words", "warning", "library")
    assert third["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_text_line_quotes_what_would_break_it_and_shows_a_traceback_below():
    lines = logged("text")[1].splitlines()
    assert lines[0].split(" ", 1)[1] == (
        r'info server tool_called tool=list_venvs text="two\nlines" odd="\ud800" nothing=""'
    )
    assert lines[1].split(" ", 1)[1] == 'warning library "foreign words"'
    assert lines[2].split(" ", 1)[1] == "error server broken"
    assert lines[3] == "Traceback (most recent call last):"


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_only_lines_of_the_level_or_worse_are_written(level: str, count: int):
    assert len(logged("json", level)[1].splitlines()) == count


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_log_file_is_appended_to_and_standard_error_stays_empty(form: str, tmp_path: Path):
    file = tmp_path / "server.log"
    for _ in range(2):
        assert logged(form, "error", str(file)) == ("", "")
    assert file.read_text().count("division by zero") == 2


def test_a_log_file_that_cannot_be_opened_is_told_with_its_variable(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"^LOG_FILE='.*/none/log' can't be opened: No such file"):
        logs.configure(level="info", form="json", file=tmp_path / "none" / "log")


def test_a_reader_who_reads_no_more_stops_nobody():
    program = """
import os, sys, time
from mcp_python_executor import logs
import structlog
logs.configure(level="info", form="json", file=None)
log = structlog.get_logger()
for number in range(5000):
    log.info("event", number=number, text="x" * 100)
os.write(1, b"went on")
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.wait(30) == 0  # nobody has read a line yet
        assert process.stdout
        assert process.stdout.read() == "went on"
        assert process.stderr
        assert json.loads(process.stderr.readline())["number"] == 0


def test_a_reader_who_does_not_read_delays_neither_the_program_nor_its_end():
    program = """
import structlog
from mcp_python_executor import logs
logs.configure(level="info", form="json", file=None)
for _ in range(5000):
    structlog.get_logger().info("line", filler="x" * 100)
print("done", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read() == b"done\n"
        assert process.wait(timeout=30) == 0


def test_a_server_imports_nothing_for_lines_in_colour():
    # As the server does it: logs before all that has a logger.
    code = "import sys; from mcp_python_executor import logs, service; from mcp_python_executor.server import app; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print('structlog' in sys.modules, 'rich' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "True False\n"
