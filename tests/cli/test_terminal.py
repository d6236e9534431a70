"""Standard streams as shells and supervisors hand them over: terminals, closed ones, full disks, slow readers."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, SECONDS

pytestmark = pytest.mark.usefixtures("walls")


def test_at_a_terminal_nothing_waits_for_input(environment: dict[str, str]):
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "run", "-c", "input()"],
            stdin=theirs,
            env=environment,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert b"EOFError" in done.stderr


def test_serving_at_a_terminal_says_so_and_ends_with_it(environment: dict[str, str]):
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            COMMAND, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment, start_new_session=True
        ) as process:
            assert process.stderr
            assert b"serving MCP on standard input and output" in process.stderr.readline()
            os.close(theirs)
            theirs = -1
            os.close(ours)
            ours = -1
            process.wait(SECONDS)
            process.stderr.read()
    finally:
        for descriptor in (ours, theirs):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.mark.parametrize(
    ("closing", "status", "told"),
    [("<&-", 1, b"EOFError"), (">&-", 0, b"ok in "), ("2>&-", 0, b"")],
)
def test_a_closed_stream_counts_as_an_empty_one(environment: dict[str, str], closing: str, status: int, told: bytes):
    program = "input()" if closing == "<&-" else "print(1)"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *COMMAND, "run", "-c", program],
        stdin=subprocess.DEVNULL,
        env=environment,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == status
    assert told in done.stderr
    assert b"mcp_python_executor/" not in done.stderr


@pytest.mark.parametrize("arguments", [["run", "-c", "print(1)"], ["run", "-c", "1"], ["doctor"], ["venv", "list"]])
def test_output_that_cannot_be_written_is_told_in_one_line(environment: dict[str, str], arguments: list[str]):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        70,
        b"mcp-python-executor: output can't be written: No space left on device\n",
    )


def test_a_reader_that_made_the_pipe_nonblocking_still_gets_all(environment: dict[str, str]):
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen(
        [*COMMAND, "run", "-c", "print('x' * 1_000_000)"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        os.close(theirs)
        with open(ours, "rb") as output:
            assert output.read() == b"x" * 1_000_000 + b"\n"
        assert process.wait(SECONDS) == 0
