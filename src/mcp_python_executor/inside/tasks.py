"""Where the coroutines of a program wait, told as faulthandler tells a thread's stack: no stack has them meanwhile."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

# Of a program with more, these tell enough.
_TASKS = 10
_DEPTH = 50


def tell_on(number: int, descriptor: int) -> None:
    """Has the signal `number` write them to `descriptor`, once the interpreter comes to it."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        asyncio = sys.modules.get("asyncio")
        loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001 - as every library does that looks for one
        if asyncio is None or loop is None:
            return
        waiting = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in sorted(waiting, key=lambda task: (len(task.get_name()), task.get_name()))[:_TASKS]:
            lines = [f"Task {task.get_name()!a} (most recent call first):", *list(_frames(task.get_coro()))[::-1], ""]
            os.write(descriptor, "\n".join(lines).encode("utf-8", "replace"))

    signal.signal(number, tell)


def _frames(coroutine: Any) -> Iterator[str]:
    """Each frame that waits for the next one, the outermost first."""
    for _ in range(_DEPTH):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
