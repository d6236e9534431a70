"""What the tools return, as `structuredContent`: the models behind the published output schemas."""

import base64
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mcp_python_executor.execution.model import Artifact, ExecutionResult, ProgramError, Status
from mcp_python_executor.execution.records import Page
from mcp_python_executor.health import Health
from mcp_python_executor.limits import MEBIBYTE, LimitHit
from mcp_python_executor.venvs.model import Change, Package, PackageReport, Venv, VenvStatus


class Output(BaseModel):
    """A JSON object. Field names are its keys in snake case; a key whose value is None is left out."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _time(value: datetime) -> str:
    return value.astimezone().isoformat(timespec="seconds")


class ErrorOutput(Output):
    """The exception that ended the program."""

    type: str
    message: str
    traceback: str = Field(description="cut to the program's own frames")
    line: int | None = Field(None, description="where in the program it was raised")
    hint: str | None = Field(None, description="what to do about it")

    @classmethod
    def of(cls, error: ProgramError) -> "ErrorOutput":
        return cls(
            type=error.type,
            message=error.message,
            traceback=error.traceback,
            line=error.line,
            hint=error.hint or None,
        )


class FileOutput(Output):
    """A file that the program wrote."""

    path: str = Field(description="on the host")
    size: int = Field(description="in bytes")
    mime_type: str
    uri: str = Field(description="of the resource that holds its content")

    @classmethod
    def of(cls, artifact: Artifact) -> "FileOutput":
        return cls(path=str(artifact.path), size=artifact.size, mime_type=artifact.mime_type, uri=artifact.uri)


class LimitOutput(Output):
    """The bound that was hit."""

    name: str
    value: float = Field(description="ms of time and cpu, MB of memory, bytes of files and output, else a number")
    setting: str | None = Field(None, description="the server's setting that raises it")

    @classmethod
    def of(cls, hit: LimitHit) -> "LimitOutput":
        return cls(name=hit.name, value=hit.value, setting=hit.setting or None)


class ExecutionOutput(Output):
    """How a program ended, what it printed, raised and made."""

    status: Status
    stdout: str
    stderr: str
    exit_code: int | None = None
    signal: str | None = Field(None, description="name of the signal that ended it")
    error: ErrorOutput | None = None
    result: str | None = Field(None, description="value of its last expression")
    files: list[FileOutput]
    stdout_truncated: bool = Field(description="cut in the middle; read_output has all")
    stderr_truncated: bool = Field(description="cut in the middle; read_output has all")
    limit: LimitOutput | None = Field(
        None, description="the bound that it was stopped at, or that refused it something"
    )
    venv_name: str
    execution_id: str
    duration_ms: float
    cpu_ms: float
    peak_memory_mb: float
    queued_ms: float

    @classmethod
    def of(cls, result: ExecutionResult) -> "ExecutionOutput":
        return cls(
            status=result.status,
            stdout=result.stdout,
            stderr=result.stderr,
            exit_code=result.exit_code,
            signal=result.signal or None,
            error=result.error and ErrorOutput.of(result.error),
            result=result.result,
            files=[FileOutput.of(artifact) for artifact in result.files],
            stdout_truncated=result.stdout_truncated,
            stderr_truncated=result.stderr_truncated,
            limit=result.limit and LimitOutput.of(result.limit),
            venv_name=result.venv_name,
            execution_id=result.execution_id,
            duration_ms=_milliseconds(result.duration_seconds),
            cpu_ms=_milliseconds(result.cpu_seconds),
            peak_memory_mb=round(result.peak_memory_bytes / MEBIBYTE, 1),
            queued_ms=_milliseconds(result.queued_seconds),
        )


class PageOutput(Output):
    """A page of an output, or of a file."""

    content: str
    encoding: Literal["utf-8", "base64"]
    offset: int = Field(description="of the first byte of the content")
    next_offset: int | None = Field(None, description="where to read on; absent at the end")
    total_bytes: int

    @classmethod
    def of(cls, page: Page) -> "PageOutput":
        return cls(
            content=page.data.decode(errors="replace") if page.is_text else base64.b64encode(page.data).decode(),
            encoding="utf-8" if page.is_text else "base64",
            offset=page.offset,
            next_offset=page.next_offset,
            total_bytes=page.total,
        )


class ChangeOutput(Output):
    """One package that was added, changed or removed."""

    name: str
    version: str
    previous_version: str | None = Field(None, description="of a change")

    @classmethod
    def of(cls, change: Change) -> "ChangeOutput":
        return cls(name=change.name, version=change.version, previous_version=change.previous_version or None)


class PackageOutput(Output):
    """An installed package."""

    name: str
    version: str
    requested: bool = Field(description="asked for, not merely pulled in by another")

    @classmethod
    def of(cls, package: Package) -> "PackageOutput":
        return cls(name=package.name, version=package.version, requested=package.requested)


class UnchangedOutput(Output):
    """An installed package that the operation left as it was."""

    name: str
    version: str


class PackageReportOutput(Output):
    """What a package operation did."""

    venv_name: str
    created: bool = Field(description="the environment was made first")
    added: list[ChangeOutput]
    changed: list[ChangeOutput]
    removed: list[ChangeOutput]
    unchanged: list[UnchangedOutput]
    duration_ms: float

    @classmethod
    def of(cls, report: PackageReport) -> "PackageReportOutput":
        return cls(
            venv_name=report.venv_name,
            created=report.created,
            added=[ChangeOutput.of(change) for change in report.added],
            changed=[ChangeOutput.of(change) for change in report.changed],
            removed=[ChangeOutput.of(change) for change in report.removed],
            unchanged=[UnchangedOutput(name=package.name, version=package.version) for package in report.unchanged],
            duration_ms=_milliseconds(report.duration_seconds),
        )


class PackagesOutput(Output):
    """The packages of an environment."""

    venv_name: str
    packages: list[PackageOutput]


class VenvOutput(Output):
    """An environment."""

    name: str
    description: str
    is_default: bool
    path: str
    python_version: str
    package_count: int
    created_at: str = Field(description="ISO 8601")
    last_used_at: str | None = Field(None, description="ISO 8601; absent before the first use")
    status: VenvStatus
    problem: str | None = Field(None, description="what is wrong when it is not ready")

    @classmethod
    def of(cls, venv: Venv) -> "VenvOutput":
        return cls(
            name=venv.name,
            description=venv.description,
            is_default=venv.is_default,
            path=str(venv.path),
            python_version=venv.python_version,
            package_count=venv.package_count,
            created_at=_time(venv.created_at),
            last_used_at=venv.last_used_at and _time(venv.last_used_at),
            status=venv.status,
            problem=venv.problem or None,
        )


class VenvsOutput(Output):
    """Every environment."""

    venvs: list[VenvOutput]


class OneVenvOutput(Output):
    """The environment as it is now."""

    venv: VenvOutput


class DeletionOutput(Output):
    """What became of an environment."""

    venv_name: str
    deleted: bool


class HealthOutput(Output, Health):
    """The state of the server and of its environments."""

    @classmethod
    def of(cls, health: Health) -> "HealthOutput":
        return cls(**dict(health))
