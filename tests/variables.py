"""Settings as a server that starts with some variables has them."""

import os
from collections.abc import Mapping
from unittest.mock import patch

from mcp_python_executor import settings


def settings_from(variables: Mapping[str, str], flags: Mapping[str, str] | None = None) -> settings.Settings:
    """What is loaded where the environment has these `variables` of ours and no others."""
    names = {variable.name for variable in settings.VARIABLES.values()}
    others = {name: value for name, value in os.environ.items() if name not in names}
    with patch.dict(os.environ, {**others, **variables}, clear=True):
        return settings.load(flags or {})
