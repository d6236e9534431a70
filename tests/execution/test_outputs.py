import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.execution.outputs import Output

pytestmark = pytest.mark.anyio


def no_overflow() -> None:
    raise AssertionError("an overflow was told")


async def read(
    file: Path,
    pieces: list[bytes],
    *,
    inline: int = 100,
    kept: int = 10_000,
    listener: Callable[[str], None] | None = None,
) -> Output:
    """What comes of `pieces` written to a pipe one by one."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    output = Output(read_end, file, inline=inline, kept=kept)
    output.tell(listener, no_overflow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(output.read)
        for piece in pieces:
            await anyio.to_thread.run_sync(os.write, write_end, piece)  # a pipe may hold less
            await anyio.wait_all_tasks_blocked()
        os.close(write_end)
    output.end()
    return output


async def test_short_output_is_whole_and_leaves_no_file(tmp_path: Path):
    output = await read(tmp_path / "whole", [b"a" * 50, b"b" * 50])
    assert output.text == "a" * 50 + "b" * 50
    assert not output.truncated
    assert output.whole == b"a" * 50 + b"b" * 50
    assert not (tmp_path / "whole").exists()


async def test_long_output_keeps_head_and_tail_and_the_file_all_of_it(tmp_path: Path):
    pieces = [bytes([97 + number % 26]) * 3000 for number in range(30)]
    output = await read(tmp_path / "whole", pieces, kept=100_000)
    head, middle, tail = output.text.split("\n")
    assert (head, tail) == ("a" * 50, "d" * 50)
    assert middle == "... 89,900 bytes left out at byte 50 ..."
    assert output.whole == tmp_path / "whole"
    assert (tmp_path / "whole").read_bytes() == b"".join(pieces)


async def test_a_cut_lies_between_lines(tmp_path: Path):
    lines = [f"line {number}\n" for number in range(100)]
    output = await read(tmp_path / "whole", ["".join(lines).encode()])
    head, _, tail = output.text.partition("... ")
    told, _, tail = tail.partition(" ...\n")
    assert all(line in lines for line in [*head.splitlines(True), *tail.splitlines(True)])
    assert told == f"{sum(map(len, lines)) - len(head) - len(tail)} bytes left out at byte {len(head)}"


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["10%", "\r20%", "\r30%\n", "done"], "30%\ndone"),
        (["10%\r", "20%\r", "30%\r\n"], "30%\n"),
        (["a\r\nb\r\n"], "a\nb\n"),
        (["\r 1/2", "\r 2/2\r"], " 2/2"),
        (["\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain\x1b[A\n"], "red plain\n"),
        (["one\rtwo\rthree"], "three"),
        (["\r\r\r"], ""),
    ],
)
async def test_a_line_that_is_written_over_shows_its_last_state(tmp_path: Path, pieces: list[str], shown: str):
    output = await read(tmp_path / "whole", [piece.encode() for piece in pieces])
    assert output.text == shown
    assert output.whole == "".join(pieces).encode()


async def test_a_long_progress_bar_is_one_line(tmp_path: Path):
    pieces = ["".join(f"\r{n:6}/100000" for n in range(start, start + 2500)).encode() for start in (0, 2500, 5000)]
    output = await read(tmp_path / "whole", pieces, kept=1_000_000)
    assert output.text == "  7499/100000"
    assert not output.truncated
    assert (tmp_path / "whole").read_bytes() == b"".join(pieces)


async def test_no_character_is_cut_in_halves(tmp_path: Path):
    output = await read(tmp_path / "whole", ["é€😀".encode() * 40], inline=101)
    assert "\N{REPLACEMENT CHARACTER}" not in output.text


async def test_a_listener_hears_whole_characters(tmp_path: Path):
    heard: list[str] = []
    await read(tmp_path / "whole", [b"\xe2\x82", b"\xac"], listener=heard.append)
    assert heard == ["€"]


async def test_what_is_no_text_is_replaced(tmp_path: Path):
    output = await read(tmp_path / "whole", [b"\xff\xfe"])
    assert output.text == "\N{REPLACEMENT CHARACTER}" * 2


@given(data=st.binary(max_size=500), inline=st.integers(2, 50))
async def test_head_and_tail_are_of_the_data_whatever_it_is(data: bytes, inline: int):
    path = Path("/dev/shm") / f"output-{os.getpid()}"
    try:
        output = await read(path, [data] if data else [], inline=inline)
        assert output.total == len(data)
        assert output.whole == data
        if output.truncated:
            assert len(output.text) <= inline + 60
        elif b"\r" not in data and b"\x1b" not in data:
            assert output.text == data.decode(errors="replace")
    finally:
        path.unlink(missing_ok=True)


async def test_what_no_writer_is_left_of_is_read_without_its_end(tmp_path: Path):
    """As where the kernel still has a pipe open whose last writer runs no more."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    output = Output(read_end, tmp_path / "whole", inline=100, kept=10_000)
    os.write(write_end, b"a line\nand no line")
    output.end()
    output.end()
    os.close(write_end)
    assert (output.text, output.total) == ("a line\nand no line", 18)
