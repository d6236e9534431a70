"""Remove from a store what nobody names or uses: old generations, what killed servers left, what was on its way out."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.locks import lock_directory, try_lock
from mcp_python_executor.venvs.records import read_generation, read_python
from mcp_python_executor.venvs.store import Store


def collect(store: Store) -> None:
    """Whatever somebody holds a lock on is left for the next time. Several servers may do this at once.

    Raises:
        OSError: something can't be removed; all the rest is.
    """
    failures: list[OSError] = []

    def each(names: Iterable[str], remove: Callable[[Store, str], None]) -> None:
        for name in names:
            try:
                remove(store, name)
            except OSError as error:
                failures.append(error)

    each(_names(store.tmp), _collect_workshop)
    each(_names(store.moves), _finish_move)
    each({*_names(store.locks), *(_venv_of(file) for file in _names(store.venvs))}, _collect_venv)
    kept = store.named()
    pythons = set(_names(store.pythons))
    each(
        {*_names(store.generations), *_names(store.blueprints), *_names(store.leases)} - kept - pythons,
        _collect_generation,
    )
    each(set(_names(store.trash)) - pythons, _collect_generation)
    # After the generations that were made from them.
    each(pythons, _collect_python)
    _collect_learned(store)
    _collect_cache(store)
    if failures:
        raise failures[0]


def _collect_workshop(store: Store, name: str) -> None:
    path = store.tmp / name
    if (lock := lock_directory(path)) is not None:
        with lock:
            remove_tree(path)


def _finish_move(store: Store, name: str) -> None:
    if (lock := try_lock(store.locks / name)) is not None:
        with lock:
            store.finish_move(name)


def _collect_generation(store: Store, generation: str) -> None:
    # Named again since we looked: whoever named it held the lease until it was named.
    paths = (store.path(generation), store.blueprints / generation)
    _remove(store, generation, paths, lambda: generation in store.named())


def _collect_python(store: Store, key: str) -> None:
    folder = store.pythons / key

    def is_used() -> bool:
        made = [*store.generations.iterdir(), *store.blueprints.iterdir()]
        records = [record for path in made if (record := read_generation(path)) is not None]
        return read_python(folder) is not None and any(
            Path(record.base_python).is_relative_to(folder) for record in records
        )

    _remove(store, key, (folder,), is_used)


def _remove(store: Store, name: str, paths: Iterable[Path], is_needed: Callable[[], bool]) -> None:
    """Remove `paths`, their lease `name` and what is on its way out by that name, unless it is leased or needed."""
    lease, trash = store.leases / name, store.trash / name
    if (lock := try_lock(lease)) is None:
        return
    with lock:
        remove_tree(trash)
        if is_needed():
            return
        for path in paths:
            with suppress(FileNotFoundError):
                # To change its '..' a directory must be writable itself: see rename(2), EACCES.
                path.chmod(0o700)
                path.rename(trash)
            remove_tree(trash)
        lease.unlink(missing_ok=True)


def _collect_learned(store: Store) -> None:
    """Remove what was learned of generations that no environment is in or may return to, and what was half written."""
    needed = {store.learned(generation).name for generation in store.named() | store.present()}
    for name in set(_names(store.notes)) - needed:
        (store.notes / name).unlink(missing_ok=True)


def _collect_cache(store: Store) -> None:
    """Remove what uv had downloaded half-way when it was killed: it holds its cache's lock shared while it runs."""
    if not any(store.cache.glob(".tmp*")) or (lock := try_lock(store.cache / ".lock")) is None:
        return
    with lock:
        for path in store.cache.glob(".tmp*"):
            remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _collect_venv(store: Store, name: str) -> None:
    """Remove what is kept of a venv that was never made, or is gone."""
    if store.exists(name):
        return
    if (lock := try_lock(store.locks / name)) is not None:
        with lock:
            if not store.exists(name):
                store.forget(name)


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _venv_of(file: str) -> str:
    """The venv that a file in the directory of records belongs to."""
    return file.removesuffix(".json").removesuffix(".used")
