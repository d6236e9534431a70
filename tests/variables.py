"""Settings as a server that starts with some variables has them, and what is told of its limits."""

import os
from collections.abc import Mapping
from unittest.mock import patch

from mcp_python_executor import settings

LIMITS = {
    *("memoryMb", "timeoutMs", "cpuMs", "concurrentExecutions", "queuedExecutions", "outputBytes", "keptOutputBytes"),
    *(
        "processes",
        "openFiles",
        "fileBytes",
        "diskBytes",
        "files",
        "depth",
        "buffers",
        "temporaryBytes",
        "packageTimeoutMs",
    ),
}
"""As health_check names them, and doctor."""


def settings_from(variables: Mapping[str, str], flags: Mapping[str, str] | None = None) -> settings.Settings:
    """What is loaded where the environment has these `variables` of ours and no others."""
    names = {variable.name for variable in settings.VARIABLES.values()}
    others = {name: value for name, value in os.environ.items() if name not in names}
    with patch.dict(os.environ, {**others, **variables}, clear=True):
        return settings.load(flags or {})
