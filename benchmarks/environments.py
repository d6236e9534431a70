"""What environments cost, against raw uv: its own commands for the same, with a cache of the same contents."""

import shutil
import stat
import sys
from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations
from pathlib import Path

import anyio
from packaging.requirements import Requirement
from uv import find_uv_bin

from benchmarks.measure import Case
from mcp_python_executor.venvs import project, pythons
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.records import (
    MARKER,
    GenerationRecord,
    VenvRecord,
    now,
    write_generation,
    write_packages,
)
from mcp_python_executor.venvs.store import Store

Call = Callable[..., Awaitable[None]]
Run = Callable[..., None]

# Of what raw uv takes, once nothing has to be downloaded.
_MARK = 1.3
_LARGE = ("numpy", "pandas", "matplotlib", "scikit-learn", "pyarrow")
# An environment that exists already would be installed in no time: each round asks for another few of these.
_SMALL = ("idna", "six", "toml", "wcwidth", "zipp")
_CHOICES = [few for size in range(len(_SMALL), -1, -1) for few in combinations(_SMALL, size)]
_ADDED = ("zope-event", "iniconfig", "attrs", "certifi", "click", "tomli", "pluggy", "packaging")
# Against starting a bare interpreter.
_LISTED, _LISTED_PACKAGES, _LISTED_MARK = 200, 100, 2.0


class Environments:
    """The cases. `call` calls a tool of a server whose environments are in `directory`/venvs; `run` runs raw uv."""

    def __init__(self, call: Call, run: Run, directory: Path) -> None:
        self._call = call
        self._run = run
        self._directory = directory
        self._uv = find_uv_bin()
        self._cache = directory / "venvs" / ".store" / "cache"
        self._raw_cache = directory / "cache"

    def cases(self, rounds: int) -> list[Case]:
        """In their order: each leaves the caches as the next one needs them."""
        cold = min(rounds, 4)
        return [
            self._create(rounds),
            self._install("install numpy, cold", ["numpy"], cold, prepare=self._forget),
            self._install("install numpy", ["numpy"], rounds, mark=_MARK, prepare=self._rest),
            self._install("install 5 large", _LARGE, rounds, mark=_MARK, prepare=self._rest),
            self._add(rounds),
        ]

    def _create(self, rounds: int) -> Case:
        async def work(number: int) -> None:
            await self._call("create_venv", venvName=f"empty{number}")

        async def floor(number: int) -> None:
            self._venv(f"empty{number}")

        return Case("create", work, floor, rounds, warm_up=1, mark=_MARK)

    def _install(
        self,
        name: str,
        packages: Sequence[str],
        rounds: int,
        *,
        mark: float | None = None,
        prepare: Callable[[int], Awaitable[None]],
    ) -> Case:
        """Packages into an environment that does not exist yet."""
        made = name.replace(" ", "-").replace(",", "")

        async def work(number: int) -> None:
            await self._call("install_packages", packages=[*packages, *_CHOICES[number]], venvName=f"{made}{number}")

        async def floor(number: int) -> None:
            venv = self._venv(f"{made}{number}")
            self._run(self._uv, "pip", "install", "--python", venv, *packages, *_CHOICES[number])

        return Case(name, work, floor, min(rounds, len(_CHOICES) - 1), warm_up=1, mark=mark, prepare=prepare)

    def _add(self, rounds: int) -> Case:
        """One small package to what is installed already: a project with its lock, as ours is."""
        raw = self._directory / "project"

        async def prepare(number: int) -> None:
            if number == 0:
                await begin()
            await self._rest(number)

        async def begin() -> None:
            raw.mkdir()
            requests = map(Requirement, _LARGE)
            (raw / project.PYPROJECT).write_text(project.render(requests, pythons.default()))
            self._run(self._uv, "sync", "--project", raw, "--python", sys.executable)
            await self._call("install_packages", packages=[*_LARGE], venvName="large")
            for package in _ADDED:  # into both caches
                self._run(self._uv, "pip", "install", "--python", self._venv(package), package)
                await self._call("install_packages", packages=[package], venvName=package)

        async def work(number: int) -> None:
            await self._call("install_packages", packages=[_ADDED[number]], venvName="large")

        async def floor(number: int) -> None:
            self._run(self._uv, "add", "--project", raw, "--python", sys.executable, _ADDED[number])

        return Case("add 1 small", work, floor, min(rounds, len(_ADDED) - 1), warm_up=1, mark=_MARK, prepare=prepare)

    def _venv(self, name: str) -> Path:
        venv = self._directory / "raw" / name
        self._run(self._uv, "venv", "--clear", "--python", sys.executable, venv)
        return venv

    async def _forget(self, number: int) -> None:
        """Both caches begin anew."""
        await self._rest(number)
        for cache in (self._cache, self._raw_cache):
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()

    async def _rest(self, _: int) -> None:
        """Returns when all modules are compiled, which goes on behind an install and takes the cores."""
        with anyio.fail_after(1800):
            while not all(map(_is_sealed, (self._directory / "venvs").glob(f"*/{MARKER}"))):  # noqa: ASYNC110
                await anyio.sleep(0.1)


def _is_sealed(marker: Path) -> bool:
    return not marker.stat().st_mode & stat.S_IWUSR


def listing(call: Call, run: Run, rounds: int) -> Case:
    """What a list of many environments with many packages costs, against a bare interpreter's start."""

    async def work(_: int) -> None:
        await call("list_venvs")

    async def floor(_: int) -> None:
        run(sys.executable, "-I", "-c", "pass")

    return Case(f"list {_LISTED}x{_LISTED_PACKAGES}", work, floor, rounds, warm_up=10, mark=_LISTED_MARK)


def fill(base: Path) -> None:
    """Put many environments at `base` that look as if they had been installed there."""
    store = Store.open(base)
    interpreter = pythons.default()
    packages = [Package(f"package-{number}", "1.0", requested=True) for number in range(_LISTED_PACKAGES)]
    for number in range(_LISTED):
        name = f"py-{number:020}"
        folder = store.path(name)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(interpreter.python)
        site = folder / "lib" / f"python{interpreter.minor}" / "site-packages"
        for package in packages:
            (site / f"{package.name.replace('-', '_')}-1.0.dist-info").mkdir(parents=True)
        write_packages(folder, packages)
        record = GenerationRecord(
            id=name,
            python_version=interpreter.version,
            base_prefix=str(interpreter.prefix),
            base_python=str(interpreter.python),
            implementation=interpreter.implementation,
            package_count=len(packages),
        )
        with store.workshop() as workshop:
            write_generation(folder, record, workshop)
        (folder / project.PYPROJECT).write_text(project.render([], interpreter))
        (folder / MARKER).chmod(0o444)  # nothing is left to be compiled
        store.write_venv_record(f"env{number}", VenvRecord("", now()))
        store.switch(f"env{number}", name)
