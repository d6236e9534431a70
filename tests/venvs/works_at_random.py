"""A server that does operations chosen at random, beside others on the same base path.

Arguments: base path, seed, how many operations, the bubblewrap to use or nothing.
"""

import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs.operations import Venvs, open_venvs

NAMES = ("one", "two", "three", "four", "five")
_PACKAGES = ("six", "iniconfig", "packaging")


def _confine(policy: Policy, command: Sequence[str]) -> list[str]:
    return bubblewrap.command(Path(sys.argv[4]), policy, command) if sys.argv[4] else list(command)


async def _use(venvs: Venvs, name: str) -> None:
    """What was installed when the lease began can be imported to its end."""
    async with venvs.lease(name) as generation:
        installed = [
            path.stem for path in generation.path.glob("lib/python*/site-packages/*") if path.stem in _PACKAGES
        ]
        modules = ", ".join(["sys", *dict.fromkeys(installed)])
        await anyio.run_process(
            [generation.python, "-I", "-B", "-c", f"import time; time.sleep(0.2); import {modules}"]
        )


def _choose(chance: random.Random, venvs: Venvs) -> Awaitable[object]:
    name, package = chance.choice(NAMES), chance.choice(_PACKAGES)
    operations: list[Callable[[], Awaitable[object]]] = [
        lambda: venvs.install(name, package),
        lambda: venvs.install(name, list(_PACKAGES)),
        lambda: venvs.uninstall(name, package),
        lambda: venvs.create(name),
        lambda: venvs.delete(name),
        lambda: venvs.describe(name, f"by {sys.argv[2]}"),
        lambda: venvs.rollback(name),
        lambda: venvs.rollback(name),
        lambda: venvs.repair(name),
        lambda: venvs.generations(name),
        lambda: _use(venvs, name),
        lambda: _use(venvs, name),
        lambda: venvs.list(),
        lambda: venvs.packages(name),
    ]
    return chance.choice(operations)()


async def _main() -> None:
    chance = random.Random(int(sys.argv[2]))  # noqa: S311 - nothing secret
    async with open_venvs(Path(sys.argv[1]), default_name="default", timeout_seconds=100, confine=_confine) as venvs:
        for _ in range(int(sys.argv[3])):
            try:
                await _choose(chance, venvs)
            except InvalidArgument as error:  # what another server did first: it is not there, or there already
                sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    anyio.run(_main)
