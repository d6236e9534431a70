"""The directory of the environments: generations, the links that name them, records, leases and what is left over.

BASE/NAME                    a link to the venv's current generation: the one commit point, switched by a rename
BASE/.store/generations/ID/  an installed environment at its final path, with the pyproject.toml of what was asked
                             for, the uv.lock of what that means, the wheels built for it, packages.json, and
                             generation.json, which is written last
BASE/.store/blueprints/ID/   the same without what was installed: what it takes to make the generation again
BASE/.store/pythons/KEY/     a downloaded interpreter, and python.json, which is written last
BASE/.store/venvs/NAME.json  description, time of creation, history; the age of NAME.used is the last use
BASE/.store/learned/ID.json  what running programs in the generation taught; nothing but time is lost with it
BASE/.store/leases/ID        locked shared while somebody uses the generation (or downloaded interpreter), exclusively
                             while it is made or removed
BASE/.store/locks/NAME       locked while an operation changes the venv
BASE/.store/cache/           uv's, on the same file system and below the same directory, so that files are linked
BASE/.store/asked/           uv's, for what interpreters told of themselves: each could write there, so nothing else is
BASE/.store/tmp/             workshops of running operations, each locked by its owner
BASE/.store/moves/NAME       a link on its way to the place of a folder, where the file system can't exchange the two
BASE/.store/trash/           generations on their way out
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mcp_python_executor.errors import StoreError
from mcp_python_executor.venvs import plain, pythons
from mcp_python_executor.venvs.files import exchange, remove_tree, sync_directory
from mcp_python_executor.venvs.locks import Lock, is_locked, lock_directory, try_lock
from mcp_python_executor.venvs.model import Generation, Package
from mcp_python_executor.venvs.records import (
    MARKER,
    GenerationRecord,
    VenvRecord,
    read_generation,
    read_packages,
    read_venv,
    write_venv,
)

_GENERATIONS = ".store/generations/"
# NFS, SMB and 9p know no RENAME_EXCHANGE (rename(2)); old kernels and other systems have no call for it.
_CAN_NOT_EXCHANGE = frozenset([errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
_DIRECTORIES = (
    "generations",
    "blueprints",
    "pythons",
    "cache",
    "asked",
    "venvs",
    "learned",
    "leases",
    "locks",
    "tmp",
    "moves",
    "trash",
)


@dataclass(frozen=True, slots=True)
class _Finished:
    record: GenerationRecord
    generation: Generation
    python: str


class Store:
    """The environments below `base`, and everything that belongs to them. No call of it waits for anybody."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / ".store"
        self.generations = self.root / "generations"
        self.blueprints = self.root / "blueprints"
        self.pythons = self.root / "pythons"
        self.cache = self.root / "cache"
        self.venvs = self.root / "venvs"
        self.notes = self.root / "learned"
        self.leases = self.root / "leases"
        self.locks = self.root / "locks"
        self.tmp = self.root / "tmp"
        self.moves = self.root / "moves"
        self.trash = self.root / "trash"
        self._prefix = f"{base}{os.sep}"
        self._known: dict[str, _Finished] = {}

    @classmethod
    def open(cls, base: Path) -> "Store":
        """The store at `base`, made where it is missing.

        Raises:
            StoreError: `base` can't be used.
        """
        try:
            _make_directory(base)
            store = cls(base.resolve(strict=True))
            _make_directory(store.root)
            for name in _DIRECTORIES:
                _make_directory(store.root / name)
            tempfile.TemporaryFile(dir=store.tmp).close()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(
                f"{str(base)!r} can't hold environments: {reason}; set VENVS_BASE_PATH to a directory you may write to"
            ) from error
        return store

    def refusal(self, error: OSError) -> str:
        """Why the file system refused something, and the way out."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full; free some space for {str(self.base)!r}"
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            return (
                f"the file system of {str(self.base)!r} grants no locks; set VENVS_BASE_PATH to a place on another one"
            )
        return f"{(error.strerror or str(error)).lower()} in {str(self.base)!r}; check who may write there"

    def names(self) -> list[str]:
        """Every environment's name, sorted."""
        with os.scandir(self.base) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and self._is_venv(entry))

    def exists(self, name: str) -> bool:
        """Whether an environment has this name."""
        return plain.may_be_name(name) and (self.current(name) is not None or plain.is_venv(self.base / name))

    def current(self, name: str) -> str | None:
        """The id of the generation that `name` is linked to; None where it is no link of ours."""
        try:
            target = os.readlink(f"{self._prefix}{name}")  # noqa: PTH115 - on the way of each execution
        except FileNotFoundError:
            target = self._coming(name)
        except OSError:
            return None
        return target.removeprefix(_GENERATIONS) if target.startswith(_GENERATIONS) else None

    def path(self, generation: str) -> Path:
        """Where the generation stands."""
        return self.generations / generation

    def learned(self, generation: str) -> Path:
        """The file that keeps what was learned of the generation."""
        return self.notes / f"{generation}.json"

    def pass_on(self, before: str, after: str) -> None:
        """Let the generation `after` begin with what was learned of `before`, unless something was of itself."""
        new = self.learned(after)
        if not new.exists():
            with suppress(OSError):
                shutil.copyfile(self.learned(before), new)

    def record(self, generation: str) -> GenerationRecord | None:
        """What is written down of a finished generation; None for one that is gone or was never finished."""
        finished = self._finished(generation)
        return finished.record if finished else None

    def packages(self, generation: str) -> tuple[Package, ...]:
        """The packages that a finished generation was made with."""
        return read_packages(self.path(generation))

    def made_at(self, generation: str) -> datetime | None:
        """When the generation was finished; None for one that is gone or was never finished."""
        return _modified(self.path(generation) / MARKER)

    def blueprint(self, generation: str) -> Path | None:
        """The folder with what it takes to make the generation again; None where that is gone."""
        folders = (self.blueprints / generation, self.path(generation))
        return next((folder for folder in folders if _read(folder, generation) is not None), None)

    def generation(self, name: str) -> Generation | None:
        """What `name` runs in now; None for a broken one."""
        current = self.current(name)
        if current is None:
            found = plain.generation(self.base / name)
            return found if found and not pythons.is_too_old(found.python_version) else None
        finished = self._known.get(current) or self._finished(current)
        # Through the link: it is there, and so is the interpreter that it was made from.
        if finished is None or not os.path.exists(finished.python):  # noqa: PTH110 - on the way of each execution
            return None
        if pythons.is_too_old(finished.generation.python_version):
            return None
        return finished.generation

    def problem(self, name: str) -> str:
        """What keeps `name` from running code, and the way out; empty when nothing does."""
        if self.generation(name) is not None:
            return ""
        way_out = "delete it with delete_venv, create it again and install what it needs"
        if pythons.is_too_old(version := self._version(name)):
            return f"its Python {version} is too old, the oldest supported is {pythons.OLDEST}; {way_out}"
        if self._may_be_repaired(name):
            way_out = f"repair it in a terminal with `mcp-python-executor venv repair {name}`, or {way_out}"
        current, python = self.current(name), self.base / name / "bin" / "python"
        if not python.is_symlink() or (current and self.record(current) is None):
            return f"its files are gone; {way_out}"
        return f"the Python {str(python.resolve())!r} that it was made from is gone; {way_out}"

    def switch(self, name: str, generation: str) -> None:
        """Make `name` name `generation`, lasting: the commit of every operation."""
        with self.workshop() as workshop:
            link = workshop / "link"
            link.symlink_to(_GENERATIONS + generation)
            link.replace(self.base / name)
        sync_directory(self.base)

    def replace_folder(self, name: str, generation: str) -> None:
        """Make `name`, a plain venv, name `generation`, lasting. The folder goes when nobody uses it."""
        folder = plain.generation(self.base / name)
        aside = self.trash / (folder.id if folder else f"{plain.PREFIX}broken-{os.urandom(8).hex()}")
        remove_tree(aside)
        aside.symlink_to(_GENERATIONS + generation)
        try:
            exchange(aside, self.base / name)
        except OSError as error:
            if error.errno not in _CAN_NOT_EXCHANGE:
                raise
            self._move(aside, name)
        sync_directory(self.base)

    def _move(self, aside: Path, name: str) -> None:
        """Exchange in two steps. What is on its way is written down first, for whoever finds us killed in between."""
        aside.replace(self.moves / name)
        sync_directory(self.moves)
        (self.base / name).rename(aside)
        (self.moves / name).replace(self.base / name)

    def finish_move(self, name: str) -> None:
        """Bring to its end, or back, what whoever held the lock of `name` before us was killed in."""
        if os.path.lexists(self.moves / name):
            if os.path.lexists(self.base / name):  # of the folder itself nothing was moved yet
                (self.moves / name).unlink()
            else:
                (self.moves / name).rename(self.base / name)
                sync_directory(self.base)

    def _coming(self, name: str) -> str:
        try:
            return os.readlink(self.moves / name)  # noqa: PTH115 - as above
        except OSError:
            return ""

    def remove(self, name: str) -> None:
        """Make `name` name nothing, lasting. What it named goes when nobody uses it. The caller holds its lock."""
        path = self.base / name
        if path.is_symlink():
            path.unlink()
        elif (adopted := plain.generation(path)) is not None:
            path.rename(self.trash / adopted.id)
        else:
            path.rename(self.trash / f"{plain.PREFIX}broken-{os.urandom(8).hex()}")
        sync_directory(self.base)
        with suppress(OSError):  # it is gone: what can't be removed of it now is left to a collection
            self.forget(name)

    def venv_record(self, name: str) -> VenvRecord | None:
        """What is written down of the venv `name`."""
        return read_venv(f"{self.venvs}{os.sep}{name}.json")

    def write_venv_record(self, name: str, record: VenvRecord) -> None:
        """Write down `record` of the venv `name`."""
        with self.workshop() as workshop:
            write_venv(self.venvs / f"{name}.json", record, workshop)

    def named(self) -> set[str]:
        """The ids of the generations that a venv is linked to or may return to."""
        named: set[str] = set()
        for path in (*self.base.iterdir(), *self.moves.iterdir()):
            if (current := self.current(path.name)) is not None:
                named.add(current)
                if record := self.venv_record(path.name):
                    named.update(record.past(current))
        return named

    def present(self) -> set[str]:
        """The ids of what environments run in now."""
        return {generation.id for name in self.names() if (generation := self.generation(name)) is not None}

    def touch(self, name: str) -> None:
        """Note that `name` is used now. It may be lost with the power or on a full disk: nothing is waited for."""
        path = f"{self.venvs}{os.sep}{name}.used"
        try:
            os.utime(path)
        except OSError:
            with suppress(OSError):
                Path(path).touch()

    def last_used(self, name: str) -> datetime | None:
        """When `name` was last used; None when it never was."""
        return _modified(f"{self.venvs}{os.sep}{name}.used")

    def is_busy(self, name: str) -> bool:
        """Whether some server changes `name` now."""
        return is_locked(f"{self.locks}{os.sep}{name}")

    def try_lease(self, generation: str) -> Lock | None:
        """A lease on the generation; None while it is made or removed."""
        return try_lock(f"{self.leases}{os.sep}{generation}", shared=True)

    @contextmanager
    def workshop(self) -> Generator[Path]:
        """An empty directory for one operation. It goes with the block, or at a later start if we are killed in it."""
        while True:
            path = Path(tempfile.mkdtemp(dir=self.tmp))
            if (lock := lock_directory(path)) is not None:
                break
        try:
            yield path
        finally:
            remove_tree(path)
            lock.release()

    def _finished(self, generation: str) -> "_Finished | None":
        """Read once: a finished generation does not change, it can only go."""
        known = self._known.get(generation)
        if known is not None and os.path.lexists(known.python):
            return known
        self._known.pop(generation, None)
        path = self.path(generation)
        record = _read(path, generation)
        if record is None:
            return None
        python = path / "bin" / "python"
        base = Path(record.base_prefix)
        value = Generation(generation, path, python, base, record.python_version, record.package_count)
        known = self._known[generation] = _Finished(record, value, str(python))
        return known

    def forget(self, name: str) -> None:
        """Remove what is kept of the venv `name`, which is gone. The caller holds its lock: that goes last."""
        for suffix in (".json", ".used"):
            (self.venvs / (name + suffix)).unlink(missing_ok=True)
        (self.locks / name).unlink(missing_ok=True)

    def _version(self, name: str) -> str:
        current = self.current(name)
        made = self.record(current) if current else plain.generation(self.base / name)
        return made.python_version if made else ""

    def _may_be_repaired(self, name: str) -> bool:
        current = self.current(name)
        return (
            plain.interpreter(self.base / name) is not None if current is None else self.blueprint(current) is not None
        )

    def _is_venv(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink() and self.current(entry.name) is not None:
            return True
        return plain.is_venv(self.base / entry.name)


def _read(folder: Path, generation: str) -> GenerationRecord | None:
    """The record of `generation` in `folder`. No package can bring it: the id is made of the hashes of the packages."""
    record = read_generation(folder)
    return record if record and record.id == generation else None


def _make_directory(path: Path) -> None:
    """Make the directory `path` where it is missing, lasting: what is written in it lasts no longer than its name."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(path.parent)


def _modified(path: Path | str) -> datetime | None:
    try:
        return datetime.fromtimestamp(os.stat(path).st_mtime, UTC)  # noqa: PTH116 - once for each environment in a list
    except FileNotFoundError:
        return None
