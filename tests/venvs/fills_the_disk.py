"""A server whose base path is on a small disk, which it fills. Prints what each operation said, as JSON.

Argument: the directory that the disk is mounted on.
"""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs.operations import Venvs, open_venvs

_DISK = Path(sys.argv[1])


def _no_walls(_policy: Policy, command: Sequence[str]) -> list[str]:
    return list(command)


def _fill() -> None:
    with suppress(OSError), (_DISK / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


async def _told(operation: Callable[[], Awaitable[object]]) -> str:
    try:
        await operation()
    except ExecutorError as error:
        return str(error)
    return ""


async def _operate(venvs: Venvs) -> dict[str, object]:
    await venvs.install("lab", "six")
    large = await _told(lambda: venvs.install("lab", "numpy"))
    _fill()
    told: dict[str, object] = {
        "large": large,
        "install": await _told(lambda: venvs.install("lab", "iniconfig")),
        "describe": await _told(lambda: venvs.describe("lab", "long " * 5000)),
        "create": await _told(lambda: venvs.create("other")),
        "uninstall": await _told(lambda: venvs.uninstall("lab", "six")),
        "packages": [package.name for package in await venvs.packages("lab")],
        "names": await venvs.names(),
    }
    async with venvs.lease("lab") as generation:
        return {**told, "leased": generation.id}


async def _main() -> None:
    async with open_venvs(_DISK / "venvs", default_name="default", timeout_seconds=100, confine=_no_walls) as venvs:
        sys.stdout.write(json.dumps(await _operate(venvs)))


if __name__ == "__main__":
    anyio.run(_main)
