"""The MCP server over a Service: the tools, resources and prompts it offers, and how calls end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import structlog
from mcp.server import MCPServer
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, GetPromptResult, InputRequiredResult, ResourceTemplate, Tool

from mcp_python_executor.errors import ExecutorError, InvalidArgument
from mcp_python_executor.server import descriptions, prompts, render, resources
from mcp_python_executor.server.stdio import run_on_wire
from mcp_python_executor.server.tools import tools

if TYPE_CHECKING:
    from mcp.server.lowlevel.helper_types import ReadResourceContents

    from mcp_python_executor.server.wire import Wire
    from mcp_python_executor.service import Service

_NAME = "mcp-python-executor"
# What is offered stays the same as long as the server lives.
_UNCHANGING = CacheHint(ttl_ms=3_600_000, scope="public")

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


def build_server(service: Service) -> MCPServer[Any]:
    """The MCP server that offers `service`, which must stay open as long as the server runs."""
    server = _ExecutorServer(service)
    prompts.add_prompts(server)

    async def venv_names() -> list[str]:
        return [venv.name for venv in await service.venvs.list()]

    prompts.add_completion(server, venv_names)
    return server


async def serve(service: Service, wire: Wire) -> None:
    """Offers `service` to the client at the other end of `wire`, until it leaves or a signal asks for the end."""
    server = build_server(service)
    # MCPServer runs its own transport only, whose reading thread outlives SIGTERM; there is no public way to another.
    await run_on_wire(server._lowlevel_server, wire)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class _ExecutorServer(MCPServer[Any]):
    """Speaks for itself where the SDK would read a string argument as JSON, ignore unknown arguments, tell pydantic's
    errors as they are, answer a mistake with `internal error`, and give all files one MIME type."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            _NAME,
            title="Python executor",
            instructions=descriptions.instructions(service.settings),
            version=version(_NAME),
            cache_hints={
                "tools/list": _UNCHANGING,
                "prompts/list": _UNCHANGING,
                "resources/templates/list": _UNCHANGING,
            },
        )
        self._service = service
        self._tools = tools(service.settings)

    async def list_tools(self) -> list[Tool]:
        return [tool.definition for tool in self._tools.values()]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult:
        """The tool's result, or the error in our own words; logs one line, without what was given or came out."""
        began = time.perf_counter()
        outcome, venv = "cancelled", _asked_venv(arguments)
        try:
            result = await self._call(name, arguments, context)
            outcome, venv = _told(result, "status") or "ok", _told(result, "venvName") or venv
        except ExecutorError as error:
            outcome = type(error).__name__
            result = render.failure(str(error))
        except Exception:  # noqa: BLE001 - whatever it is, the client gets one line and the log the rest
            outcome = "crash"
            _log.exception("tool_crash", tool=render.clean(name))
            result = render.failure("internal error, no fault of the call; see the server's log for its cause")
        finally:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            _log.info("tool_call", tool=render.clean(name), duration_ms=milliseconds, outcome=outcome, venv=venv)
        return result

    async def _call(self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None) -> CallToolResult:
        tool = self._tools.get(name)
        if tool is None:
            raise InvalidArgument(f"there is no tool {name!r}; there are {', '.join(self._tools)}")
        return await tool.run(self._service, render.clean(arguments), context)

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        prompts.check(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        return resources.TEMPLATES

    async def read_resource(
        self,
        uri: Any,
        context: Context[Any, Any] | None = None,  # noqa: ARG002 - the SDK's signature
    ) -> Iterable[ReadResourceContents]:
        return [await resources.read(self._service, str(uri))]


def _asked_venv(arguments: dict[str, Any]) -> str:
    name = arguments.get("venvName")
    return render.clean(name) if isinstance(name, str) else ""


def _told(result: CallToolResult, key: str) -> str:
    structured = cast("dict[str, Any]", result.structured_content or {})
    return str(structured.get(key, ""))
