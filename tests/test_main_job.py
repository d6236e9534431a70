"""The main job: a client makes an environment, installs a plotting stack, runs a program, and finds its plot."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import ImageContent, TextContent

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

PROGRAM = """
import os
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

frame = pd.DataFrame({"value": [float(line) for line in sys.stdin]})
frame["square"] = np.square(frame["value"])
print(frame.to_string(index=False))
out = os.environ.get("OUTPUT_PATH", ".")
os.makedirs(out, exist_ok=True)
frame.plot(x="value", y="square")
plt.savefig(os.path.join(out, "squares.png"))
print("total", frame["square"].sum())
"""


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_plot_made_by_a_model_lies_on_the_host(tmp_path: Path, era: str, base: Path):
    output = tmp_path / "out"
    environment = {**os.environ, "VENVS_BASE_PATH": str(base), "OUTPUT_PATH": str(output)}
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_python_executor"], env=environment)
    name = f"science-{era}"
    async with Client(server, mode=era) as client:

        async def call(tool: str, **arguments: Any) -> Any:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            return result

        created = await call("create_venv", venvName=name, description="numbers and plots")
        assert created.structured_content["venv"]["packageCount"] == 0
        installed = await call("install_packages", venvName=name, packages="numpy, pandas, matplotlib")
        added = {change["name"] for change in installed.structured_content["added"]}
        assert {"numpy", "pandas", "matplotlib"} <= added
        ran = await call("execute_python", venvName=name, code=PROGRAM, inputData=["1", "2", "3"], timeoutMs=30000)
        assert ran.structured_content["status"] == "ok"
        text = next(block.text for block in ran.content if isinstance(block, TextContent))
        assert "total 14.0" in text
        assert any(isinstance(block, ImageContent) for block in ran.content)
        (file,) = ran.structured_content["files"]
        assert file["path"] == str(output / "squares.png")
        await call("delete_venv", venvName=name)
    assert (output / "squares.png").read_bytes().startswith(b"\x89PNG")
