"""What a model reads: a result's text, and text that any client can take."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult, ImageContent, TextContent

from mcp_python_executor.execution.model import Artifact, ExecutionResult, Picture, ProgramError, Status
from mcp_python_executor.limits import LimitHit
from mcp_python_executor.server import render
from mcp_python_executor.venvs.model import Change, Package, PackageReport, Venv, VenvStatus

FAILURE = ProgramError(
    "ModuleNotFoundError", "No module named 'numpy'", "Traceback ...\nModuleNotFoundError: ...\n", 1, "install it"
)


def result(status: Status = Status.OK, **changes: Any) -> ExecutionResult:
    return ExecutionResult(execution_id="x1", venv_name="default", status=status, **changes)


def text(rendered: CallToolResult) -> str:
    first = rendered.content[0]
    assert isinstance(first, TextContent)
    return first.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("é😀", "é😀"),
        ("\ud800", "\ufffd"),
        ("a\udc80b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ({"\ud800": ["\udfff", {"k": "\ud800"}], "n": 1, "none": None}, {"\ufffd": ["\ufffd", {"k": "\ufffd"}]}),
    ],
)
def test_a_lone_surrogate_is_replaced_wherever_it_is(given: Any, shown: Any):
    cleaned = render.clean(given)
    assert cleaned == (shown | {"n": 1, "none": None} if isinstance(shown, dict) else shown)


@pytest.mark.parametrize(
    ("execution", "shown"),
    [
        (result(stdout="1\n"), "1"),
        (result(), "The program printed nothing."),
        (result(stdout="1\n", result="2"), "1\n2"),
        (result(stdout="1\n", stderr="careful\n"), "1\nStandard error:\ncareful"),
        (
            result(Status.ERROR, stdout="1\n", error=FAILURE, exit_code=1),
            "1\nTraceback ...\nModuleNotFoundError: ...\nHint: install it",
        ),
        (result(Status.ERROR, exit_code=3), "The program exited with status 3."),
        (result(stdout="1\n", duration_seconds=4.9, peak_memory_bytes=200 << 20), "1"),
        (result(stdout="1\n", duration_seconds=12.34), "1\nIt took 12.3 s in environment 'default'."),
        (
            result(stdout="1\n", duration_seconds=5, peak_memory_bytes=300 << 20),
            "1\nIt took 5.0 s and 300 MB of memory in environment 'default'.",
        ),
        (
            result(stdout="1\n", skipped=["/w/pipe (a pipe)", "/w/link (a link)"]),
            "1\nNot kept: /w/pipe (a pipe), /w/link (a link).",
        ),
        (
            result(Status.KILLED, stdout="1\n", stdout_truncated=True, limit=LimitHit("output", 9)),
            (
                "1\nThe program was stopped at its output limit of 9 bytes.\n"
                "stdout was cut in the middle; read_output(executionId='x1', source='stdout') has what was kept of it."
            ),
        ),
        (result(Status.KILLED, signal="SIGSEGV"), "The program was ended by SIGSEGV."),
        (
            result(
                Status.TIMEOUT, stdout="1\n", limit=LimitHit("time", 30000, "EXECUTION_TIMEOUT_MS"), signal="SIGKILL"
            ),
            "1\nThe program was stopped at its time limit of 30000 ms; EXECUTION_TIMEOUT_MS raises it.",
        ),
        (
            result(Status.MEMORY_EXCEEDED, limit=LimitHit("memory", 512, "MAX_MEMORY_MB"), signal="SIGKILL"),
            "The program was stopped at its memory limit of 512 MB; MAX_MEMORY_MB raises it.",
        ),
        (
            result(Status.KILLED, limit=LimitHit("output", 67108864), signal="SIGKILL"),
            "The program was stopped at its output limit of 67108864 bytes.",
        ),
        (
            result(Status.KILLED, limit=LimitHit("cpu", 120000, "EXECUTION_TIMEOUT_MS"), signal="SIGKILL"),
            "The program was stopped at its cpu limit of 120000 ms; EXECUTION_TIMEOUT_MS raises it.",
        ),
        (
            result(Status.KILLED, limit=LimitHit("processes", 512), signal="SIGKILL"),
            "The program was stopped at its processes limit of 512, threads included.",
        ),
        (
            result(Status.ERROR, error=FAILURE, limit=LimitHit("open_files", 1024), exit_code=1),
            "Traceback ...\nModuleNotFoundError: ...\nHint: install it\nIts open_files limit is 1024.",
        ),
        (
            result(Status.KILLED, signal="SIGBUS"),
            "It was ended by SIGBUS: a file that it mapped has shrunk, or has no room, as in a full /dev/shm.",
        ),
        (
            result(stdout="a\n... 9 bytes left out ...\nz\n", stdout_truncated=True),
            (
                "a\n... 9 bytes left out ...\nz\n"
                "stdout was cut in the middle; read_output(executionId='x1', source='stdout') has all of it."
            ),
        ),
        (
            result(files=[Artifact(Path("/o/a.png"), 12_345, "image/png", "execution://x1/files/a.png")]),
            "The program printed nothing.\nFiles written:\n- /o/a.png (12.3 kB)",
        ),
        (result(stdout="1\n", isolation="none"), "1\nThis ran without isolation (ISOLATION=none)."),
    ],
)
def test_an_execution_reads_as_output_then_failure_then_what_was_made(execution: ExecutionResult, shown: str):
    rendered = render.execution(execution)
    assert text(rendered) == shown
    assert rendered.is_error == (execution.status is not Status.OK)


def test_a_result_has_no_surrogate_anywhere():
    rendered = render.execution(result(stdout="\ud800", files=[Artifact(Path("/\udcff"), 1, "text/plain", "u")]))
    assert text(rendered).startswith("\ufffd\nFiles written:\n- /\ufffd ")
    assert rendered.structured_content["stdout"] == "\ufffd"
    assert rendered.structured_content["files"][0]["path"] == "/\ufffd"


def test_an_execution_has_the_keys_of_the_contract_and_leaves_out_what_is_not_there():
    always = {
        *("status", "stdout", "stderr", "files", "stdoutTruncated", "stderrTruncated"),
        *("venvName", "executionId", "durationMs", "cpuMs", "peakMemoryMb", "queuedMs"),
    }
    assert render.execution(result()).structured_content.keys() == always
    full = result(
        Status.ERROR, exit_code=1, signal="SIGTERM", error=FAILURE, result="1", limit=LimitHit("time", 1, "timeoutMs")
    )
    structured = render.execution(full).structured_content
    assert structured.keys() == always | {"exitCode", "signal", "error", "result", "limit"}
    assert structured["error"].keys() == {"type", "message", "traceback", "line", "hint"}
    assert structured["limit"] == {"name": "time", "value": 1, "setting": "timeoutMs"}
    structured = render.execution(result(Status.KILLED, limit=LimitHit("disk", 1))).structured_content
    assert structured["limit"] == {"name": "disk", "value": 1}


def test_numbers_are_in_the_units_that_their_names_tell():
    structured = render.execution(
        result(duration_seconds=1.23456, cpu_seconds=0.5, peak_memory_bytes=3 * 1024 * 1024, queued_seconds=0.0001)
    ).structured_content
    assert [structured[key] for key in ("durationMs", "cpuMs", "peakMemoryMb", "queuedMs")] == [1234.6, 500, 3, 0.1]


def test_a_picture_comes_as_an_image_unless_it_is_too_large():
    small, large = Picture(b"small", "image/png"), Picture(bytes(1024 * 1024 + 1), "image/png")
    rendered = render.execution(result(pictures=[small, large]))
    assert rendered.content[1:] == [
        ImageContent(data=base64.b64encode(b"small").decode(), mime_type="image/png"),
    ]
    assert "A picture of 1.0 MB was too large to show" in text(rendered)


VENV = Venv("ml", "models", False, Path("/v/ml"), "3.12.1", 2, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None)


def test_environments_read_one_a_line():
    broken = Venv("b", "", True, Path("/v/b"), "3.11.7", 1, VENV.created_at, VENV.created_at, VenvStatus.BROKEN, "gone")
    rendered = render.venvs([broken, VENV])
    assert text(rendered) == (
        "b (default): Python 3.11.7, 1 package, broken: gone\nml: Python 3.12.1, 2 packages, ready - models"
    )
    first, second = rendered.structured_content["venvs"]
    assert first["problem"] == "gone"
    assert datetime.fromisoformat(first["lastUsedAt"]) == VENV.created_at
    assert second.keys() == {
        *("name", "description", "isDefault", "path", "pythonVersion", "packageCount", "createdAt", "status")
    }


def test_packages_read_what_was_requested_before_what_it_brought():
    rendered = render.packages("ml", [Package("a", "1", True), Package("b", "2", False), Package("c", "3", True)])
    assert text(rendered) == "Requested in 'ml': a 1, c 3\nPulled in by them: b 2"
    assert rendered.structured_content["packages"][1] == {"name": "b", "version": "2", "requested": False}
    assert "nothing else; install_packages adds" in text(render.packages("ml", []))


def test_what_was_changed_by_hand_is_noted_below_the_packages():
    rendered = render.packages("ml", [Package("a", "1", True)], "its packages were changed by hand: a 1 was added")
    assert text(rendered) == "Requested in 'ml': a 1\nNote: its packages were changed by hand: a 1 was added"
    assert rendered.structured_content.keys() == {"venvName", "packages"}


def test_a_package_report_tells_each_change():
    report = PackageReport(
        "ml", True, [Change("a", "1")], [Change("b", "2", "1")], [Change("c", "3")], [Package("d", "4", True)], 0.5
    )
    rendered = render.package_report(report)
    assert text(rendered) == "Created environment 'ml'.\nAdded: a 1\nChanged: b 1 -> 2\nRemoved: c 3"
    assert rendered.structured_content == {
        "venvName": "ml",
        "created": True,
        "added": [{"name": "a", "version": "1"}],
        "changed": [{"name": "b", "version": "2", "previousVersion": "1"}],
        "removed": [{"name": "c", "version": "3"}],
        "unchanged": [{"name": "d", "version": "4"}],
        "durationMs": 500,
    }
    assert text(render.package_report(PackageReport("ml"))) == "Nothing to do: environment 'ml' is as asked already."
