"""Serving an MCP client on standard input and output, as a host starts it."""

import argparse
import gc
import os
from importlib import import_module

from mcp_python_executor.cli.terminal import note, settings_of
from mcp_python_executor.server.wire import Wire, claim_wire
from mcp_python_executor.settings import Settings


def serve(options: argparse.Namespace) -> int:
    """Serves until the client is gone. The wire is claimed before anything else can speak on it."""
    wire = claim_wire()
    gc.disable()  # what imports make stays: looking for garbage in it takes a sixth of the start
    if os.isatty(wire.incoming):
        note("serving MCP on standard input and output, as a host starts it; --help tells what else it can do")
    settings = settings_of(options)
    import anyio

    from mcp_python_executor import logs

    logs.configure(level=settings.log_level, form=settings.log_format, file=settings.log_file)
    anyio.run(_serve_until_closed, settings, wire)
    return 0


async def _serve_until_closed(settings: Settings, wire: Wire) -> None:
    from anyio.to_thread import run_sync

    from mcp_python_executor.service import open_service

    async with open_service(settings) as service:
        # It takes 65 bare interpreter starts: meanwhile the service goes on getting ready.
        app = await run_sync(import_module, "mcp_python_executor.server.app")
        gc.freeze()  # nor is it looked through while others wait for their answers
        gc.enable()
        await app.serve(service, wire)
