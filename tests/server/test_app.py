"""How calls end: in the client's words or ours, and each in one line of the log."""

import json
import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult, TextContent

from mcp_python_executor import logs
from mcp_python_executor.errors import PackageError
from mcp_python_executor.execution.model import ExecutionRequest, ExecutionResult, OutputListener, Status
from mcp_python_executor.server.app import build_server
from tests.server.scripted import Scripted

pytestmark = pytest.mark.anyio


async def call(service: Scripted, tool: str, **arguments: Any) -> CallToolResult:
    result = await build_server(service.service).call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    return result


def text(result: CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.fixture
def log_lines(tmp_path: Path) -> Generator[Callable[[], list[dict[str, Any]]]]:
    """What this test's log holds; nothing more goes into it then."""
    root = logging.getLogger()
    level = root.level
    logs.configure(level="info", form="json", file=tmp_path / "log")
    [handler] = root.handlers

    def read() -> list[dict[str, Any]]:
        handler.close()
        return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    yield read
    root.removeHandler(handler)
    handler.close()
    root.setLevel(level)


async def refuse(_request: ExecutionRequest, _listener: OutputListener | None) -> ExecutionResult:
    raise PackageError("no room \ud800; free some")


async def crash(_request: ExecutionRequest, _listener: OutputListener | None) -> ExecutionResult:
    raise RuntimeError("a secret")


async def test_an_error_of_ours_is_told_as_it_is_and_without_structured_content():
    result = await call(Scripted(refuse), "execute_python", code="1")
    assert (text(result), result.is_error) == ("no room \ufffd; free some", True)
    assert result.structured_content is None


async def test_a_crash_is_one_line_for_the_client_and_a_traceback_in_the_log(
    log_lines: Callable[[], list[dict[str, Any]]],
):
    result = await call(Scripted(crash), "execute_python", code="1")
    assert (text(result), result.is_error) == (
        "internal error, no fault of the call; see the server's log for its cause",
        True,
    )
    crashed, called = log_lines()
    assert (crashed["event"], crashed["level"], crashed["tool"]) == ("tool_crash", "error", "execute_python")
    assert crashed["exception"].endswith("RuntimeError: a secret")
    assert called["outcome"] == "crash"


async def test_an_unknown_tool_is_told_with_those_there_are():
    result = await call(Scripted(), "run_\ud800python")
    assert text(result).startswith("there is no tool 'run_\\ud800python'; there are execute_python, read_output, ")
    assert result.is_error


async def test_a_call_has_one_line_in_the_log_without_what_was_given_or_came_out(
    log_lines: Callable[[], list[dict[str, Any]]],
):
    async def fail(request: ExecutionRequest, _listener: OutputListener | None) -> ExecutionResult:
        return ExecutionResult(
            execution_id="x1", venv_name=request.venv_name, status=Status.TIMEOUT, stdout="came out", result="came out"
        )

    await call(Scripted(fail), "execute_python", code="given", inputData=["given"], args=["given"], venvName="ml")
    await call(Scripted(fail), "execute_python", codes="given")
    first, second = log_lines()
    assert "given" not in str([first, second])
    assert "came out" not in str([first, second])
    assert first.pop("duration_ms") >= 0
    del first["timestamp"], first["logger"]
    assert first == {
        "event": "tool_call",
        "level": "info",
        "tool": "execute_python",
        "outcome": "timeout",
        "venv": "ml",
    }
    assert second["outcome"] == "InvalidArgument"


async def test_execute_python_asks_for_what_its_arguments_say():
    service = Scripted()
    await call(
        service, "execute_python", scriptPath="/a.py", inputData=["1", "", "é"], args=["-x", "y z"], timeoutMs=1500
    )
    assert service.received == [
        ExecutionRequest(
            script=Path("/a.py"),
            args=("-x", "y z"),
            stdin="1\n\né\n".encode(),
            venv_name="default",
            timeout_seconds=1.5,
        )
    ]


@pytest.mark.parametrize("data", [None, []])
async def test_no_input_data_is_an_empty_standard_input(data: list[str] | None):
    service = Scripted()
    await call(service, "execute_python", code="1", inputData=data)
    assert service.received[0].stdin == b""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "neither was given, or both are empty"),
        ({"code": "", "scriptPath": ""}, "neither was given, or both are empty"),
        ({"code": "1", "scriptPath": "/a.py"}, "both were given"),
    ],
)
async def test_exactly_one_of_code_and_script_path_is_taken(arguments: dict[str, str], told: str):
    service = Scripted()
    result = await call(service, "execute_python", **arguments)
    assert text(result).startswith(f"execute_python takes exactly one of 'code' and 'scriptPath', and {told}; put ")
    assert service.received == []


async def test_a_surrogate_in_an_argument_is_replaced_before_anyone_gets_it():
    service = Scripted()
    await call(service, "execute_python", code="print('\ud800')", inputData=["\udc80"])
    assert service.received[0].code == "print('\ufffd')"
    assert service.received[0].stdin == "\ufffd\n".encode()


@pytest.mark.parametrize("packages", ["null", "1", "true", '["a"]', '{"a": 1}', "numpy>=1.20,<2, pandas", ["a", "b"]])
async def test_packages_reach_the_environments_as_they_were_given(packages: list[str] | str):
    service = Scripted(variables={"DEFAULT_VENV_NAME": "mine"})
    await call(service, "install_packages", packages=packages)
    assert service.received == [("mine", packages)]
