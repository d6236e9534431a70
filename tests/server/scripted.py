"""A Service that does what a test says, for answers that a real one gives seldom or late."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from mcp_python_executor import settings
from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.model import ExecutionRequest, ExecutionResult, OutputListener, Status
from mcp_python_executor.execution.records import PAGE_BYTES, Page
from mcp_python_executor.service import Service
from mcp_python_executor.venvs.model import PackageReport
from tests.variables import settings_from

Execute = Callable[[ExecutionRequest, OutputListener | None], Awaitable[ExecutionResult]]


async def succeed(request: ExecutionRequest, _listener: OutputListener | None) -> ExecutionResult:
    """An execution that prints nothing."""
    return ExecutionResult(execution_id="x1", venv_name=request.venv_name, status=Status.OK)


@dataclass
class Scripted:
    """`execute` answers calls, `contents` are the files and streams there are; what came stands in `received`."""

    execute_with: Execute = succeed
    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    received: list[Any] = field(default_factory=list[Any])

    @property
    def service(self) -> Service:
        """This, for what takes a Service."""
        return cast("Service", self)

    @property
    def settings(self) -> settings.Settings:
        return settings_from(self.variables)

    @property
    def venvs(self) -> "Scripted":
        return self

    async def execute(self, request: ExecutionRequest, listener: OutputListener | None = None) -> ExecutionResult:
        self.received.append(request)
        return await self.execute_with(request, listener)

    async def wait_for_default(self, _venv_name: str) -> None:
        """It is there from the start."""

    async def install(
        self, name: str, packages: list[str] | str, *, listener: Callable[[str], None] | None = None
    ) -> PackageReport:
        self.received.append((name, packages))
        if listener is not None:
            listener("resolving")
        return PackageReport(name)

    async def read(self, execution_id: str, source: str, offset: int = 0, limit: int = PAGE_BYTES) -> Page:
        if source not in self.contents:
            raise InvalidArgument(f"no {source!r} is kept")
        self.received.append((execution_id, source, offset, limit))
        data = self.contents[source]
        page = data[offset : offset + limit]
        return Page(page, offset, len(data), is_text=source in ("stdout", "stderr") or b"\xff" not in page)
