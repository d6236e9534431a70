"""What environments there are: looked up, described, leased. Nothing here changes one."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import anyio

from mcp_python_executor.errors import InvalidArgument, PackageError, StoreError
from mcp_python_executor.venvs import drift, plain
from mcp_python_executor.venvs.locks import Lock
from mcp_python_executor.venvs.model import Generation, GenerationSummary, Package, Venv, VenvStatus, venv_name
from mcp_python_executor.venvs.records import VenvRecord, now, read_old_description
from mcp_python_executor.venvs.store import Store

_POLL_SECONDS = 0.005
# An error names what is there; a longer list than this is no help.
_NAMED = 30


class Catalog:
    """The environments in `store`, of which `default_name` is the default one."""

    def __init__(self, store: Store, default_name: str) -> None:
        self.default_name = default_name
        self._store = store

    def venvs(self) -> list[Venv]:
        """Every environment, sorted by name."""
        return [self.venv(name) for name in self._store.names()]

    def venv(self, name: str, *, look_closer: bool = False) -> Venv:
        """The environment `name`, which exists; what somebody changed in it by hand only if we `look_closer`."""
        generation = self._store.generation(name)
        record = self.record(name)
        status, problem = self._status(name, generation)
        return Venv(
            name=name,
            description=record.description,
            is_default=name == self.default_name,
            path=self._store.base / name,
            python_version=generation.python_version if generation else "",
            package_count=_package_count(generation) if generation else 0,
            created_at=record.created_at,
            last_used_at=self._store.last_used(name),
            status=status,
            problem=problem,
            drift=self._drift(name) if look_closer and status is VenvStatus.READY else "",
        )

    def packages(self, name: str) -> list[Package]:
        """The distributions installed in the environment `name`, sorted by name; what is there, however it came there.

        Raises:
            StoreError: its files are gone.
        """
        current = self._store.current(name)
        if current is None:
            return plain.packages(self._store.base / name)
        if self._store.record(current) is None:
            raise self.broken(name)
        return self.installed(current)

    def installed(self, generation: str) -> list[Package]:
        """The distributions in `generation` now; what somebody put there by hand counts as requested."""
        requested = {package.name: package.requested for package in self._store.packages(generation)}
        there = plain.packages(self._store.path(generation))
        return [replace(package, requested=requested.get(package.name, True)) for package in there]

    def generations(self, name: str) -> list[GenerationSummary]:
        """The generation that `name` is in, then those it may return to, the one it left last first."""
        current = self._store.current(name)
        if current is None:
            if (here := self._store.generation(name)) is None:
                return []
            return [GenerationSummary(here.id, True, here.python_version, _package_count(here), None)]
        past = reversed(self.record(name).past(current))
        return [summary for one in (current, *past) if (summary := self._summary(one, is_current=one == current))]

    def before(self, name: str) -> str:
        """The generation that `name` was in before.

        Raises:
            InvalidArgument: there is none.
        """
        current = self._store.current(name)
        if current is None:
            raise InvalidArgument(
                f"venv {name!r} was made by another tool and has no generations to return to; its first change by "
                "install_packages begins with them"
            )
        past = self.record(name).past(current)
        if not past:
            raise InvalidArgument(
                f"venv {name!r} has no generation to return to; each install_packages and uninstall_packages leaves one"
            )
        return past[-1]

    def require_usable(self, name: str, generation: str) -> None:
        """Nothing, where `generation`, to which `name` may return, can still run code.

        Raises:
            PackageError: it can't.
        """
        record = self._store.record(generation)
        if record is None:
            gone = "its files are"
        elif not (self._store.path(generation) / "bin" / "python").exists():
            gone = f"the Python {record.base_python!r} that it was made from is"
        else:
            return
        raise PackageError(
            f"venv {name!r} can't return to its generation before, for {gone} gone; install or uninstall what should "
            "be different"
        )

    def record(self, name: str) -> VenvRecord:
        """What is written down of `name`; what can be known, where nothing is."""
        if (record := self._store.venv_record(name)) is not None:
            return record
        try:
            created = datetime.fromtimestamp((self._store.base / name).lstat().st_mtime, UTC)
        except FileNotFoundError:
            created = now()
        return VenvRecord(read_old_description(self._store.base, name), created)

    async def leased(self, name: str) -> tuple[Generation, Lock]:
        """What `name` runs in now, and the lease on it, which the caller releases.

        Raises:
            InvalidArgument: there is no such environment.
            StoreError: it is broken.
        """
        while True:
            generation = self._store.generation(name)
            if generation is None:
                self.require(name)
                raise self.broken(name)
            lock = self._store.try_lease(generation.id)
            if lock is not None:
                # Between our look and our lock it may have been replaced, and collected.
                if self._store.generation(name) == generation:
                    return generation, lock
                lock.release()
            await anyio.sleep(_POLL_SECONDS)

    def broken(self, name: str) -> StoreError:
        """The error that says what is wrong with `name`, and the way out."""
        return StoreError(f"venv {name!r} is broken: {self._store.problem(name)}")

    def require(self, name: str) -> None:
        """Nothing, where the environment `name` exists.

        Raises:
            InvalidArgument: it does not; with the names there are.
        """
        if self._store.exists(name):
            return
        venv_name(name)
        names = self._store.names()
        there = "there are " + some(map(repr, names)) if names else "there is none"
        close = difflib.get_close_matches(name, names, n=1)
        closest = f"; did you mean {close[0]!r}?" if close else ";"
        raise InvalidArgument(f"venv {name!r} does not exist; {there}{closest} create it with create_venv")

    def require_free(self, name: str) -> None:
        """Nothing, where an environment `name` may be made.

        Raises:
            InvalidArgument: it may not; with the reason.
        """
        venv_name(name)
        if self._store.exists(name):
            raise InvalidArgument(f"venv {name!r} exists already; choose another name, or delete it with delete_venv")
        if os.path.lexists(self._store.base / name):
            base = str(self._store.base)
            raise InvalidArgument(f"{name!r} is taken by something else in {base!r}; choose another name")

    def _summary(self, generation: str, *, is_current: bool) -> GenerationSummary | None:
        if (record := self._store.record(generation)) is None:
            return None
        made_at = self._store.made_at(generation)
        return GenerationSummary(generation, is_current, record.python_version, record.package_count, made_at)

    def _drift(self, name: str) -> str:
        current = self._store.current(name)
        if current is None:
            return ""
        changes = drift.changes(self._store.packages(current), plain.packages(self._store.path(current)))
        if not changes:
            return ""
        return (
            f"its packages were changed by hand: {some(changes)}; the next install_packages or uninstall_packages "
            f"undoes that, or in a terminal `mcp-python-executor venv repair {name}`; to keep it, install it by a call"
        )

    def _status(self, name: str, generation: Generation | None) -> tuple[VenvStatus, str]:
        if self._store.is_busy(name):
            return VenvStatus.BUSY, "an operation on it is under way"
        if generation is None:
            return VenvStatus.BROKEN, self._store.problem(name)
        return VenvStatus.READY, ""


def _package_count(generation: Generation) -> int:
    count = generation.package_count
    return len(plain.packages(generation.path)) if count is None else count


def some(texts: Iterable[str]) -> str:
    """The first of `texts` in one line, and how many more there are."""
    every = list(texts)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
