"""Remove from a store what nobody names or uses: old generations, what killed servers left, what was on its way out."""

from contextlib import suppress
from pathlib import Path

from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.locks import lock_directory, try_lock
from mcp_python_executor.venvs.store import Store


def collect(store: Store) -> None:
    """Whatever somebody holds a lock on is left for the next time. Several servers may do this at once."""
    for path in store.tmp.iterdir():
        if (lock := lock_directory(path)) is not None:
            remove_tree(path)
            lock.release()
    for name in {*_names(store.locks), *(_venv_of(file) for file in _names(store.venvs))}:
        _collect_venv(store, name)
    kept = store.named()
    for name in _names(store.generations):
        if name not in kept:
            _collect_generation(store, name)
    for name in _names(store.trash):
        _collect_generation(store, name)
    for name in _names(store.leases):
        if name not in kept and not store.path(name).exists():
            _collect_generation(store, name)


def _collect_generation(store: Store, generation: str) -> None:
    lease = store.leases / generation
    lock = try_lock(lease)
    if lock is None:
        return
    try:
        # Named again since we looked: whoever named it held the lease until it was named.
        if generation in store.named():
            return
        trash = store.trash / generation
        remove_tree(trash)
        with suppress(FileNotFoundError):
            # To change its '..' a directory must be writable itself: see rename(2), EACCES.
            store.path(generation).chmod(0o700)
            store.path(generation).rename(trash)
        remove_tree(trash)
        lease.unlink(missing_ok=True)
    finally:
        lock.release()


def _collect_venv(store: Store, name: str) -> None:
    """Remove what is kept of a venv that was never made, or is gone."""
    if store.exists(name):
        return
    lock = try_lock(store.locks / name)
    if lock is not None:
        if not store.exists(name):
            store.forget(name)
        lock.release()


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _venv_of(file: str) -> str:
    """The venv that a file in the directory of records belongs to."""
    return file.removesuffix(".json").removesuffix(".used")
