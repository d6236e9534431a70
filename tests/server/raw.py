"""A client made of two pipes, which can do what a good client never does."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from mcp import StdioServerParameters

# Long enough for a start on a busy machine; only a failing test waits so long.
DEADLINE_SECONDS = 60


class RawClient:
    """Sends what it is told to and receives messages one by one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._to_server, self._from_server = process.stdin, process.stdout
        self._buffer = b""
        self._last_id = 0

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._to_server.write(data)

    def send(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> None:
        """Sends a notification, or with `id=` a request."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}, **more}
        self.write(json.dumps(message).encode() + b"\n")

    def call(self, tool: str, *, token: int | None = None, **arguments: Any) -> int:
        """Asks for a tool call, with progress if there is a `token`; gives the request's id."""
        self._last_id += 1
        meta = {} if token is None else {"_meta": {"progressToken": token}}
        self.send("tools/call", {"name": tool, "arguments": arguments, **meta}, id=self._last_id)
        return self._last_id

    def receive(self) -> dict[str, Any]:
        """The next message."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while b"\n" not in self._buffer:
            ready = select.select([self._from_server], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, "the server said nothing"
            piece = os.read(self._from_server.fileno(), 65536)
            assert piece, "the server closed the wire"
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def answer(self, request_id: int | str | None) -> dict[str, Any]:
        """The answer to a request; what comes before it is passed over."""
        while True:
            message = self.receive()
            if "method" not in message and message["id"] == request_id:
                return message

    def handshake(self) -> None:
        """Opens a session of the era before 2026."""
        info = {"name": "raw", "version": "1"}
        self.send("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}, id=0)
        self.answer(0)
        self.send("notifications/initialized")

    def close(self) -> None:
        """Ends the wire towards the server, as a client does that leaves."""
        self._to_server.close()

    def leave(self) -> None:
        """Leaves as a client should, and waits for the server to end well."""
        self.close()
        assert self.process.wait(DEADLINE_SECONDS) == 0


@contextmanager
def raw_client(parameters: StdioServerParameters, *, ignoring: signal.Signals | None = None) -> Generator[RawClient]:
    """A client of a server started for it, which is gone at the end, whatever it took; it may start `ignoring` one."""

    def set_signals() -> None:
        # What runs us in the background may have had us ignore it, and a child inherits that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if ignoring:
            signal.signal(ignoring, signal.SIG_IGN)

    process = subprocess.Popen(
        [parameters.command, *parameters.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], **(parameters.env or {})},
        bufsize=0,
        preexec_fn=set_signals,
    )
    with process:
        try:
            yield RawClient(process)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
