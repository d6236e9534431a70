"""Settings: environment variables as hosts set them, each also a command-line flag; parsed once, at start."""

import os
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mcp_python_executor.errors import SettingsError
from mcp_python_executor.limits import MEBIBYTE, Limits


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


def _folded(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _split(separators: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        for separator in separators:
            value = value.replace(separator, "\n")
        return tuple(part.strip() for part in value.split("\n") if part.strip())

    return BeforeValidator(split)


def _expanded(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.absolute() leaves '..' in


Paths = Annotated[tuple[Path, ...], NoDecode, _split(":")]


class Settings(BaseSettings):
    """Every setting of the server. Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=False)

    max_memory_mb: int = Field(512, ge=16, description="memory of one execution, its children included, in MB")
    execution_timeout_ms: int = Field(30_000, ge=1, description="wall-clock time of one execution, in milliseconds")
    max_concurrent_executions: int = Field(5, ge=1, description="executions at once; more wait in order of arrival")
    log_level: Annotated[LogLevel, BeforeValidator(_folded)] = Field(
        LogLevel.INFO, description="debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(_folded)] = Field(LogFormat.JSON, description="json or text")
    log_file: Path | None = Field(None, description="a file for the logs; unset: standard error")
    venvs_base_path: Path = Field(Path("~/.mcp-python-venvs"), description="where the environments are")
    default_venv_name: str = Field("default", description="the default environment")
    output_path: Path | None = Field(
        None, description="host directory that programs may write to; unset: a fresh one each run"
    )
    package_timeout_ms: int = Field(300_000, ge=1, description="time of one package operation, in milliseconds")
    preinstalled_packages: str = Field(
        "", description="requirements put into the default environment when it is first made, comma-separated"
    )
    isolation: Annotated[Isolation, BeforeValidator(_folded)] = Field(
        Isolation.STRICT, description="strict: refuse to run code without full walls; none: a plain process"
    )
    network_access: Annotated[NetworkAccess, BeforeValidator(_folded)] = Field(
        NetworkAccess.NONE, description="none or full, for executed code"
    )
    script_roots: Paths = Field(
        (Path("~"),), description="where scriptPath may point, ':'-separated; default: home, hidden folders excluded"
    )
    read_paths: Paths = Field((), description="host files and directories that programs may read, ':'-separated")
    pass_env: Annotated[tuple[str, ...], NoDecode, _split(", ")] = Field(
        (), description="names of the server's environment variables that programs get, comma-separated"
    )
    max_output_bytes: int = Field(32_768, ge=256, description="how much of each output a result carries inline")

    @field_validator("log_file", "venvs_base_path", "output_path")
    @classmethod
    def _expand_one(cls, value: Path | None) -> Path | None:
        return None if value is None else _expanded(value)

    @field_validator("script_roots", "read_paths")
    @classmethod
    def _expand_all(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(_expanded(path) for path in value)

    @model_validator(mode="after")
    def _output_path_stands_apart(self) -> "Settings":
        if self.output_path is not None:
            _check_output_path(self.output_path, self.venvs_base_path)
        return self

    @property
    def limits(self) -> Limits:
        """The bounds of one execution that follow from these settings."""
        return Limits(
            wall_seconds=self.execution_timeout_ms / 1000,
            memory_bytes=self.max_memory_mb * MEBIBYTE,
            inline_output_bytes=self.max_output_bytes,
            concurrent=self.max_concurrent_executions,
        )


_SYSTEM_DIRECTORIES = tuple(
    Path(name) for name in ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")
)


def _check_output_path(output: Path, base: Path) -> None:
    """Programs write here: no place may be given to them where the server or the machine trusts what it finds."""
    real, base, home = output.resolve(), base.resolve(), Path.home().resolve()
    if real.is_relative_to(base) or base.is_relative_to(real):
        raise ValueError(f"it may not be, contain or lie in VENVS_BASE_PATH ({base})")
    if home.is_relative_to(real):
        raise ValueError("it may not be or contain the home directory; name a folder in it")
    temporary = Path(tempfile.gettempdir()).resolve()
    if any(system.is_relative_to(real) for system in (*_SYSTEM_DIRECTORIES, temporary)) or any(
        real.is_relative_to(system) for system in _SYSTEM_DIRECTORIES
    ):
        raise ValueError("it may not be, contain or lie in a system directory")


def load(flags: Mapping[str, Any]) -> Settings:
    """Settings from `flags` (by field name, None for one not given), then the environment, then the defaults.

    Raises:
        SettingsError: names the variable, the value and what is accepted.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(_bad_value(error)) from None


def _bad_value(error: ValidationError) -> str:
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if not first["loc"]:
        value = first["input"]
        return f"OUTPUT_PATH={str(value.get('output_path', ''))!r}: {reason}"
    name = str(first["loc"][0])
    accepted = Settings.model_fields[name].description
    return f"{name.upper()}={first['input']!r}: {reason}; accepted: {accepted}"
