"""What happens while a call runs, as MCP progress notifications."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.mcpserver import Context

from mcp_python_executor.server.render import clean

# A silent run tells that it still runs: hosts give up on a call that they hear nothing of.
_HEARTBEAT_SECONDS = 10.0
# Pieces that come faster are told together: a program may print a million times a second.
_INTERVAL_SECONDS = 0.1
# What is kept for a client that reads slower than the program prints; the result has the output anyway.
_KEPT_CHARACTERS = 65536
# How long a finished call waits for a slow client to take the last of it.
_LAST_WORDS_SECONDS = 0.5


class _Backlog:
    """What is still to be told, bounded: the oldest goes first. What is told at once has `between` in between."""

    def __init__(self, between: str) -> None:
        self._between = between
        self._pieces: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        self.arrived = anyio.Event()
        self.ended = anyio.Event()

    def add(self, text: str) -> None:
        """Keeps `text` to be told. Never blocks."""
        self._pieces.append(text)
        self._characters += len(text)
        while self._characters > _KEPT_CHARACTERS and len(self._pieces) > 1:
            self._drop(len(self._pieces.popleft()))
        if self._characters > _KEPT_CHARACTERS:
            self._drop(self._characters - _KEPT_CHARACTERS)
            self._pieces[0] = self._pieces[0][-_KEPT_CHARACTERS:]
        self.arrived.set()

    def _drop(self, characters: int) -> None:
        self._characters -= characters
        self._dropped += characters

    def take(self) -> str:
        """All that is to be told, which then is told."""
        text = self._between.join(self._pieces)
        if self._dropped:
            text = f"[{self._dropped} characters left out]\n{text}"
        self._pieces.clear()
        self._characters = self._dropped = 0
        if not self.ended.is_set():
            self.arrived = anyio.Event()
        return text

    def end(self) -> None:
        """Tells that nothing more will be added."""
        self.ended.set()
        self.arrived.set()


@asynccontextmanager
async def progress(
    context: Context[Any, Any] | None, *, between: str = ""
) -> AsyncGenerator[Callable[[str], None] | None]:
    """What takes each piece of news and tells it to the client, in order; None when the client did not ask.

    Several that come at once are told in one, with `between` in between. Taking never waits for the client: whoever
    drains a program's output may call it.
    """
    if context is None or "progress_token" not in (context.request_context.meta or {}):
        yield None
        return
    backlog = _Backlog(between)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_Teller(context, backlog).run)
        try:
            yield backlog.add
        except Exception as error:  # noqa: BLE001 - raised again below: leaving the group with it would wrap it
            failure = error
        backlog.end()
        tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_SECONDS
    if failure is not None:
        raise failure


class _Teller:
    def __init__(self, context: Context[Any, Any], backlog: _Backlog) -> None:
        self._context = context
        self._backlog = backlog
        self._began = anyio.current_time()
        self._last = 0.0

    async def run(self) -> None:
        """Tells all that comes, until the backlog has ended."""
        while True:
            with anyio.move_on_after(_HEARTBEAT_SECONDS):
                await self._backlog.arrived.wait()
            text = self._backlog.take()
            if not text and self._backlog.ended.is_set():
                return
            seconds = anyio.current_time() - self._began
            await self._tell(text or f"still running after {seconds:.0f} s")
            with anyio.move_on_after(_INTERVAL_SECONDS):
                await self._backlog.ended.wait()

    async def _tell(self, text: str) -> None:
        # With the seconds since the call began, for the number must grow each time.
        self._last = max(round(anyio.current_time() - self._began, 3), self._last + 0.001)
        await self._context.report_progress(self._last, message=clean(text))
