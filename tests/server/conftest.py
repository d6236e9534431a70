"""A real server: how it is started, and clients that talk to it as hosts do."""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from mcp import Client, ClientSession, StdioServerParameters
from mcp_types import CallToolResult

from mcp_python_executor.server import render
from mcp_python_executor.server.outputs import Output
from mcp_python_executor.server.schema import schema_of

StartServer = Callable[..., StdioServerParameters]
Connect = Callable[..., AbstractAsyncContextManager[Client]]

# What a server needs of this machine: to reach the package index, and to have its coverage measured.
_PASSED_ON = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_DEFAULT_INDEX", "UV_CACHE_DIR", "HTTPS_PROXY", "NO_PROXY"),
    *("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"),
)


def closed(schema: Any) -> Any:
    """`schema`, by which no object has a key that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    entries = {key: closed(value) for key, value in cast("dict[str, Any]", schema).items()}
    return {"additionalProperties": False, **entries} if "properties" in entries else entries


@pytest.fixture(scope="session", autouse=True)
def checked_results() -> Iterator[None]:
    """Every result that a test renders, or a client gets, has the content that the tool's schema publishes.

    The SDK's client checks it too, but not where a call failed, and lets other keys pass.
    """
    render_result, call_tool = render._result, ClientSession.call_tool  # pyright: ignore[reportPrivateUsage]

    def rendered(text: str, output: Output, **rest: Any) -> CallToolResult:
        result = render_result(text, output, **rest)
        jsonschema.validate(result.structured_content, closed(schema_of(type(output))))
        return result

    async def called(session: ClientSession, name: str, *arguments: Any, **rest: Any) -> Any:
        result = await call_tool(session, name, *arguments, **rest)
        if result.structured_content is not None:
            tools = (await session.list_tools()).tools
            (schema,) = [tool.output_schema for tool in tools if tool.name == name]
            jsonschema.validate(result.structured_content, closed(schema))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_result", rendered)
        patch.setattr(ClientSession, "call_tool", called)
        yield


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that a test's server starts with: an empty store that all tests share."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "VENVS_BASE_PATH": str(tmp_path_factory.mktemp("venvs")),
        "LOG_FILE": str(tmp_path_factory.mktemp("logs") / "log"),
        **passed_on,
    }


@pytest.fixture(scope="session")
def server(environment: dict[str, str]) -> StartServer:
    """`server(NAME=value...)`: how to start a server with these settings."""

    def start(**settings: str | Path) -> StdioServerParameters:
        given = {name: str(value) for name, value in settings.items()}
        return StdioServerParameters(
            command=sys.executable, args=["-m", "mcp_python_executor"], env=environment | given
        )

    return start


@pytest.fixture(scope="module", params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, server: StartServer) -> AsyncGenerator[Client]:
    """A client of a server with default settings, in each era of the protocol."""
    async with Client(server(), mode=request.param) as connected:
        yield connected
