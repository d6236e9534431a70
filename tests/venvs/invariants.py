"""What holds of a store after any kill and any race."""

from pathlib import Path

import anyio

from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.store import Store


async def each_holds_what_it_says(venvs: Venvs, base: Path) -> None:
    """Every listed environment runs code, and has what its record says: no less, no more."""
    for venv in await venvs.list():
        assert venv.problem == ""
        installed = [(package.name, package.version) for package in plain.packages(base / venv.name)]
        assert installed == [(package.name, package.version) for package in await venvs.packages(venv.name)]
        modules = ", ".join(["sys", *(name for name, _ in installed)])
        async with venvs.lease(venv.name) as generation:
            await anyio.run_process([generation.python, "-I", "-c", f"import {modules}"])


async def all_is_tidy(venvs: Venvs, base: Path) -> None:
    """Nothing is in the store that no environment accounts for, once the children of a killed server are gone too."""
    with anyio.move_on_after(10):
        while _left_over(base):
            await venvs.tidy()
            await anyio.sleep(0.05)
    assert _left_over(base) == set()


def _left_over(base: Path) -> set[Path]:
    store = Store(base)
    names = set(store.names())
    named = {store.current(name) for name in names}
    for name in names:
        if record := store.venv_record(name):
            named |= set(record.history)
    left = {path for path in store.generations.iterdir() if path.name not in named}
    left |= {path for name in ("tmp", "trash") for path in (store.root / name).iterdir()}
    left |= {path for path in store.locks.iterdir() if path.name not in names}
    return left | {path for path in store.venvs.iterdir() if path.name.removesuffix(path.suffix) not in names}
