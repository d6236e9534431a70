"""A program has no network, and never a Unix socket of the host's."""

import errno
import os
import re
import select
import socket
from pathlib import Path

import pytest

from mcp_python_executor.settings import NetworkAccess
from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_LOOPBACKS = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1")}
_UNIX, _INTERNET = 1, {2, 10}
# Of streams, datagrams, raw, reliable datagrams, sequenced packets, DCCP and packets; AF_MAX is below 64.
_EVERY_SOCKET = """
import socket
opened, pairs, errors, tried = set(), set(), set(), 0
for family in range(64):
    for kind in (1, 2, 3, 4, 5, 6, 10):
        for protocol in (0, 1, 255):
            tried += 1
            for found, open_one in ((opened, socket.socket), (pairs, socket.socketpair)):
                try:
                    open_one(family, kind, protocol)
                    found.add(family)
                except OSError as error:
                    if open_one is socket.socket: errors.add(error.errno)
print("tried", tried, "opened", sorted(opened), "pairs", sorted(pairs), "errors", sorted(errors))
"""


def is_quiet(listener: socket.socket) -> bool:
    """Whether nothing has come to `listener`: neither a connection nor a datagram."""
    return not select.select([listener], [], [], 0.01)[0]


def bound(family: socket.AddressFamily, host: str, kind: socket.SocketKind) -> socket.socket:
    """A socket that others of this machine reach, unless the machine has no such loopback."""
    listener = socket.socket(family, kind)
    try:
        listener.bind((host, 0))
    except OSError:
        listener.close()
        pytest.skip(f"this machine has no {host}")
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


async def test_no_family_of_sockets_opens_but_connected_unix_pairs(open_bench: OpenBench):
    async with open_bench() as bench:
        told = await attack(bench, _EVERY_SOCKET)
    assert f"tried 1344 opened [] pairs [{_UNIX}] errors [{errno.EACCES}]" in told


async def test_with_the_network_open_only_internet_sockets_open(open_bench: OpenBench):
    async with open_bench(network_access=NetworkAccess.FULL) as bench:
        told = await attack(bench, _EVERY_SOCKET)
    found = re.search(r"tried 1344 opened \[([\d, ]+)\] pairs \[1\] ", told)
    assert found, told
    opened = {int(family) for family in found[1].split(", ")}
    assert socket.AF_INET in opened
    assert opened <= _INTERNET


@pytest.mark.parametrize("loopback", _LOOPBACKS)
async def test_a_listener_on_the_hosts_loopback_is_not_reached(open_bench: OpenBench, loopback: str):
    family, host = _LOOPBACKS[loopback]
    with bound(family, host, socket.SOCK_STREAM) as listener:
        port = listener.getsockname()[1]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        code = f"""
import socket, urllib.request
try: socket.create_connection(({host!r}, {port}), 1)
except OSError as error: print("kept out", type(error).__name__, error.errno)
try: urllib.request.urlopen({url!r}, timeout=1)
except OSError as error: print("kept out", type(error.reason).__name__, error.reason.errno)
"""
        async with open_bench() as bench:
            told = await attack(bench, code)
        assert told.count(f"kept out PermissionError {errno.EACCES}\n") == 2
        assert is_quiet(listener)


@pytest.mark.parametrize("loopback", _LOOPBACKS)
async def test_a_datagram_reaches_the_hosts_loopback_only_with_the_network_open(open_bench: OpenBench, loopback: str):
    family, host = _LOOPBACKS[loopback]
    with bound(family, host, socket.SOCK_DGRAM) as listener:
        code = f"""
import socket
query = bytes.fromhex("123401000001000000000000") + b"\\6canary\\7example\\0\\0\\1\\0\\1"
for send in (lambda one, to: one.sendto(query, to), lambda one, to: one.sendmsg([query], [], 0, to),
             lambda one, to: (one.connect(to), one.send(query))):
    try: send(socket.socket({family:d}, socket.SOCK_DGRAM), {listener.getsockname()!r})
    except OSError as error: print(error)
"""
        async with open_bench() as bench:
            await attack(bench, code)
        assert is_quiet(listener)
        async with open_bench(network_access=NetworkAccess.FULL) as bench:
            await attack(bench, code)
        assert [b"canary" in listener.recv(100) for _ in range(3)] == [True] * 3
        assert is_quiet(listener)


async def test_no_name_is_resolved(open_bench: OpenBench):
    code = f"""
import socket, subprocess
for ask in (
    lambda: socket.getaddrinfo("example.com", 80), lambda: socket.getaddrinfo({socket.gethostname()!r}, 80),
    lambda: socket.gethostbyname("example.com"), lambda: socket.gethostbyname_ex("localhost"),
    lambda: socket.gethostbyaddr("127.0.0.1"),
):
    try: print("RESOLVED", ask())
    except (socket.gaierror, socket.herror) as error: print("not resolved", error)
try: print("asked", subprocess.run(["getent", "ahosts", "example.com"], capture_output=True).stdout)
except OSError: print("asked b''")
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("not resolved") == 5
    assert "RESOLVED" not in told
    assert "asked b''" in told


@pytest.mark.parametrize("network", NetworkAccess)
async def test_an_abstract_socket_of_the_hosts_is_not_reached(open_bench: OpenBench, network: NetworkAccess):
    name = f"\0canary-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as stream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets,
    ):
        listeners = {"stream": stream, "datagram": datagrams, "packet": packets}
        for kind, listener in listeners.items():
            listener.bind(f"{name}-{kind}")
            if kind != "datagram":
                listener.listen()
        code = f"""
import socket
for kind, number in (("stream", 1), ("datagram", 2), ("packet", 5)):
    for open_one in (socket.socket, lambda *what: socket.socketpair(*what)[0]):
        for reach in (
            lambda one, to: one.connect(to), lambda one, to: (one.bind(""), one.listen(), one.connect(to)),
            lambda one, to: one.sendto(b"x", to), lambda one, to: one.sendmsg([b"x"], [], 0, to),
        ):
            try: print("REACHED", reach(open_one(socket.AF_UNIX, number), {name!r} + "-" + kind))
            except OSError as error: print("KEPT OUT", error)
"""
        async with open_bench(network_access=network) as bench:
            told = await attack(bench, code)
        assert told.count("KEPT OUT") + told.count("REACHED") == 24
        assert [kind for kind, listener in listeners.items() if not is_quiet(listener)] == []


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
