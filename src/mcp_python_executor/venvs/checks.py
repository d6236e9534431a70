"""What must hold before packages are removed."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import InvalidArgument, PackageError
from mcp_python_executor.venvs.catalog import some
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.project import Needs


def require_installed(venv_name: str, there: Iterable[Package], names: Iterable[str]) -> None:
    """Nothing, where all of `names` are among the packages that are `there`.

    Raises:
        InvalidArgument: one is not; with those that are.
    """
    installed = [package.name for package in there]
    for name in names:
        if name not in installed:
            raise InvalidArgument(
                f"{name!r} is not installed in venv {venv_name!r}; installed: {some(installed) or 'nothing'}"
            )


def require_unneeded(lock: str, remaining: Sequence[Requirement], names: Iterable[str]) -> None:
    """Nothing, where none of the requests `remaining` needs one of `names`.

    Raises:
        PackageError: one does; with the chain.
    """
    needs = Needs.of(lock)
    roots = [canonicalize_name(requirement.name) for requirement in remaining]
    for name in names:
        chain = needs.chain(roots, name)
        if len(chain) > 1:
            steps = ", ".join(f"{one} needs {other}" for one, other in pairwise(chain))
            raise PackageError(f"{name!r} can't be uninstalled: {steps}; uninstall {chain[0]!r} too, or keep it")
