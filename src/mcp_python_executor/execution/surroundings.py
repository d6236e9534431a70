"""What a program runs in: its interpreter, what it may read, write and reach, and where it starts."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mcp_python_executor.execution import preload, scripts
from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.sandbox.policy import Policy, interpreter_paths
from mcp_python_executor.settings import NetworkAccess, Settings

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_ZONES = "zoneinfo/"
# Handed to programs only together with the network.
_NETWORK_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
# Imported before a fork, pyarrow must start no thread, and scikit-learn sets these two itself.
_FOR_FORKS = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "KMP_DUPLICATE_LIB_OK": "True",
    "KMP_INIT_AT_FORK": "FALSE",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a zygote is for: an interpreter, its policy, where programs start and where their output goes.

    `directory` None starts each program in its own fresh directory; `output` None gives each an output of its own.
    `sets_packages_up` where packages find settings when they are imported: of the script, or beside it.
    """

    interpreter: Interpreter
    policy: Policy
    directory: Path | None = None
    output: Path | None = None
    sets_packages_up: bool = False


def surroundings(
    settings: Settings, interpreter: Interpreter, script: Path | None, environment: Mapping[str, str]
) -> Surroundings:
    """The surroundings that `settings` give a program, or the script at `script`, a real path.

    `environment` is the server's, of which programs get what PASS_ENV names and nothing else.
    """
    base, hide = interpreter_paths(interpreter.base_prefix, interpreter.version)
    shown = [path for path in settings.read_paths if path.exists()]
    read = [interpreter.prefix, *base, *shown]
    if script:
        read.append(scripts.visible(script, (Path.home(), settings.venvs_base_path)))
    return Surroundings(
        interpreter,
        Policy(
            read=tuple(read),
            write=(settings.output_path,) if settings.output_path else (),
            hide=hide,
            private=tuple(_beneath(shown, settings.venvs_base_path.resolve())),
            network=settings.network_access is NetworkAccess.FULL,
            environment=tuple(_environment(settings, interpreter, environment).items()),
        ),
        directory=script.parent if script else None,
        output=settings.output_path,
        sets_packages_up=script is not None and preload.is_set_up_beside(script),
    )


def _beneath(places: Iterable[Path], private: Path) -> Iterator[Path]:
    """Where `private`, a real path, shows below `places`, which may be reached through links."""
    for place in places:
        real = place.resolve()
        if private.is_relative_to(real):
            yield place / private.relative_to(real)


def _environment(settings: Settings, interpreter: Interpreter, environment: Mapping[str, str]) -> dict[str, str]:
    passed = list(settings.pass_env)
    if settings.network_access is NetworkAccess.FULL:
        passed += _NETWORK_VARIABLES
    return {
        "PATH": f"{interpreter.prefix / 'bin'}:{_SYSTEM_PATH}",
        "VIRTUAL_ENV": str(interpreter.prefix),
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",  # no window to draw in, whatever toolkit is installed
        **_FOR_FORKS,
        "TZ": environment.get("TZ") or _time_zone(),
        **{name: environment[name] for name in passed if name in environment},
    }


def _time_zone() -> str:
    """The machine's own zone, by name, or UTC where it does not tell."""
    try:
        target = os.readlink("/etc/localtime")  # noqa: PTH115 - the text of the link, wherever it leads
    except OSError:
        return "UTC"
    return target.partition(_ZONES)[2] or "UTC"
