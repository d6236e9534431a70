"""Each wall is there: with it taken down exactly the attacks of its table succeed. Only with --long: it takes long."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.escapes.table import WITHOUT

pytestmark = pytest.mark.usefixtures("walls")

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("wall", WITHOUT)
def test_without_a_wall_exactly_its_attacks_succeed(wall: str):
    assert WITHOUT[wall]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=native",
        "-rxfE",
        "--without-wall",
        wall,
        str(Path(__file__).parent),
    ]
    tried = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert tried.returncode == 0, tried.stdout
    succeeded = {line for line in tried.stdout.splitlines() if line.endswith(f"without {wall}")}
    assert len(succeeded) == len(WITHOUT[wall]), tried.stdout
