"""What somebody changed by hand in a finished generation: names and versions of its distributions against its record.

Sealing makes that hard, not impossible: root, or whoever makes the files writable again, runs pip there.
"""

from collections.abc import Iterable

from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.store import Store


def is_sound(store: Store, generation: str) -> bool:
    """Whether a finished generation is as it was made, as far as one look into a directory tells."""
    folder = store.path(generation)
    return (folder / "bin" / "python").exists() and not changes(store.packages(generation), plain.packages(folder))


def changes(recorded: Iterable[Package], there: Iterable[Package]) -> list[str]:
    """In a few words each, how `there` is not what is `recorded`."""
    old = {package.name: package.version for package in recorded}
    new = {package.name: package.version for package in there}
    added = [f"{name} {version} was added" for name, version in new.items() if name not in old]
    removed = [f"{name} {version} was removed" for name, version in old.items() if name not in new]
    changed = [
        f"{name} is {new[name]} and was {version}" for name, version in old.items() if new.get(name, version) != version
    ]
    return [*added, *removed, *changed]
