"""MCP over the wire: JSON-RPC messages, one a line, between a client and the SDK's server."""

import json
import signal
from contextlib import suppress
from typing import Any, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel.server import Server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from mcp_python_executor.server.render import clean
from mcp_python_executor.server.wire import Wire, read_lines, write_line

# How long answers may still flow once the client has closed its side or the server was told to end. A client that has
# gone fails them at once; one that does not read must not hold the end up.
_LAST_WORDS_SECONDS = 0.5

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _heeded() -> list[signal.Signals]:
    """The signals that end the server: not those that whoever started us has told us to ignore, as nohup(1) does."""
    return [number for number in _ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


async def run_on_wire(server: Server[Any], wire: Wire) -> None:
    """Serves the one client at the other end of `wire`, until it closes it or a signal asks for the end.

    Requests in progress are then cancelled. What a client sends that is no message is answered, never dropped: it would
    wait for an answer for ever.
    """
    await _Connection(server, wire).run()


class _Connection:
    def __init__(self, server: Server[Any], wire: Wire) -> None:
        self._server = server
        self._wire = wire
        self._reading = anyio.CancelScope()
        self._writing = anyio.CancelScope()

    async def run(self) -> None:
        to_server, from_client = anyio.create_memory_object_stream[SessionMessage | Exception]()
        to_client, from_server = anyio.create_memory_object_stream[SessionMessage]()
        async with anyio.create_task_group() as inputs:
            inputs.start_soon(self._end_on_signal)
            async with anyio.create_task_group() as outputs:
                outputs.start_soon(self._write, from_server)
                inputs.start_soon(self._read, to_server, to_client.clone())
                await self._server.run(from_client, to_client, self._server.create_initialization_options())
                self._end()
            inputs.cancel_scope.cancel()

    def _end(self) -> None:
        """Ends as end-of-file does: the server sees no more messages and cancels what it is doing."""
        self._reading.cancel()
        self._writing.deadline = min(self._writing.deadline, anyio.current_time() + _LAST_WORDS_SECONDS)

    async def _end_on_signal(self) -> None:
        with anyio.open_signal_receiver(*_heeded()) as signals:
            async for _ in signals:
                self._end()

    async def _read(
        self,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        to_client: MemoryObjectSendStream[SessionMessage],
    ) -> None:
        async with to_client, anyio.create_task_group() as refusals:
            with to_server, self._reading:
                async for line in read_lines(self._wire.incoming):
                    match parse(line):
                        case None:
                            pass
                        case JSONRPCError() as refusal:
                            # In a task of its own: a client that does not read must not keep us from seeing its end.
                            refusals.start_soon(_send, to_client, SessionMessage(refusal))
                        case SessionMessage() as message:
                            await to_server.send(message)
            self._end()

    async def _write(self, from_server: MemoryObjectReceiveStream[SessionMessage]) -> None:
        # Closed when writing ends, so that what is sent afterwards fails at once instead of waiting.
        with from_server, self._writing, suppress(OSError):
            async for message in from_server:
                await write_line(self._wire.outgoing, serialize(message.message))
        self._end()


async def _send(stream: MemoryObjectSendStream[SessionMessage], message: SessionMessage) -> None:
    with suppress(anyio.BrokenResourceError):
        await stream.send(message)


def parse(line: bytes) -> SessionMessage | JSONRPCError | None:
    """The message in `line`; the error that answers it, if it holds none; None for an empty line."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError:
        return _mend(line) if line.strip() else None


def _mend(line: bytes) -> SessionMessage | JSONRPCError:
    """A message whose text alone is at fault (a lone surrogate, a byte that is not UTF-8), or its refusal."""
    try:
        value = clean(json.loads(line.decode("utf-8", "replace")))
    except (ValueError, RecursionError) as error:
        return _refusal(None, PARSE_ERROR, f"not JSON: {error}; send one JSON-RPC message a line, in UTF-8")
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_python(value, by_name=False))
    except ValidationError:
        pass
    if isinstance(value, list):
        return _refusal(None, INVALID_REQUEST, "batches are not part of MCP; send one JSON-RPC message a line")
    return _refusal(_request_id(value), INVALID_REQUEST, "not a JSON-RPC 2.0 request, notification or response")


def _request_id(value: object) -> str | int | None:
    if not isinstance(value, dict) or "method" not in value:  # a response is not answered
        return None
    found = cast("dict[str, object]", value).get("id")
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def _refusal(request_id: str | int | None, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))


def serialize(message: JSONRPCMessage) -> bytes:
    """`message` as it goes over the wire, with any lone surrogate replaced: JSON in UTF-8 has none."""
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except PydanticSerializationError:
        return to_json(clean(message.model_dump(by_alias=True, exclude_unset=True)), inf_nan_mode="null")
