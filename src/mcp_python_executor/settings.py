"""Settings: environment variables as hosts set them, each also a command-line flag; read once, at start."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mcp_python_executor.errors import SettingsError
from mcp_python_executor.limits import MEBIBYTE, Limits

E = TypeVar("E", bound=StrEnum)


class LogLevel(StrEnum):
    """The least severe message that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line is written."""

    JSON = "json"
    TEXT = "text"


class Isolation(StrEnum):
    """`strict` refuses to run code without full walls; `none` runs a plain process."""

    STRICT = "strict"
    NONE = "none"


class NetworkAccess(StrEnum):
    """What executed code reaches."""

    NONE = "none"
    FULL = "full"


# A ceiling for every number, so that none overflows where it is used: 24 days in milliseconds, 2 PiB in MB.
_LARGEST = 2**31 - 1


def _whole(at_least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not at_least <= int(text) <= _LARGEST:
            raise ValueError(f"must be a whole number from {at_least} to {_LARGEST}")
        return int(text)

    return parse


def _one_of(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError(f"must be one of {', '.join(kind)}") from None

    return parse


def _path(text: str) -> Path:
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - Path.absolute() leaves '..' in
    except RuntimeError:
        raise ValueError("must be a path; the home directory that '~' stands for is not known here") from None


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(":") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[,\s]+", text.strip(", ")))
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ValueError("must be names of environment variables, comma-separated")
    return names


# They change how bubblewrap and the warm interpreter start, before any wall stands: see ld.so(8) and python(1).
_OF_LOADERS = ("GLIBC_", "LD_", "PYTHON")


def _passed(text: str) -> tuple[str, ...]:
    names = _names(text)
    if any(name.startswith(_OF_LOADERS) for name in names):
        raise ValueError(f"must be names that do not begin with {', '.join(_OF_LOADERS)}: those act outside the walls")
    return names


def _text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Takes a person's text, or a path, through `parse`, and any other value as it is."""
    return BeforeValidator(lambda value: parse(str(value).strip()) if isinstance(value, str | Path) else value)


_Path = Annotated[Path, _text(_path)]
_Paths = Annotated[tuple[_Path, ...], _text(_parts)]


class Settings(BaseModel):
    """Every setting of the server. Field names are the variables' names in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    max_memory_mb: Annotated[int, _text(_whole(16))] = Field(
        default=512, description="memory of one execution, its children included, in MB"
    )
    execution_timeout_ms: Annotated[int, _text(_whole(1))] = Field(
        default=30_000, description="wall-clock time of one execution, in milliseconds"
    )
    max_concurrent_executions: Annotated[int, _text(_whole(1))] = Field(
        default=5, description="executions at once; more wait in order of arrival"
    )
    log_level: Annotated[LogLevel, _text(_one_of(LogLevel))] = Field(
        default=LogLevel.INFO, description="least severe log line: debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, _text(_one_of(LogFormat))] = Field(
        default=LogFormat.JSON, description="log lines as json or text"
    )
    log_file: _Path | None = Field(default=None, description="file that logs go to; unset: standard error")
    venvs_base_path: _Path = Field(default=Path("~/.mcp-python-venvs"), description="where the environments are")
    default_venv_name: Annotated[str, _text(str)] = Field(default="default", description="the default environment")
    output_path: _Path | None = Field(
        default=None, description="host directory that programs may write to; unset: a fresh one for each run"
    )
    package_timeout_ms: Annotated[int, _text(_whole(1))] = Field(
        default=300_000, description="time of one package operation, in milliseconds"
    )
    preinstalled_packages: str = Field(
        default="", description="requirements put into the default environment when it is first made, comma-separated"
    )
    isolation: Annotated[Isolation, _text(_one_of(Isolation))] = Field(
        default=Isolation.STRICT,
        description="strict: refuse to run code without full walls; "
        "none: run it as a plain process, with all your rights",
    )
    network_access: Annotated[NetworkAccess, _text(_one_of(NetworkAccess))] = Field(
        default=NetworkAccess.NONE, description="network for executed code: none or full"
    )
    script_roots: _Paths = Field(
        default=(Path("~"),), description="where scriptPath may point, ':'-separated; hidden folders are excluded"
    )
    read_paths: _Paths = Field(
        default=(), description="host files and directories that programs may read, ':'-separated"
    )
    pass_env: Annotated[tuple[str, ...], _text(_passed)] = Field(
        default=(), description="names of the server's variables that programs get, comma-separated"
    )
    max_output_bytes: Annotated[int, _text(_whole(256))] = Field(
        default=32_768, description="bytes of each of stdout and stderr that a result carries inline"
    )

    @property
    def limits(self) -> Limits:
        """The bounds of one execution that follow from these settings."""
        return Limits(
            wall_seconds=self.execution_timeout_ms / 1000,
            memory_bytes=self.max_memory_mb * MEBIBYTE,
            inline_output_bytes=self.max_output_bytes,
            concurrent=self.max_concurrent_executions,
        )


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as a person sees it: `default` is the text that means the same, empty where it is unset."""

    name: str
    default: str
    meaning: str

    @property
    def flag(self) -> str:
        """The command-line flag of the same meaning."""
        return "--" + self.name.lower().replace("_", "-")


