"""`python -m benchmarks.watchdog FILE [serve]`: an event loop that notes how late it is, idle or serving the product.

Each line of FILE is a delay: when it was over (CLOCK_MONOTONIC), and its seconds.
"""

import gc
import sys
import time
from typing import TextIO

import anyio

from mcp_python_executor import logs
from mcp_python_executor.server import app
from mcp_python_executor.server.wire import Wire, claim_wire
from mcp_python_executor.service import open_service
from mcp_python_executor.settings import load

_TICK_SECONDS = 0.001
# Below it are those of the kernel's timers.
_NOTED_SECONDS = 0.0005


async def watch(file: TextIO) -> None:
    """Notes each delay of this loop. Never returns."""
    while True:
        due = time.monotonic() + _TICK_SECONDS
        await anyio.sleep(_TICK_SECONDS)
        now = time.monotonic()
        if now - due > _NOTED_SECONDS:
            file.write(f"{now} {now - due}\n")


async def serve(file: TextIO, wire: Wire) -> None:
    """Serves as the product does, the watch in the same loop."""
    settings = load({})
    logs.configure(level=settings.log_level, form=settings.log_format, file=settings.log_file)
    async with anyio.create_task_group() as tasks, open_service(settings) as service:
        gc.freeze()
        tasks.start_soon(watch, file)
        await app.serve(service, wire)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    with open(sys.argv[1], "w", buffering=1) as noted:  # a line at a time: they are read meanwhile
        if sys.argv[2:] == ["serve"]:
            anyio.run(serve, noted, claim_wire())
        else:
            anyio.run(watch, noted)
