"""A server that does one operation, after which it tries to remove the file `answered`, which is never there.

Arguments: base path, operation.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import store
from mcp_python_executor.venvs.operations import Venvs, open_venvs


def _no_walls(_policy: Policy, command: Sequence[str]) -> list[str]:
    return list(command)


async def _operate(venvs: Venvs, operation: str) -> None:
    operations = {
        "create": lambda: venvs.create("made", description="new"),
        "install": lambda: venvs.install("lab", "packaging"),
        "describe": lambda: venvs.describe("lab", "changed"),
        "rollback": lambda: venvs.rollback("lab"),
        "repair": lambda: venvs.repair("broken"),
        "adopt": lambda: venvs.install("plain", "six, packaging"),
        "adopt in two steps": lambda: venvs.install("plain", "six, packaging"),
        "delete": lambda: venvs.delete("lab"),
    }
    await operations[operation]()


def _refuse_to_exchange(_one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(other))


async def _main() -> None:
    base, operation = sys.argv[1:]
    if operation == "adopt in two steps":  # as network file systems have it
        store.exchange = _refuse_to_exchange
    async with open_venvs(Path(base), default_name="default", timeout_seconds=100, confine=_no_walls) as venvs:
        await _operate(venvs, operation)
        with suppress(FileNotFoundError):
            os.unlink("answered")  # noqa: PTH108 - to be seen in a trace


if __name__ == "__main__":
    anyio.run(_main)