def _written(default: Any) -> str:
    """The text that a person would give for `default`."""
    if isinstance(default, tuple):
        return ":".join(map(str, default))  # pyright: ignore[reportUnknownArgumentType] - of any kind
    return "" if default is None else str(default)


VARIABLES = {
    name: Variable(name.upper(), _written(field.default), field.description or "")
    for name, field in Settings.model_fields.items()
}
"""Every setting by its field's name, in the order of the documentation."""


def load(flags: Mapping[str, str]) -> Settings:
    """Settings from `flags` (texts by field name), then the environment, then the defaults.

    A variable that is set and empty is not set: hosts' forms leave such. A flag that is empty means the default.

    Raises:
        SettingsError: names the variable or flag, the value and what is accepted.
    """
    given = {**{name: os.environ.get(variable.name, "") for name, variable in VARIABLES.items()}, **flags}
    try:
        settings = Settings.model_validate({name: text for name, text in given.items() if text.strip()})
    except ValidationError as error:
        raise SettingsError(_told(error, flags)) from None
    for path in settings.read_paths:
        _check_read_path(path, settings)
    if settings.output_path is None:
        return settings
    # What is watched and listed there is reached through no link.
    real = settings.output_path.resolve()
    _check_output_path(settings.output_path, real, settings.venvs_base_path)
    return settings.model_copy(update={"output_path": real})


def _told(error: ValidationError, flags: Mapping[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    source = VARIABLES[name].flag if name in flags else VARIABLES[name].name
    return f"{source}={first['input']!r}: {first['msg'].removeprefix('Value error, ')}"


# Nothing that programs write may lie in these: the machine trusts what it finds there.
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
# Nor in these, below the home directory, where interpreters for environments are looked for.
_INTERPRETERS = (".pyenv/versions", ".local/share/uv/python")
# Nor may it be one of these, which hold what others own.
_SHARED = ("/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/tmp")  # noqa: S108 - refused, not used


def _check_output_path(output: Path, real: Path, base: Path) -> None:
    base = base.resolve()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path.home() fails where no home is known
    started = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent, *(home / name for name in _INTERPRETERS)]
    whole = [Path(name) for name in (*_SYSTEM, *_SHARED, tempfile.gettempdir())]
    if _overlap(real, base):
        reason = f"may not be, contain or lie in VENVS_BASE_PATH, {str(base)!r}"
    elif home.is_relative_to(real):
        reason = "may not be or contain the home directory; name a folder in it"
    elif any(place.is_relative_to(real) for place in whole) or any(real.is_relative_to(place) for place in _SYSTEM):
        reason = "may not be, contain or lie in a system directory; name a folder of your own"
    elif place := next((str(path) for path in map(Path.resolve, started) if _overlap(real, path)), ""):
        reason = f"may not be, contain or lie in {place!r}, which is started outside the walls; name another folder"
    else:
        return
    raise SettingsError(f"OUTPUT_PATH={str(output)!r}: {reason}")


# A program has its own of these.
_OWN = tuple(map(Path, ("/dev", "/proc", "/sys")))
_MEMORY = Path("/dev/shm")  # noqa: S108 - plain files


def _check_read_path(path: Path, settings: Settings) -> None:
    real = Path(os.path.realpath(path))  # Path.resolve() fails at a loop of links, up to Python 3.12
    base, output = settings.venvs_base_path.resolve(), settings.output_path and settings.output_path.resolve()
    if any(_overlap(real, place) for place in _OWN) and _MEMORY not in real.parents:
        reason = "may not be '/', nor be or lie in /dev, /proc or /sys, of which a program has its own"
    elif real.is_relative_to(base):
        reason = f"may not be or lie in VENVS_BASE_PATH, {str(base)!r}; a program reads its own environment anyway"
    elif output and output in (*path.parents, *real.parents):
        reason = f"may not lie in OUTPUT_PATH, {str(output)!r}; a program reads all of that anyway"
    else:
        return
    raise SettingsError(f"READ_PATHS={str(path)!r}: {reason}")


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
