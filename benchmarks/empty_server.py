"""`python -m benchmarks.empty_server`: a server with one tool that answers at once, on the SDK's own transport.

With the argument `wire` it is on the product's. What its calls take is what the protocol and the client take alone.
"""

import sys

import anyio
from mcp.server import MCPServer

from mcp_python_executor.server.stdio import run_on_wire
from mcp_python_executor.server.wire import claim_wire

server = MCPServer("empty", log_level="ERROR")


@server.tool()
async def nothing() -> str:
    """Answers."""
    return "1"


if __name__ == "__main__":
    if sys.argv[1:] == ["wire"]:
        anyio.run(run_on_wire, server._lowlevel_server, claim_wire())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    else:
        server.run("stdio")
