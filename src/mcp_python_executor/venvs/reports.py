"""What a package operation did, from the packages before and those after."""

from collections.abc import Iterable, Sequence

from mcp_python_executor.venvs.model import Change, Package, PackageReport


def report(
    venv_name: str,
    before: Sequence[Package],
    after: Sequence[Package],
    asked: Iterable[str],
    *,
    created: bool,
    seconds: float,
) -> PackageReport:
    """The difference between two lists of packages; `unchanged` are those of `asked` that were there already."""
    old = {package.name: package.version for package in before}
    new = {package.name: package for package in after}
    wanted = set(asked)
    return PackageReport(
        venv_name=venv_name,
        created=created,
        added=[Change(name, package.version) for name, package in new.items() if name not in old],
        changed=[
            Change(name, package.version, old[name])
            for name, package in new.items()
            if name in old and old[name] != package.version
        ],
        removed=[Change(name, version) for name, version in old.items() if name not in new],
        unchanged=[package for name, package in new.items() if name in wanted and old.get(name) == package.version],
        duration_seconds=seconds,
    )
