"""A server whose base path becomes read-only below it. Prints what each operation said, as JSON.

Argument: the directory that a file system of its own is mounted on.
"""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs.operations import Venvs, open_venvs

_DISK = Path(sys.argv[1])


def _no_walls(_policy: Policy, command: Sequence[str]) -> list[str]:
    return list(command)


async def _told(operation: Callable[[], Awaitable[object]]) -> str:
    try:
        await operation()
    except ExecutorError as error:
        return str(error)
    return ""


async def _operate(venvs: Venvs) -> dict[str, object]:
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")
    await venvs.tidy()
    _remount("ro")
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "install": lambda: venvs.install("lab", "packaging"),
        "uninstall": lambda: venvs.uninstall("lab", "six"),
        "describe": lambda: venvs.describe("lab", "other"),
        "create": lambda: venvs.create("other"),
        "rollback": lambda: venvs.rollback("lab"),
        "delete": lambda: venvs.delete("lab"),
    }
    told: dict[str, object] = {name: await _told(operation) for name, operation in operations.items()}
    told["packages"] = [package.name for package in await venvs.packages("lab")]
    told["described"] = (await venvs.get("lab")).description
    told["names"] = await venvs.names()
    _remount("rw")
    await venvs.install("lab", "packaging")
    told["after"] = [package.name for package in await venvs.packages("lab")]
    return told


def _remount(how: str) -> None:
    subprocess.run(["/bin/mount", "-o", f"remount,{how}", str(_DISK)], check=True)


async def _main() -> None:
    async with open_venvs(_DISK / "venvs", default_name="default", timeout_seconds=100, confine=_no_walls) as venvs:
        sys.stdout.write(json.dumps(await _operate(venvs)))


if __name__ == "__main__":
    anyio.run(_main)
