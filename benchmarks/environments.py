"""What environments cost, against raw uv: its own commands for the same, with a cache of the same contents."""

import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from packaging.requirements import Requirement
from uv import find_uv_bin

from benchmarks.calls import plain
from benchmarks.measure import Case, Mark, Row, measure
from benchmarks.site import BARE, Bench, Site, settled
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

# Of what raw uv takes, once nothing has to be downloaded.
_MARK = 1.3
_LARGE = ("numpy", "pandas", "matplotlib", "scikit-learn", "pyarrow")
# An environment that exists already would be installed in no time: each round asks for another few of these.
_SMALL = ("idna", "six", "toml", "wcwidth", "zipp")
_CHOICES = [few for size in range(len(_SMALL), -1, -1) for few in combinations(_SMALL, size)]
_ADDED = ("zope-event", "iniconfig", "attrs", "certifi", "click", "tomli", "pluggy", "packaging")
# Against starting a bare interpreter.
_LISTED, _LISTED_PACKAGES, _LISTED_MARK = 200, 100, 2.0


class _Environments:
    """Makes environments by the tool and by raw uv; neither cache knows what the other one has."""

    def __init__(self, site: Site, bench: Bench) -> None:
        self._site, self._bench = site, bench
        self._uv = find_uv_bin()
        self._caches = (site.venvs / ".store" / "cache", site.directory / "cache")
        self._unique = secrets.token_hex(3)  # a site may have been used before

    async def create(self) -> Row:
        async def work(number: int) -> None:
            await self._bench.call("create_venv", venvName=f"empty-{self._unique}-{number}")

        async def floor(number: int) -> None:
            self._venv(f"empty{number}")

        return await measure(Case(work, floor, "`uv venv`", self._site.installs, 1, Mark(_MARK)))

    async def install(self, packages: Sequence[str], *, cold: bool = False) -> Row:
        """Packages into an environment that does not exist yet."""
        made = f"{len(packages)}-{self._unique}"

        async def work(number: int) -> None:
            await self._bench.call(
                "install_packages", packages=[*packages, *_CHOICES[number]], venvName=made + str(number)
            )

        async def floor(number: int) -> None:
            venv = self._venv(f"{made}{number}")
            self._site.run(self._uv, "pip", "install", "--python", venv, *packages, *_CHOICES[number])

        rounds = min(self._site.installs, len(_CHOICES) - 1, *([4] if cold else []))
        mark, prepare = (None, self._forget) if cold else (Mark(_MARK), self._rest)
        return await measure(Case(work, floor, "`uv venv`, `uv pip install`", rounds, 1, mark, prepare=prepare))

    async def add(self) -> Row:
        """One small package to what is installed already: a project with its lock, as ours is."""
        raw, large = self._site.directory / f"project-{self._unique}", f"large-{self._unique}"
        raw.mkdir()
        requests = map(Requirement, _LARGE)
        (raw / project.PYPROJECT).write_text(project.render(requests, pythons.default()))
        self._site.run(self._uv, "sync", "--project", raw, "--python", sys.executable)
        await self._bench.call("install_packages", packages=[*_LARGE], venvName=large)
        for package in _ADDED:  # into both caches
            self._site.run(self._uv, "pip", "install", "--python", self._venv(package), package)
            await self._bench.call("install_packages", packages=[package], venvName=f"{package}-{self._unique}")

        async def work(number: int) -> None:
            await self._bench.call("install_packages", packages=[_ADDED[number]], venvName=large)

        async def floor(number: int) -> None:
            self._site.run(self._uv, "add", "--project", raw, "--python", sys.executable, _ADDED[number])

        rounds = min(self._site.installs, len(_ADDED) - 1)
        return await measure(Case(work, floor, "`uv add`", rounds, 1, Mark(_MARK), prepare=self._rest))

    def _venv(self, name: str) -> Path:
        venv = self._site.directory / "raw" / name
        self._site.run(self._uv, "venv", "--clear", "--python", sys.executable, venv)
        return venv

    async def _forget(self, number: int) -> None:
        """Both caches begin anew."""
        await self._rest(number)
        for cache in self._caches:
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()

    async def _rest(self, _: int) -> None:
        for venv in self._site.venvs.iterdir():
            if venv.is_symlink():
                await settled(venv)


async def _in_environments(site: Site, work: Callable[[_Environments], Awaitable[Row]]) -> Row:
    async with site.server() as bench:
        return await work(_Environments(site, bench))


async def listing(site: Site) -> Row:
    """What a list of many environments with many packages costs, against a bare interpreter's start."""
    crowded = site.beside("crowded")
    if not crowded.venvs.exists():
        fill(crowded.venvs, _LISTED)
    async with crowded.server() as bench:

        async def work(_: int) -> None:
            await bench.call("list_venvs")

        floor = plain(crowded, "pass", BARE)
        return await measure(Case(work, floor, "`python -I -c pass`", site.rounds, 10, Mark(_LISTED_MARK)))


def fill(base: Path, count: int) -> None:
    """Put so many environments at `base` that look as if they had been installed there."""
    store = Store.open(base)
    interpreter = pythons.default()
    packages = [Package(f"package-{number}", "1.0", requested=True) for number in range(_LISTED_PACKAGES)]
    for number in range(count):
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


_WITH_UV: Mapping[str, Callable[[_Environments], Awaitable[Row]]] = {
    "create": _Environments.create,
    "install numpy, cold": partial(_Environments.install, packages=["numpy"], cold=True),
    "install numpy": partial(_Environments.install, packages=["numpy"]),
    "install 5 large": partial(_Environments.install, packages=_LARGE),
    "add 1 small": _Environments.add,
}
ROWS: Mapping[str, Callable[[Site], Awaitable[Row]]] = {
    **{name: partial(_in_environments, work=work) for name, work in _WITH_UV.items()},
    f"list {_LISTED}x{_LISTED_PACKAGES}": listing,
}
