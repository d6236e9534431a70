"""A program has no network, and never a Unix socket of the host's."""

import socket
from pathlib import Path

import pytest

from mcp_python_executor.settings import NetworkAccess
from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# By number, for not every build of Python knows all names.
FAMILIES = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16, "packet": 17, "bluetooth": 31, "alg": 38, "vsock": 40}


@pytest.mark.parametrize("family", FAMILIES)
async def test_no_family_of_sockets_opens(open_bench: OpenBench, family: str):
    code = f"""
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
    try:
        socket.socket({FAMILIES[family]}, kind)
        print("OPENED")
    except OSError as error:
        print(error)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "OPENED" not in told
    assert told.count("Permission denied") == 4


async def test_a_listener_on_the_hosts_loopback_is_not_reached(open_bench: OpenBench):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        port = server.getsockname()[1]
        async with open_bench() as bench:
            await attack(bench, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nprint('IN')")
            await attack(bench, f"import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}', timeout=1)")
        with pytest.raises(TimeoutError):
            server.accept()


async def test_with_the_network_open_still_no_unix_socket_of_the_hosts(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    path = str(output / "docker.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(0.01)
        async with open_bench(output_path=output, network_access=NetworkAccess.FULL) as bench:
            told = await attack(bench, f"import socket\nsocket.socket(socket.AF_UNIX).connect({path!r})\nprint('IN')")
        assert "IN\n" not in told
        with pytest.raises(TimeoutError):
            server.accept()


async def test_with_the_network_open_the_loopback_is_reached(open_bench: OpenBench):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with open_bench(network_access=NetworkAccess.FULL) as bench:
            told = await attack(
                bench, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\nprint('IN')"
            )
    assert "IN\n" in told


async def test_connected_pairs_and_pipes_still_work(open_bench: OpenBench):
    code = """
import asyncio, socket
a, b = socket.socketpair()
a.send(b"x"); print(b.recv(1))
async def main():
    p = await asyncio.create_subprocess_exec("echo", "sub", stdout=-1)
    print(await p.stdout.read())
asyncio.run(main())
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "b'x'" in told
    assert "b'sub\\n'" in told


async def test_a_datagram_pair_reaches_no_socket_of_the_hosts(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    path = str(output / "log.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(0.01)
        code = f"import socket\na, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(b'x', {path!r})"
        for network in NetworkAccess:
            async with open_bench(output_path=output, network_access=network) as bench:
                await attack(bench, code)
        with pytest.raises(TimeoutError):
            server.recv(1)
