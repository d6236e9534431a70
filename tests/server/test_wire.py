"""The wire: private, never blocking, and lines whole however they come. Claims are tried in processes of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.server.wire import read_lines, write_line

CLAIMING = """
import os, subprocess, sys
from mcp_python_executor.server.wire import claim_wire
wire = claim_wire()
"""


def claimed(program: str, stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE) -> tuple[bytes, bytes]:
    """What reaches standard output and standard error when `program` runs after a claim; its input is a line."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMING + program], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    ) as process:
        out, err = process.communicate(b"wire\n" if stdin == subprocess.PIPE else None, timeout=30)
    return out, err


def test_what_is_printed_by_any_means_goes_to_standard_error():
    program = "print(1, flush=True); os.write(1, b'2\\n'); subprocess.run([sys.executable, '-c', 'print(3)'])"
    assert claimed(program + "; os.system('echo 4')") == (b"", b"1\n2\n3\n4\n")


def test_standard_input_is_empty_for_children_and_for_us():
    child = "subprocess.run([sys.executable, '-c', 'import sys; print(repr(sys.stdin.read()))'])"
    assert claimed(f"print(repr(sys.stdin.read()), flush=True); {child}") == (b"", b"''\n''\n")


def test_the_wire_stays_open_on_what_standard_input_and_output_were():
    assert claimed("os.write(wire.outgoing, b'got ' + os.read(wire.incoming, 100))") == (b"got wire\n", b"")


def test_children_do_not_inherit_the_wire():
    # The fourth is the directory that ls reads.
    assert claimed("subprocess.run(['ls', '/proc/self/fd'], close_fds=False)") == (b"", b"0\n1\n2\n3\n")


def test_files_and_the_null_device_can_be_the_wire(tmp_path: Path):
    (tmp_path / "in").write_bytes(b"from a file")
    (tmp_path / "out").write_bytes(b"first, ")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "ab") as target:
        copying = "os.write(wire.outgoing, os.read(wire.incoming, 100))"
        assert claimed(copying, stdin=source.fileno(), stdout=target.fileno()) == (None, b"")
    assert (tmp_path / "out").read_bytes() == b"first, from a file"
    assert claimed("os.write(2, os.read(wire.incoming, 100))", stdin=subprocess.DEVNULL) == (b"", b"")


def test_closed_standard_streams_are_told_in_one_line():
    program = """
import os, sys
from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.server.wire import claim_wire
os.close(0)
try:
    claim_wire()
except ExecutorError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert done.stderr.startswith(b"standard input or output can't be used: Bad file descriptor; ")
    assert done.stderr.count(b"\n") == 1


def test_the_end_that_the_parent_shares_stays_blocking():
    """A pipe or terminal that others write to, a shell's for one, must not fail their writes with EAGAIN."""
    read, write = os.pipe()
    try:
        claimed("", stdout=write)
        assert os.get_blocking(write)
    finally:
        os.close(read)
        os.close(write)


@contextmanager
def pipe() -> Generator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    with ExitStack() as ends:
        ends.callback(os.close, read)
        ends.callback(os.close, write)
        yield read, write


@contextmanager
def socket_pair() -> Generator[tuple[int, int]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours.fileno(), theirs.fileno()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b\nc", b"\n"], [b"ab", b"c"]),
        ([b"a\n\nb"], [b"a", b"", b"b"]),
        ([b"\n"], [b""]),
        ([b"a\r\n"], [b"a\r"]),
    ],
)
async def test_lines_are_whole_however_they_are_cut(pieces: list[bytes], lines: list[bytes]):
    read, write = os.pipe()
    os.set_blocking(read, False)
    got: list[bytes] = []

    async def write_pieces() -> None:
        for piece in pieces:
            os.write(write, piece)
            await anyio.wait_writable(write)
        os.close(write)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_pieces)
            got += [line async for line in read_lines(read)]
    os.close(read)
    assert got == lines


@pytest.mark.anyio
@pytest.mark.parametrize("connect", [pipe, socket_pair])
async def test_a_line_larger_than_any_buffer_passes_a_slow_reader(
    connect: Callable[[], AbstractContextManager[tuple[int, int]]],
):
    line = b"ab" * 4_000_000
    with connect() as (read, write), anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_line, write, line)
            assert await anext(read_lines(read)) == line


@pytest.mark.anyio
async def test_a_reader_that_has_gone_is_an_error_and_not_a_wait():
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError), anyio.fail_after(10):
        await write_line(write, b"a")
    os.close(write)


@pytest.mark.anyio
async def test_waiting_for_a_reader_can_be_cancelled():
    with pipe() as (_, write), anyio.move_on_after(0.05) as scope:
        await write_line(write, bytes(1_000_000))
    assert scope.cancelled_caught
