"""A real server passes any amount of output in little memory."""

import re
from pathlib import Path

import pytest

from mcp_python_executor.limits import MEBIBYTE
from tests.server.conftest import StartServer
from tests.server.raw import raw_client

pytestmark = pytest.mark.usefixtures("walls")


def peak(pid: int) -> int:
    """Bytes that a process held at most since it was last asked."""
    status = Path(f"/proc/{pid}/status").read_text()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
    return 1024 * int(re.findall(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)[0])


def test_a_hundred_megabytes_pass_a_server_and_its_listener_in_a_tenth_of_that(server: StartServer):
    code = """
import os
piece = b"line of output\\n" * 4096
for _ in range({}):
    for number in (1, 2): os.write(number, piece)
"""
    with raw_client(server()) as client:
        client.handshake()
        for pieces in (20, 20):  # the first calls are where what is used all along is allocated
            client.answer(client.call("execute_python", token=1, code=code.format(pieces)))
        peak(client.process.pid)
        before = peak(client.process.pid)
        heard = 0
        asked = client.call("execute_python", token=2, code=code.format(900))
        message = client.receive()
        while message.get("id") != asked:
            heard += message.get("method") == "notifications/progress"
            message = client.receive()
        grown = peak(client.process.pid) - before
        result = message["result"]["structuredContent"]
        totals: list[int] = []
        for source in ("stdout", "stderr"):
            page = client.answer(client.call("read_output", executionId=result["executionId"], source=source))
            totals.append(page["result"]["structuredContent"]["totalBytes"])
        client.leave()
    assert (result["status"], totals) == ("ok", [900 * 4096 * 15] * 2)
    assert heard
    assert grown < 10 * MEBIBYTE
