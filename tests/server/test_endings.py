"""However the client goes, with a program running: the server and all it started are gone within two seconds."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.server.conftest import StartServer
from tests.server.holding import HOLDING, is_held
from tests.server.raw import RawClient, raw_client

pytestmark = pytest.mark.usefixtures("walls")

# What the contract promises.
GONE_SECONDS = 2.0


def start_holding(client: RawClient) -> None:
    """Returns when the holding program runs."""
    client.handshake()
    client.call("execute_python", token=1, **HOLDING)
    while client.receive().get("params", {}).get("message") != "held\n":
        pass


class Family:
    """A process and all below it, each held by a descriptor that tells its end even when its number is used again."""

    def __init__(self, pid: int) -> None:
        self.members: dict[int, int] = {}
        for each in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
            with suppress(ProcessLookupError):  # it ended meanwhile
                self.members[os.pidfd_open(each)] = each

    def left(self, seconds: float) -> list[int]:
        """Those that have not ended after so long."""
        deadline = time.monotonic() + seconds
        waiting = dict(self.members)
        while waiting and (remaining := deadline - time.monotonic()) > 0:
            for ended in select.select(list(waiting), [], [], remaining)[0]:
                del waiting[ended]
        for descriptor in self.members:
            os.close(descriptor)
        return list(waiting.values())


def close(client: RawClient) -> None:
    client.close()


def send(number: signal.Signals) -> Callable[[RawClient], None]:
    def sender(client: RawClient) -> None:
        client.process.send_signal(number)

    sender.__name__ = number.name
    return sender


@pytest.mark.parametrize("end", [close, send(signal.SIGTERM), send(signal.SIGINT), send(signal.SIGHUP)])
def test_with_a_program_running_all_is_gone(server: StartServer, tmp_path: Path, end: Callable[[RawClient], None]):
    with raw_client(server(OUTPUT_PATH=tmp_path)) as client:
        start_holding(client)
        family = Family(client.process.pid)
        assert is_held(tmp_path)
        end(client)
        assert family.left(GONE_SECONDS) == []
        assert not is_held(tmp_path)
        assert client.process.wait(0) == 0


def test_with_a_client_that_was_killed_all_is_gone(server: StartServer, tmp_path: Path):
    parameters = server(OUTPUT_PATH=tmp_path)
    program = """
import sys
from mcp import StdioServerParameters
from tests.server.raw import raw_client
from tests.server.test_endings import start_holding
with raw_client(StdioServerParameters.model_validate_json(sys.argv[1])) as client:
    start_holding(client)
    print(client.process.pid, flush=True)
    client.process.wait()
"""
    root = Path(__file__).parents[2]
    arguments = [sys.executable, "-c", program, parameters.model_dump_json()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=root) as host:
        assert host.stdout is not None
        family = Family(int(host.stdout.readline()))
        assert is_held(tmp_path)
        host.kill()
        assert family.left(GONE_SECONDS) == []
        assert not is_held(tmp_path)


def test_a_client_that_does_not_read_holds_neither_its_program_nor_the_end_up(server: StartServer, tmp_path: Path):
    code = """
import os
for number in range(1000): print('x' * 10_000, flush=True)
open(os.environ['OUTPUT_PATH'] + '/through', 'w').close()
"""
    with raw_client(server(OUTPUT_PATH=tmp_path, MAX_OUTPUT_BYTES="1000000")) as client:
        client.handshake()
        for token in range(5):
            client.call("execute_python", token=token, code=code)
        deadline = time.monotonic() + 60
        while not (tmp_path / "through").exists():
            assert time.monotonic() < deadline, "the programs wait for the client"
            time.sleep(0.01)
        family = Family(client.process.pid)
        client.close()
        assert family.left(GONE_SECONDS) == []
        assert client.process.wait(0) == 0


def test_a_client_that_reads_no_more_is_one_that_left(server: StartServer, tmp_path: Path):
    with raw_client(server(OUTPUT_PATH=tmp_path)) as client:
        start_holding(client)
        family = Family(client.process.pid)
        assert client.process.stdout is not None
        client.process.stdout.close()
        client.send("ping", id="unheard")
        assert family.left(GONE_SECONDS) == []


def test_a_signal_that_the_server_was_started_to_ignore_ends_nothing(server: StartServer):
    with raw_client(server(), ignoring=signal.SIGHUP) as client:
        client.handshake()
        client.process.send_signal(signal.SIGHUP)
        client.send("ping", id="after")
        assert client.answer("after")["result"] == {}
        client.leave()


def test_an_empty_wire_is_served_to_its_end(server: StartServer):
    with raw_client(server()) as client:
        client.leave()
        assert client.process.stdout is not None
        assert client.process.stdout.read() == b""


def test_what_is_no_message_is_answered_and_the_next_message_is_served(server: StartServer):
    with raw_client(server()) as client:
        client.handshake()
        client.write(b"{\n\n[]\n\xff\xfe\n" + b'{"jsonrpc": "2.0", "id": "bad", "method": 5}\n')
        told = [client.receive() for _ in range(4)]
        assert sorted((message["error"]["code"], message["id"]) for message in told if message["id"] is None) == [
            (-32700, None),
            (-32700, None),
            (-32600, None),
        ]
        assert [message["error"]["code"] for message in told if message["id"] == "bad"] == [-32600]
        client.write(b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}\n')
        assert client.answer("\ufffd")["result"] == {}
        client.leave()


def test_code_with_a_lone_surrogate_is_run_and_answered(server: StartServer):
    with raw_client(server()) as client:
        client.handshake()
        answer = client.answer(client.call("execute_python", code="len('\ud800')"))
        assert answer["result"]["structuredContent"]["result"] == "1"
        client.leave()
