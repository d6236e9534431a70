"""Results and errors as MCP content: the one place that makes a CallToolResult."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from mcp_python_executor.execution.model import Artifact, ExecutionResult, Picture, Status
from mcp_python_executor.execution.records import Page
from mcp_python_executor.health import Health
from mcp_python_executor.limits import MEBIBYTE, LimitHit
from mcp_python_executor.server.outputs import (
    DeletionOutput,
    ExecutionOutput,
    HealthOutput,
    OneVenvOutput,
    Output,
    PackageOutput,
    PackageReportOutput,
    PackagesOutput,
    PageOutput,
    VenvOutput,
    VenvsOutput,
)
from mcp_python_executor.venvs.model import Change, Package, PackageReport, Venv

# A larger picture costs a model more than it can see in it, and some hosts refuse the whole answer.
_INLINE_PICTURE_BYTES = MEBIBYTE

# Less than this nobody asks about.
_LONG_SECONDS = 5
_MUCH_BYTES = 256 * MEBIBYTE

# More links than these a host hardly shows; the structured content has all.
_LINKS = 20

_UNITS = {
    "time": " ms",
    "cpu": " ms",
    "memory": " MB",
    "processes": ", threads included",
    "file_size": " bytes",
    "disk": " bytes",
    "buffers": " pipes and sockets",
    "files": " files and folders",
    "depth": " folders in one another",
    "temporary": " bytes in each of /tmp, /var/tmp and /dev/shm",
    "output": " bytes",
}

T = TypeVar("T")


def clean(value: T) -> T:
    """`value` with every lone surrogate in its strings replaced: they are not Unicode, and no UTF-8 text holds them.

    Any program can print one; it would end the connection.
    """
    return cast("T", _cleaned(value))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _cleaned_text(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in cast("list[Any]", value)]
    return value


def _cleaned_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def failure(message: str) -> CallToolResult:
    """A call that could not be done, in words that the next call can act on."""
    return CallToolResult(content=[TextContent(text=clean(message))], is_error=True)


def _result(
    text: str, output: Output, *, besides: Sequence[ContentBlock] = (), is_error: bool = False
) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(text=clean(text)), *besides],
        structured_content=clean(output.model_dump(exclude_none=True)),
        is_error=is_error,
    )


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(part for part in parts if part)


# An execution


def execution(result: ExecutionResult) -> CallToolResult:
    """What a person wants to read: output first, then what went wrong, then what was made."""
    small = [picture for picture in result.pictures if len(picture.data) <= _INLINE_PICTURE_BYTES]
    return _result(
        _execution_text(result),
        ExecutionOutput.of(result),
        besides=[*map(_image, small), *map(_link, result.files[:_LINKS])],
        is_error=result.status is not Status.OK,
    )


def _image(picture: Picture) -> ImageContent:
    return ImageContent(data=base64.b64encode(picture.data).decode("ascii"), mime_type=picture.mime_type)


def _link(file: Artifact) -> ResourceLink:
    return ResourceLink(uri=file.uri, name=clean(file.path.name), mime_type=file.mime_type, size=file.size)


def page(value: Page) -> CallToolResult:
    """A page of an output or a file, and where it goes on."""
    output = PageOutput.of(value)
    end = value.offset + len(value.data)
    more = f"; read on at offset {value.next_offset}" if value.next_offset is not None else ", which is the end"
    return _result(_lines([output.content, f"[bytes {value.offset} to {end} of {value.total}{more}]"]), output)


def _execution_text(result: ExecutionResult) -> str:
    said = _lines(
        [
            result.stdout.rstrip("\n"),
            _labelled("Standard error:", result.stderr.rstrip("\n")),
            result.result or "",
            *_ending(result),
        ]
    )
    return _lines([said or "The program printed nothing.", *_notes(result)])


def _labelled(label: str, text: str) -> str:
    return f"{label}\n{text}" if text else ""


def _ending(result: ExecutionResult) -> Iterable[str]:
    if result.error is not None:
        yield result.error.traceback.rstrip("\n") or f"{result.error.type}: {result.error.message}"
        if result.error.hint:
            yield f"Hint: {result.error.hint}"
    if result.limit is not None:
        yield _limit(result.limit, stopped=result.status is not Status.ERROR)
    elif result.signal == "SIGBUS":
        yield "It was ended by SIGBUS: a file that it mapped has shrunk, or has no room, as in a full /dev/shm."
    elif result.signal:
        yield f"The program was ended by {result.signal}."
    elif result.exit_code and result.error is None:
        yield f"The program exited with status {result.exit_code}."


def _limit(hit: LimitHit, *, stopped: bool) -> str:
    """A program is stopped at a limit, or fails by itself where it is refused more."""
    value = f"{hit.value:.0f}{_UNITS.get(hit.name, '')}"
    raised = f"; {hit.setting} raises it" if hit.setting else ""
    if stopped:
        return f"The program was stopped at its {hit.name} limit of {value}{raised}."
    return f"Its {hit.name} limit is {value}{raised}."


def _notes(result: ExecutionResult) -> Iterable[str]:
    for stream, cut in (("stdout", result.stdout_truncated), ("stderr", result.stderr_truncated)):
        if cut:
            kept = "what was kept" if result.limit and result.limit.name == "output" else "all"
            yield (
                f"{stream} was cut in the middle; read_output(executionId={result.execution_id!r}, source={stream!r}) "
                f"has {kept} of it."
            )
    for picture in result.pictures:
        if len(picture.data) > _INLINE_PICTURE_BYTES:
            yield f"A picture of {_size(len(picture.data))} was too large to show; save it to a file to keep it."
    if result.pictures_left_out:
        yield f"{result.pictures_left_out} more pictures were left out; save them to files to keep them."
    if result.files:
        yield "Files written:"
        yield from (f"- {file.path} ({_size(file.size)})" for file in result.files)
    if result.skipped:
        yield f"Not kept: {', '.join(result.skipped)}."
    if took := _took(result):
        yield f"It took {' and '.join(took)} in environment {result.venv_name!r}."
    if result.isolation == "none":
        yield "This ran without isolation (ISOLATION=none)."


def _took(result: ExecutionResult) -> list[str]:
    """Time and memory of a run, where they are much and no limit has told them."""
    took: list[str] = []
    if result.limit is None and result.duration_seconds >= _LONG_SECONDS:
        took.append(f"{result.duration_seconds:.1f} s")
    if result.limit is None and result.peak_memory_bytes >= _MUCH_BYTES:
        took.append(f"{result.peak_memory_bytes / MEBIBYTE:.0f} MB of memory")
    return took


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} bytes"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


# Environments


def venvs(found: Sequence[Venv]) -> CallToolResult:
    """Every environment, one a line."""
    text = _lines(_venv(venv) for venv in found) or "There are no environments yet; create_venv makes one."
    return _result(text, VenvsOutput(venvs=[VenvOutput.of(venv) for venv in found]))


def venv(value: Venv, done: str) -> CallToolResult:
    """One environment, and what was `done` to it."""
    return _result(f"{done}: {_venv(value)}", OneVenvOutput(venv=VenvOutput.of(value)))


def _venv(venv: Venv) -> str:
    mark = " (default)" if venv.is_default else ""
    state = f"{venv.status}: {venv.problem}" if venv.problem else str(venv.status)
    described = f" - {venv.description}" if venv.description else ""
    return f"{venv.name}{mark}: Python {venv.python_version}, {_counted(venv.package_count)}, {state}{described}"


def deletion(venv_name: str, deleted: bool) -> CallToolResult:
    """Whether an environment was deleted."""
    text = f"Deleted environment {venv_name!r}." if deleted else f"Environment {venv_name!r} was not deleted."
    return _result(text, DeletionOutput(venv_name=venv_name, deleted=deleted))


# Packages


def packages(venv_name: str, found: Sequence[Package], drift: str = "") -> CallToolResult:
    """The packages of an environment: first those that were asked for, then what they brought.

    `drift` is what somebody changed in it by hand.
    """
    requested = ", ".join(f"{package.name} {package.version}" for package in found if package.requested)
    pulled = ", ".join(f"{package.name} {package.version}" for package in found if not package.requested)
    text = _lines(
        [
            f"Requested in {venv_name!r}: {requested}" if requested else "",
            f"Pulled in by them: {pulled}" if pulled else "",
        ]
    )
    nothing = f"Environment {venv_name!r} has the standard library and nothing else; install_packages adds packages."
    return _result(
        _lines([text or nothing, f"Note: {drift}" if drift else ""]),
        PackagesOutput(venv_name=venv_name, packages=[PackageOutput.of(package) for package in found]),
    )


def package_report(report: PackageReport) -> CallToolResult:
    """What a package operation did."""
    changed = ", ".join(f"{one.name} {one.previous_version} -> {one.version}" for one in report.changed)
    did = [
        f"Created environment {report.venv_name!r}." if report.created else "",
        _changes("Added", report.added),
        f"Changed: {changed}" if changed else "",
        _changes("Removed", report.removed),
    ]
    return _result(
        _lines(did) or f"Nothing to do: environment {report.venv_name!r} is as asked already.",
        PackageReportOutput.of(report),
    )


def _changes(verb: str, changes: Sequence[Change]) -> str:
    return f"{verb}: {', '.join(f'{change.name} {change.version}' for change in changes)}" if changes else ""


# Health


def health(value: Health) -> CallToolResult:
    """The state of the server: first what is wrong."""
    text = _lines(
        [
            f"Status: {value.status}",
            *(f"Problem: {problem}" for problem in value.problems),
            f"Version: {value.version}, Python {value.python}, uv {value.uv}, up {value.uptime_seconds:.0f} s",
            *_isolation(value.isolation),
            f"Limits: {_facts({key: item for key, item in value.limits.items() if key != 'mechanisms'})}",
            f"Executions: {_facts(value.executions)}",
            f"Disk: {_facts(value.disk)}",
            *(line for venv in value.venvs for line in _environment(venv)),
        ]
    )
    return _result(text, HealthOutput.of(value))


def _isolation(facts: dict[str, Any]) -> Iterable[str]:
    walls: list[dict[str, Any]] = facts["walls"]
    standing = ", ".join(wall["name"] for wall in walls if wall["stands"])
    yield f"Isolation: {facts['mode']}, network {facts['network']}, walls that stand: {standing or 'none'}"
    yield from (f"Missing wall: {wall['name']}, {wall['remedy']}" for wall in walls if not wall["stands"])


def _environment(facts: dict[str, Any]) -> Iterable[str]:
    """What is wrong with it is told as a problem of the server's already."""
    told = ("problem", "drift", "generations")
    yield f"Environment: {_facts({key: item for key, item in facts.items() if key not in told})}"
    current, *past = cast("list[dict[str, Any]]", facts.get("generations") or [None])
    if current and current["isCurrent"]:
        yield f"Generation: {_generation(current)}"
    elif current:
        past = [current, *past]
    if past:
        way = f"`mcp-python-executor venv rollback {facts['name']}` returns to the first"
        yield f"Generations before, {way}: {'; '.join(map(_generation, past))}"


def _generation(facts: dict[str, Any]) -> str:
    made = f", made {facts['madeAt']}" if facts["madeAt"] else ""
    return f"{facts['id']} (Python {facts['pythonVersion']}, {_counted(facts['packageCount'])}{made})"


def _counted(packages: int) -> str:
    return f"{packages} package{'' if packages == 1 else 's'}"


def _facts(value: Any) -> str:
    if isinstance(value, dict):
        told = {key: item for key, item in cast("dict[str, Any]", value).items() if item not in (None, "")}
        return ", ".join(f"{key} {_facts(item)}" for key, item in told.items())
    if isinstance(value, list):
        return "(" + "; ".join(_facts(item) for item in cast("list[Any]", value)) + ")"
    return str(value)
