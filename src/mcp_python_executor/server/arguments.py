"""What the tools take: each argument with its rule, and every mistake in words that the next call can act on."""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from mcp_python_executor.errors import InvalidArgument, shown
from mcp_python_executor.execution.records import LEAST_PAGE_BYTES, MOST_PAGE_BYTES, PAGE_BYTES


def _from_text(value: Any) -> Any:
    """Some hosts send a list as the JSON text of it."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("can't hold a NUL character")
    return value


_LIST = BeforeValidator(_from_text)
_Word = Annotated[str, AfterValidator(_without_nul)]
_VenvName = Annotated[str, Field(description="name of the environment; leave out for the default one")]

_REQUIREMENTS = (
    'requirements as pip takes them, a list (["pandas", "numpy>=2,<3", "polars[excel]"]) '
    'or one string, comma-separated ("pandas, numpy>=2,<3")'
)
_NAMES = 'names of packages, a list (["pandas", "numpy"]) or one string, comma-separated ("pandas, numpy")'


class Arguments(BaseModel):
    """The arguments of one tool. Field names are the arguments' names in snake case."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)


class NoArguments(Arguments):
    pass


class ExecutePython(Arguments):
    code: str = Field("", description="the program itself; exactly one of code and scriptPath")
    script_path: _Word = Field(
        "", description="absolute path of a script file on this machine, run in its own folder, instead of code"
    )
    input_data: Annotated[list[str], _LIST] | None = Field(
        None, description="the program's standard input, one element a line; without it, standard input is empty"
    )
    venv_name: _VenvName = ""
    args: Annotated[list[_Word], _LIST] | None = Field(None, description="command-line arguments: sys.argv[1:]")
    timeout_ms: int | None = Field(
        None, ge=1, description="wall-clock limit in milliseconds; lowers the server's limit, never raises it"
    )


class InstallPackages(Arguments):
    packages: list[str] | str = Field(description=_REQUIREMENTS)
    venv_name: _VenvName = ""


class UninstallPackages(Arguments):
    packages: list[str] | str = Field(description=_NAMES)
    venv_name: _VenvName = ""


class ListPackages(Arguments):
    venv_name: _VenvName = ""


class CreateVenv(Arguments):
    venv_name: str = Field(
        description="name of the new environment: 1 to 64 letters, digits, '.', '_' or '-', starting with a letter "
        "or digit"
    )
    description: str = Field("", description="what the environment is for, in a sentence")
    python_version: str = Field(
        "", description="Python version or specifier, as in 3.12 or >=3.10; leave out for the server's default"
    )


class DeleteVenv(Arguments):
    venv_name: str = Field(description="name of the environment to delete")
    confirm: bool = Field(False, description="must be true to delete the default environment")


class DescribeVenv(Arguments):
    venv_name: str = Field(description="name of the environment")
    description: str = Field(description="the new description; an empty one removes it")


class HealthCheck(Arguments):
    venv_name: str = Field("", description="name of one environment to check in depth; leave out for all in brief")


class ReadOutput(Arguments):
    execution_id: str = Field(description="executionId of the result")
    source: _Word = Field(description="stdout, stderr, or the path of a file in the result")
    offset: int = Field(0, ge=0, description="byte to read on from; nextOffset of the page before")
    limit: int = Field(
        PAGE_BYTES, ge=LEAST_PAGE_BYTES, le=MOST_PAGE_BYTES, description="how many bytes at most; 32768 if left out"
    )


A = TypeVar("A", bound=Arguments)


def parse_arguments(tool: str, kind: type[A], given: Mapping[str, Any]) -> A:
    """`given` as `kind`. An optional argument that is null counts as left out: many models send such.

    Raises:
        InvalidArgument: one line for each argument that is unknown, missing or breaks its rule.
    """
    optional = {field.alias for field in kind.model_fields.values() if not field.is_required()}
    try:
        return kind.model_validate({n: v for n, v in given.items() if v is not None or n not in optional})
    except ValidationError as error:
        problems = error.errors(include_url=False)
    names = list(dict.fromkeys(str(problem["loc"][0]) for problem in problems))
    lines = [_line(tool, kind, [p for p in problems if p["loc"][0] == name]) for name in names]
    raise InvalidArgument("\n".join(lines))


def _line(tool: str, kind: type[Arguments], problems: list[ErrorDetails]) -> str:
    first = problems[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return _unknown(tool, kind, name)
    if first["type"] == "missing":
        return f"{tool} needs {name!r}: {_field(kind, name).description}"
    # A union tells about each of its kinds: of a list with a bad element, the element is what matters.
    indexed = [problem for problem in problems if any(isinstance(part, int) for part in problem["loc"])]
    if indexed:
        first, problems = indexed[0], indexed[:1]
    rules = " or ".join(dict.fromkeys(_rule(problem) for problem in problems)).replace(" or must be", " or")
    place = name + "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
    return f"{place}={shown(first['input'])} {rules}; {name} is: {_field(kind, name).description}"


def _unknown(tool: str, kind: type[Arguments], name: str) -> str:
    known = [field.alias or "" for field in kind.model_fields.values()]
    closest = difflib.get_close_matches(name.lower(), [one.lower() for one in known], n=1, cutoff=0.5)
    meant = "".join(f", perhaps {one!r} is meant" for one in known if one.lower() in closest)
    return f"{tool} has no argument {name!r}{meant}; it takes {', '.join(known) or 'none'}"


def _field(kind: type[Arguments], name: str) -> Any:
    return next(field for field in kind.model_fields.values() if field.alias == name)


def _rule(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "list_type":
            return "must be a list of strings"
        case "string_type":
            return "must be a string"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "bool_type":
            return "must be true or false"
        case "greater_than_equal":
            return f"must be at least {cast('dict[str, Any]', problem.get('ctx'))['ge']}"
        case "less_than_equal":
            return f"must be at most {cast('dict[str, Any]', problem.get('ctx'))['le']}"
        case _:
            return problem["msg"].removeprefix("Value error, ")
