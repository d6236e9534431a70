"""A policy as the command line of `inside.operation`: Landlock and seccomp, where there is no bubblewrap."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcp_python_executor.sandbox.policy import Policy, readable, writable
from mcp_python_executor.sandbox.probe import bootstrap

_NULL = Path("/dev/null")
# Of /proc what tells of the command itself, and not of what it starts.
_READ = (_NULL, Path("/dev/urandom"), Path("/proc/self"))

# Landlock hides no names, and an import fails otherwise than uv expects where a package is there and can't be read. So
# of hidden packages only that is hidden which runs when an interpreter starts (see Python's `site`).
_AT_START = ("*.pth", "sitecustomize*", "usercustomize*")


def command(policy: Policy, argv: Sequence[str]) -> list[str]:
    """`argv` behind the walls that `policy` describes. The caller starts it with `policy.environment` alone."""
    hidden = tuple(path for packages in policy.hide for name in _AT_START for path in packages.glob(name))
    read, look = readable(replace(policy, hide=hidden), walled=False)
    read, write = [*read, *_READ], [*writable(policy), _NULL]
    counts = [int(policy.network), len(read), len(look), len(write)]
    return [sys.executable, *bootstrap("operation"), *map(str, (*counts, *read, *look, *write)), *argv]
