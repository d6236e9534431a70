"""Every supported Python on this machine runs programs alike."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from mcp_python_executor.execution.model import Interpreter, Status
from mcp_python_executor.venvs.pythons import directories
from tests.bench import OpenBench

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


def pythons() -> dict[str, Path]:
    """The interpreters there are, one of each minor version from the oldest supported on."""
    found = {
        python.name.removeprefix("python"): python
        for directory in directories(Path.home())
        for python in directory.glob("python3.*")
        if re.fullmatch(r"python3\.(9|\d\d)", python.name)
    }
    return found | {f"{sys.version_info.major}.{sys.version_info.minor}": Path(sys.executable)}


def environment(python: Path, directory: Path) -> Interpreter:
    """An environment of `python` with nothing installed."""
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", python, directory], check=True)
    asked = "import json, platform, sys\nprint(json.dumps([sys.base_prefix, platform.python_version()]))"
    base, version = json.loads(subprocess.check_output([directory / "bin" / "python", "-c", asked]))
    return Interpreter(python.name, directory / "bin" / "python", directory, Path(base), version)


@pytest.mark.parametrize(("minor", "python"), pythons().items(), ids=[*pythons()])
async def test_a_program_runs_alike(open_bench: OpenBench, tmp_path: Path, minor: str, python: Path):
    async with open_bench(within=environment(python, tmp_path / "environment")) as bench:
        shown = await bench.run(
            "import asyncio, sys\nawait asyncio.sleep(0)\ndisplay('x')\n'%d.%d' % sys.version_info[:2]"
        )
        failed = await bench.run(
            "def f():\n    raise ValueError('no')\n\ntry:\n    1 / 0\nexcept ArithmeticError:\n    f()"
        )
        stopped = await bench.run("while True: pass", timeout_seconds=0.5)
    assert (shown.status, shown.stdout, shown.result) == (Status.OK, "'x'\n", f"'{minor}'"), shown
    assert failed.error
    assert (failed.error.type, failed.error.message, failed.error.line) == ("ValueError", "no", 2)
    assert "ZeroDivisionError: division by zero" in failed.error.traceback
    assert "inside" not in failed.error.traceback
    assert stopped.error
    assert (stopped.status, stopped.error.line) == (Status.TIMEOUT, 1)
