"""The tools: each checks its arguments, asks the service and renders what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import mcp_types
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ToolAnnotations

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.model import ExecutionRequest, OutputListener
from mcp_python_executor.server import arguments as take
from mcp_python_executor.server import descriptions, render
from mcp_python_executor.server import outputs as give
from mcp_python_executor.server.progress import progress
from mcp_python_executor.server.schema import schema_of
from mcp_python_executor.settings import Isolation, NetworkAccess, Settings

if TYPE_CHECKING:
    from mcp_python_executor.service import Service

Call: TypeAlias = Context[Any, Any] | None
"""The request that a tool is called by, to which progress is told; None when the caller is in this process."""

A = TypeVar("A", bound=take.Arguments)


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """A tool as clients see it, and what it does with arguments that keep its rules."""

    definition: mcp_types.Tool
    arguments: type[A]
    work: Callable[[Service, A, Call], Awaitable[CallToolResult]]

    async def run(self, service: Service, given: Mapping[str, Any], call: Call) -> CallToolResult:
        """The result for the arguments `given`.

        Raises:
            ExecutorError: the arguments break a rule, or the service can't do what they ask.
        """
        return await self.work(service, take.parse_arguments(self.definition.name, self.arguments, given), call)


# Execution


async def _execute_python(service: Service, asked: take.ExecutePython, call: Call) -> CallToolResult:
    request = _request(asked, service.settings)
    async with progress(call) as tell:
        listener: OutputListener | None = None if tell is None else lambda _stream, text: tell(text)
        result = await service.execute(request, listener)
    return render.execution(result)


def _request(asked: take.ExecutePython, settings: Settings) -> ExecutionRequest:
    if bool(asked.code) == bool(asked.script_path):
        given = "both were given" if asked.code else "neither was given, or both are empty"
        raise InvalidArgument(
            f"execute_python takes exactly one of 'code' and 'scriptPath', and {given}; "
            "put the program in 'code', or the path of a script on this machine in 'scriptPath'"
        )
    return ExecutionRequest(
        code=asked.code,
        script=Path(asked.script_path) if asked.script_path else None,
        args=tuple(asked.args or ()),
        stdin="".join(f"{line}\n" for line in asked.input_data or ()).encode(),
        venv_name=asked.venv_name or settings.default_venv_name,
        timeout_seconds=None if asked.timeout_ms is None else asked.timeout_ms / 1000,
    )


async def _read_output(service: Service, asked: take.ReadOutput, _call: Call) -> CallToolResult:
    return render.page(await service.read(asked.execution_id, asked.source, asked.offset, asked.limit))


# Packages

# Between the stages of an operation, where several are told at once.
_STAGES_APART = "; "


async def _install_packages(service: Service, asked: take.InstallPackages, call: Call) -> CallToolResult:
    name = await _chosen(service, asked.venv_name)
    async with progress(call, between=_STAGES_APART) as tell:
        report = await service.venvs.install(name, asked.packages, listener=tell)
    return render.package_report(report)


async def _uninstall_packages(service: Service, asked: take.UninstallPackages, call: Call) -> CallToolResult:
    name = await _chosen(service, asked.venv_name)
    async with progress(call, between=_STAGES_APART) as tell:
        report = await service.venvs.uninstall(name, asked.packages, listener=tell)
    return render.package_report(report)


async def _list_packages(service: Service, asked: take.ListPackages, _call: Call) -> CallToolResult:
    name = await _chosen(service, asked.venv_name)
    found = await service.venvs.packages(name)
    return render.packages(name, found, (await service.venvs.get(name)).drift)


async def _chosen(service: Service, venv_name: str) -> str:
    """The environment that is meant, once it is there: the default one is made when the server first starts."""
    name = venv_name or service.settings.default_venv_name
    await service.wait_for_default(name)
    return name


# Environments


async def _list_venvs(service: Service, _asked: take.NoArguments, _call: Call) -> CallToolResult:
    return render.venvs(await service.venvs.list())


async def _create_venv(service: Service, asked: take.CreateVenv, call: Call) -> CallToolResult:
    async with progress(call, between=_STAGES_APART) as tell:
        venv = await service.venvs.create(
            asked.venv_name, description=asked.description, python_version=asked.python_version, listener=tell
        )
    return render.venv(venv, "Created")


async def _delete_venv(service: Service, asked: take.DeleteVenv, _call: Call) -> CallToolResult:
    name = await _chosen(service, asked.venv_name)
    return render.deletion(name, await service.venvs.delete(name, confirm=asked.confirm))


async def _set_venv_description(service: Service, asked: take.DescribeVenv, _call: Call) -> CallToolResult:
    name = await _chosen(service, asked.venv_name)
    return render.venv(await service.venvs.describe(name, asked.description), "Described")


async def _health_check(service: Service, asked: take.HealthCheck, _call: Call) -> CallToolResult:
    return render.health(await service.health(asked.venv_name))


# The list


def _tool(
    work: Callable[[Service, A, Call], Awaitable[CallToolResult]],
    arguments: type[A],
    output: type[give.Output],
    *,
    title: str,
    description: str,
    hints: ToolAnnotations,
) -> Tool[A]:
    definition = mcp_types.Tool(
        name=work.__name__.removeprefix("_"),
        title=title,
        description=description,
        input_schema=schema_of(arguments),
        output_schema=schema_of(output),
        annotations=hints,
    )
    return Tool(definition, arguments, work)


_LOOKS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_REMOVES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
_DOWNLOADS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)


def _runs(settings: Settings) -> ToolAnnotations:
    """What a program may do follows from the walls: without them anything, behind them what the settings open."""
    bare = settings.isolation is Isolation.NONE
    return ToolAnnotations(
        read_only_hint=False,
        destructive_hint=bare or settings.output_path is not None,
        idempotent_hint=False,
        open_world_hint=bare or settings.network_access is NetworkAccess.FULL,
    )


def tools(settings: Settings) -> dict[str, Tool[Any]]:
    """Every tool by its name."""
    every: list[Tool[Any]] = [
        _tool(
            _execute_python,
            take.ExecutePython,
            give.ExecutionOutput,
            title="Run Python code",
            description=descriptions.execute_python(settings),
            hints=_runs(settings),
        ),
        _tool(
            _read_output,
            take.ReadOutput,
            give.PageOutput,
            title="Read on in an output or a file",
            description=descriptions.READ_OUTPUT,
            hints=_LOOKS,
        ),
        _tool(
            _install_packages,
            take.InstallPackages,
            give.PackageReportOutput,
            title="Install packages",
            description=descriptions.INSTALL_PACKAGES,
            hints=_DOWNLOADS,
        ),
        _tool(
            _uninstall_packages,
            take.UninstallPackages,
            give.PackageReportOutput,
            title="Uninstall packages",
            description=descriptions.UNINSTALL_PACKAGES,
            hints=_REMOVES,
        ),
        _tool(
            _list_packages,
            take.ListPackages,
            give.PackagesOutput,
            title="List packages",
            description=descriptions.LIST_PACKAGES,
            hints=_LOOKS,
        ),
        _tool(
            _list_venvs,
            take.NoArguments,
            give.VenvsOutput,
            title="List environments",
            description=descriptions.LIST_VENVS,
            hints=_LOOKS,
        ),
        _tool(
            _create_venv,
            take.CreateVenv,
            give.OneVenvOutput,
            title="Create an environment",
            description=descriptions.CREATE_VENV,
            hints=_ADDS,
        ),
        _tool(
            _delete_venv,
            take.DeleteVenv,
            give.DeletionOutput,
            title="Delete an environment",
            description=descriptions.DELETE_VENV,
            hints=_REMOVES,
        ),
        _tool(
            _set_venv_description,
            take.DescribeVenv,
            give.OneVenvOutput,
            title="Describe an environment",
            description=descriptions.SET_VENV_DESCRIPTION,
            hints=_ADDS,
        ),
        _tool(
            _health_check,
            take.HealthCheck,
            give.HealthOutput,
            title="Check the server's health",
            description=descriptions.HEALTH_CHECK,
            hints=_LOOKS,
        ),
    ]
    return {tool.definition.name: tool for tool in every}
