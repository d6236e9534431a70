"""MCP over the wire: JSON-RPC messages, one a line, between a client and the SDK's server."""

import json
import math
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import anyio
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
        self._outgoing = _Outgoing(wire.outgoing, self._end)
        self._incoming = _Incoming(wire.incoming, self._end)

    async def run(self) -> None:
        async with anyio.create_task_group() as signals:
            signals.start_soon(self._end_on_signal)
            async with anyio.create_task_group() as refusals:
                # In tasks of their own: a client that does not read must not keep us from seeing its end.
                self._incoming.refuse = partial(refusals.start_soon, self._outgoing.tell)
                await self._server.run(self._incoming, self._outgoing, self._server.create_initialization_options())
                self._end()
            signals.cancel_scope.cancel()

    def _end(self) -> None:
        """Ends as end-of-file does: the server sees no more messages and cancels what it is doing."""
        self._incoming.end()
        self._outgoing.end()

    async def _end_on_signal(self) -> None:
        with anyio.open_signal_receiver(*_heeded()) as signals:
            async for _ in signals:
                self._end()


class _Stream:
    """What the SDK asks of either of its streams beside messages: nothing, for the wire stays open."""

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        pass


class _Incoming(_Stream):
    """The client's messages until it closes its side, which calls `on_end`; what is no message goes to `refuse`."""

    refuse: Callable[[SessionMessage], object]

    def __init__(self, descriptor: int, on_end: Callable[[], None]) -> None:
        self._lines, self._on_end = read_lines(descriptor), on_end
        self._is_over = False
        self._waiting = anyio.CancelScope()

    def end(self) -> None:
        """As if the client had closed its side."""
        self._is_over = True
        self._waiting.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        while (line := await self._line()) is not None:
            match parse(line):
                case None:
                    pass
                case JSONRPCError() as refusal:
                    self.refuse(SessionMessage(refusal))
                case SessionMessage() as message:
                    return message
        self._on_end()
        raise StopAsyncIteration

    receive = __anext__

    async def _line(self) -> bytes | None:
        if not self._is_over:
            with anyio.CancelScope() as self._waiting:
                return await anext(self._lines, None)
        return None


class _Outgoing(_Stream):
    """Messages to the client, one after another. A client that reads no more has gone, which calls `on_end`."""

    def __init__(self, descriptor: int, on_end: Callable[[], None]) -> None:
        self._descriptor, self._on_end = descriptor, on_end
        self._turn = anyio.Lock(fast_acquire=True)
        self._is_broken = False
        self._deadline = math.inf
        self._writing = anyio.CancelScope()

    def end(self) -> None:
        """What is written still has a moment."""
        self._deadline = min(self._deadline, anyio.current_time() + _LAST_WORDS_SECONDS)
        self._writing.deadline = self._deadline

    async def send(self, item: SessionMessage, /) -> None:
        """Writes `item`, wholly though its sender be cancelled.

        Raises:
            BrokenResourceError: nobody reads any more.
        """
        async with self._turn:
            self._is_broken = self._is_broken or not await self._write(serialize(item.message))
        if self._is_broken:
            self._on_end()
            raise anyio.BrokenResourceError

    async def _write(self, line: bytes) -> bool:
        with anyio.CancelScope(deadline=self._deadline, shield=True) as self._writing, suppress(OSError):
            await write_line(self._descriptor, line)
            return True
        return False

    async def tell(self, item: SessionMessage) -> None:
        """Sends `item` if anybody reads."""
        with suppress(anyio.BrokenResourceError):
            await self.send(item)


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
