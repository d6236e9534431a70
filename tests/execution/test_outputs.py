import os
from collections.abc import Callable
from pathlib import Path

import anyio
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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(output.read, listener, no_overflow)
        for piece in pieces:
            os.write(write_end, piece)
            await anyio.wait_all_tasks_blocked()
        os.close(write_end)
    return output


async def test_short_output_is_whole_and_leaves_no_file(tmp_path: Path):
    output = await read(tmp_path / "whole", [b"a" * 50, b"b" * 50])
    assert output.text == "a" * 50 + "b" * 50
    assert not output.truncated
    assert not (tmp_path / "whole").exists()


async def test_long_output_keeps_head_and_tail_and_the_file_all_of_it(tmp_path: Path):
    pieces = [bytes([97 + number]) * 30 for number in range(20)]
    output = await read(tmp_path / "whole", pieces)
    head, middle, tail = output.text.split("\n")
    assert head == "a" * 30 + "b" * 20
    assert tail == "s" * 20 + "t" * 30
    assert middle == "... 500 bytes left out ..."
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
        if output.truncated:
            assert path.read_bytes() == data
            assert len(output.text) <= inline + 40
        else:
            assert output.text == data.decode(errors="replace")
    finally:
        path.unlink(missing_ok=True)
