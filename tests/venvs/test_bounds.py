"""The watch over a build, of a process that stands for one."""

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.venvs.bounds import LIMITS, Bounds

pytestmark = pytest.mark.anyio


@pytest.fixture
def theirs() -> Generator[None]:
    """A large file in memory that some other program has."""
    file = Path("/dev/shm", f"theirs-{os.getpid()}")
    try:
        file.write_bytes(bytes(96 * MEBIBYTE))
        yield
    finally:
        file.unlink()


@pytest.mark.usefixtures("theirs")
async def test_what_others_have_in_temporary_directories_is_not_of_a_build_without_walls(tmp_path: Path):
    bounds = Bounds(tmp_path, replace(LIMITS, memory_bytes=64 * MEBIBYTE))
    async with await anyio.open_process(["/bin/sh", "-c", "cat; true"]) as process:
        with anyio.move_on_after(1) as looked:
            await bounds.watch(process.pid)
    assert looked.cancelled_caught
    assert not bounds.exceeded
