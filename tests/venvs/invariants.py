"""What holds of a store after any kill and any race."""

import tomllib
from pathlib import Path

import anyio

from mcp_python_executor.venvs import plain, project
from mcp_python_executor.venvs.operations import Venvs
from mcp_python_executor.venvs.records import read_generation
from mcp_python_executor.venvs.store import Store


async def each_holds_what_it_says(venvs: Venvs, base: Path, *, modules: str = "") -> None:
    """Every listed environment runs code, and has what its lock and its record say: no less, no more.

    `modules` are what to import, where they are called otherwise than the packages that they are of.
    """
    for name in await venvs.names():
        venv = await venvs.get(name)
        assert (venv.problem, venv.drift) == ("", ""), name
        installed = [(package.name, package.version) for package in plain.packages(base / name)]
        assert installed == [(package.name, package.version) for package in await venvs.packages(name)]
        assert len(installed) == venv.package_count
        if venv.path.is_symlink():
            assert dict(installed) == _locked(venv.path)
        imported = modules or ", ".join(["sys", *(module for module, _ in installed)])
        async with venvs.lease(name) as generation:
            await anyio.run_process([generation.python, "-I", "-c", f"import {imported}"])


async def all_is_tidy(venvs: Venvs, base: Path) -> None:
    """Nothing is in the store that no environment accounts for, once the children of a killed server are gone too."""
    with anyio.move_on_after(10):
        while _left_over(base):
            await venvs.tidy()
            await anyio.sleep(0.05)
    assert _left_over(base) == set()


def _locked(generation: Path) -> dict[str, str]:
    lock = tomllib.loads(project.lock_text(generation))
    return {
        package["name"]: package["version"] for package in lock.get("package", []) if "virtual" not in package["source"]
    }


def _left_over(base: Path) -> set[Path]:
    store = Store(base)
    names = set(store.names())
    kept: set[str | None] = set()
    for name in names:
        kept.add(current := store.current(name))
        if current and (record := store.venv_record(name)):
            kept.update(record.past(current))
    made = [record for path in store.generations.iterdir() if (record := read_generation(path))]
    kept.update(
        python.name
        for python in store.pythons.iterdir()
        if any(Path(record.base_python).is_relative_to(python) for record in made)
    )
    directories = (store.generations, store.blueprints, store.pythons, store.leases)
    left = {path for directory in directories for path in directory.iterdir() if path.name not in kept}
    left |= {*store.tmp.iterdir(), *store.moves.iterdir(), *store.trash.iterdir(), *store.cache.glob(".tmp*")}
    left |= {path for path in store.locks.iterdir() if path.name not in names}
    return left | {path for path in store.venvs.iterdir() if path.name.removesuffix(path.suffix) not in names}
