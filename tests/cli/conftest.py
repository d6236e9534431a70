"""The command line as a real process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mcp_python_executor.settings import VARIABLES

Command = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = [sys.executable, "-m", "mcp_python_executor"]
# Generous: a command that takes this long hangs.
SECONDS = 120
WITHOUT_LANDLOCK = [sys.executable, str(Path(__file__).parent.parent / "without_landlock.py")]


@pytest.fixture
def environment(base: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {v.name for v in VARIABLES.values()}}
    return kept | {"VENVS_BASE_PATH": str(base)}


@pytest.fixture
def command(environment: dict[str, str]) -> Command:
    """Runs the command line with arguments, an input and additional variables; `below` is a command to run it by."""

    def run(
        *arguments: str, stdin: str = "", below: Sequence[str] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*below, *COMMAND, *arguments],
            input=stdin,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def without_bubblewrap(tmp_path: Path) -> str:
    """A PATH on which all is found but bubblewrap."""
    for name in ("cat", "env", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    return str(tmp_path)
