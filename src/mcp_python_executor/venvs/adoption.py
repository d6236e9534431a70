"""A plain venv folder becomes a generation with the same packages, at its first change."""

from packaging.requirements import Requirement

from mcp_python_executor.errors import PackageError
from mcp_python_executor.venvs import plain, project
from mcp_python_executor.venvs.building import Builder, tell
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.records import VenvRecord
from mcp_python_executor.venvs.store import Store
from mcp_python_executor.venvs.uv import Listener


async def adopt(
    store: Store, builder: Builder, name: str, interpreter: Interpreter, record: VenvRecord, listener: Listener | None
) -> str:
    """Put a generation with the packages of the plain venv `name` in its place, and `record` beside it; its id.

    The caller holds the lock on `name`.

    Raises:
        PackageError: not all of its packages are on the index; nothing was changed.
    """
    tell(listener, "taking over what another tool made")
    packages = plain.packages(store.base / name)
    exactly = [Requirement(f"{package.name}=={package.version}") for package in packages]

    def commit(generation: str) -> str:
        store.write_venv_record(name, record)
        store.replace_folder(name, generation)
        return generation

    try:
        async with builder.generation(exactly, interpreter, listener=listener) as exact:
            if not packages:
                return commit(exact.id)
            roots = _roots(packages, project.Needs.of(project.lock_text(store.path(exact.id))))
            async with builder.generation(roots, interpreter, before=exact.id, offline_first=True) as adopted:
                return commit(adopted.id)
    except PackageError as error:
        runs = plain.generation(store.base / name) is not None
        needed, still = (", which a change needs", "it still runs code, and ") if runs else ("", "")
        raise PackageError(
            f"venv {name!r} was made by another tool and can't be made again{needed}: {error}; {still}create_venv "
            "makes another one"
        ) from error


def _roots(packages: list[Package], needs: project.Needs) -> list[Requirement]:
    """What somebody asked for, as far as the folder tells, and what nothing else accounts for."""
    needed = needs.needed()
    return [Requirement(package.name) for package in packages if package.requested or package.name not in needed]
