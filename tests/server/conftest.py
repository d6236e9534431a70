"""A real server: how it is started, and clients that talk to it as hosts do."""

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

StartServer = Callable[..., StdioServerParameters]
Connect = Callable[..., AbstractAsyncContextManager[Client]]

# What a server needs of this machine: to reach the package index, and to have its coverage measured.
_PASSED_ON = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_DEFAULT_INDEX", "UV_CACHE_DIR", "HTTPS_PROXY", "NO_PROXY"),
    *("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"),
)


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
