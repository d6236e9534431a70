"""Settings: environment variables as hosts set them, each also a command-line flag; read once, at start.

Plain dataclasses, for every command begins here: a library for this took 0.4 s of each start, 35 times a bare
interpreter's.
"""

# ruff: noqa: RUF009 - _setting makes a dataclass field

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

from mcp_python_executor.errors import SettingsError
from mcp_python_executor.limits import MEBIBYTE, Limits

T = TypeVar("T")
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


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as a person gives it: `default` is the text that means the same; an empty one is `unset`.

    `parse` makes the value of a text that is not empty, or raises ValueError, saying what is accepted.
    """

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any]
    unset: Any

    def value(self, text: str) -> Any:
        """What `text`, or else the default, stands for."""
        chosen = text.strip() or self.default
        return self.parse(chosen) if chosen else self.unset

    @property
    def flag(self) -> str:
        """The command-line flag of the same meaning."""
        return "--" + self.name.lower().replace("_", "-")


def _setting(default: str, parse: Callable[[str], T], meaning: str, *, unset: T | None = None) -> T:
    """A field of Settings, which carries what its Variable needs."""
    return cast(
        "T",
        field(
            default_factory=lambda: parse(default) if default else unset,
            metadata={"default": default, "parse": parse, "meaning": meaning, "unset": unset},
        ),
    )


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


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part.strip()) for part in text.split(":") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[,\s]+", text.strip(", ")))
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ValueError("must be names of environment variables, comma-separated")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the server. Field names are the variables' names in lower case."""

    max_memory_mb: int = _setting("512", _whole(16), "memory of one execution, its children included, in MB")
    execution_timeout_ms: int = _setting("30000", _whole(1), "wall-clock time of one execution, in milliseconds")
    max_concurrent_executions: int = _setting("5", _whole(1), "executions at once; more wait in order of arrival")
    log_level: LogLevel = _setting("info", _one_of(LogLevel), "least severe log line: debug, info, warning or error")
    log_format: LogFormat = _setting("json", _one_of(LogFormat), "log lines as json or text")
    log_file: Path | None = _setting("", _path, "file that logs go to; unset: standard error")
    venvs_base_path: Path = _setting("~/.mcp-python-venvs", _path, "where the environments are")
    default_venv_name: str = _setting("default", str, "the default environment")
    output_path: Path | None = _setting(
        "", _path, "host directory that programs may write to; unset: a fresh one for each run"
    )
    package_timeout_ms: int = _setting("300000", _whole(1), "time of one package operation, in milliseconds")
    preinstalled_packages: str = _setting(
        "",
        str,
        "requirements put into the default environment when it is first made, comma-separated",
        unset="",
    )
    isolation: Isolation = _setting(
        "strict",
        _one_of(Isolation),
        "strict: refuse to run code without full walls; none: run it as a plain process, with all your rights",
    )
    network_access: NetworkAccess = _setting("none", _one_of(NetworkAccess), "network for executed code: none or full")
    script_roots: tuple[Path, ...] = _setting(
        "~", _paths, "where scriptPath may point, ':'-separated; hidden folders are excluded"
    )
    read_paths: tuple[Path, ...] = _setting(
        "", _paths, "host files and directories that programs may read, ':'-separated", unset=()
    )
    pass_env: tuple[str, ...] = _setting(
        "", _names, "names of the server's variables that programs get, comma-separated", unset=()
    )
    max_output_bytes: int = _setting(
        "32768", _whole(256), "bytes of each of stdout and stderr that a result carries inline"
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


VARIABLES = {setting.name: Variable(setting.name.upper(), **setting.metadata) for setting in fields(Settings)}
"""Every setting by its field's name, in the order of the documentation."""


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Settings from `flags` (texts by field name), then `environment`, then the defaults.

    A variable that is set and empty is not set: hosts' forms leave such. A flag that is empty means the default.

    Raises:
        SettingsError: names the variable or flag, the value and what is accepted.
    """
    settings = Settings(
        **{name: _value(variable, flags.get(name), environment) for name, variable in VARIABLES.items()}
    )
    _check_output_path(settings.output_path, settings.venvs_base_path)
    return settings


def _value(variable: Variable, flag: str | None, environment: Mapping[str, str]) -> Any:
    text = environment.get(variable.name, "") if flag is None else flag
    try:
        return variable.value(text)
    except ValueError as error:
        source = variable.name if flag is None else variable.flag
        raise SettingsError(f"{source}={text!r}: {error}") from None


# Nothing that programs write may lie in these: the machine trusts what it finds there.
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
# Nor may it be one of these, which hold what others own.
_SHARED = ("/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/tmp")  # noqa: S108 - refused, not used


def _check_output_path(output: Path | None, base: Path) -> None:
    if output is None:
        return
    real, base = output.resolve(), base.resolve()
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path.home() fails where no home is known
    whole = [Path(name) for name in (*_SYSTEM, *_SHARED, tempfile.gettempdir())]
    if real.is_relative_to(base) or base.is_relative_to(real):
        reason = f"may not be, contain or lie in VENVS_BASE_PATH, {str(base)!r}"
    elif home.is_relative_to(real):
        reason = "may not be or contain the home directory; name a folder in it"
    elif any(place.is_relative_to(real) for place in whole) or any(real.is_relative_to(place) for place in _SYSTEM):
        reason = "may not be, contain or lie in a system directory; name a folder of your own"
    else:
        return
    raise SettingsError(f"OUTPUT_PATH={str(output)!r}: {reason}")
