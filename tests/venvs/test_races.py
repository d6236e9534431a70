"""Several servers on one base path."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.venvs.conftest import BUBBLEWRAP, Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

_PROGRAM = Path(__file__).parent / "works_at_random.py"


async def test_four_servers_at_work_at_random_lose_nothing(opened: Open, base: Path, pytestconfig: pytest.Config):
    each = 50 if pytestconfig.getoption("--long") else 6
    # One after the other would be the same for the outcome; at once is what is tested.
    servers = [_start(base, seed, each) for seed in range(4)]
    for server in servers:
        _, said = server.communicate(timeout=500)
        assert server.returncode == 0, said
    async with opened() as venvs:
        await all_is_tidy(venvs, base)
        await each_holds_what_it_says(venvs, base)


def _start(base: Path, seed: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(_PROGRAM), str(base), str(seed), str(count), BUBBLEWRAP or ""]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
