"""What follows a commit, in its own time: compile a generation's modules, then seal it."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_python_executor.process import run
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.files import seal
from mcp_python_executor.venvs.interpreters import of_generation
from mcp_python_executor.venvs.locks import try_lock
from mcp_python_executor.venvs.records import GenerationRecord
from mcp_python_executor.venvs.store import MARKER, Store
from mcp_python_executor.venvs.uv import Confine

# Nobody waits for it: executions go first. Each file is replaced by a rename, so that readers never see a part of one.
_COMPILE = """
import compileall, os, sys
os.nice(19)
for path in sys.argv[1:]:
    compileall.compile_dir(path, maxlevels=64, quiet=2, workers=1)
"""


def is_sealed(store: Store, generation: str) -> bool:
    """Whether nothing is left to do for the generation: the marker is the last file to become read-only."""
    try:
        return not (store.path(generation) / MARKER).stat().st_mode & stat.S_IWUSR
    except FileNotFoundError:
        return True


async def compile_and_seal(store: Store, confine: Confine, generation: str, before: str | None = None) -> None:
    """Give the generation its bytecode, and take the right to write from it. Harmless when it was done before.

    What the generation `before` has compiled of the same files is taken from there.
    """
    with ExitStack() as held:
        # It is kept from removal meanwhile, and only one server does it.
        if (lease := store.try_lease(generation)) is None:
            return
        held.callback(lease.release)
        if (lock := try_lock(store.locks / f".{generation}")) is None:
            return
        held.callback(lock.release)
        held.callback((store.locks / f".{generation}").unlink, missing_ok=True)
        record = store.record(generation)
        if record is None or is_sealed(store, generation):
            return
        if before is not None and (old := store.try_lease(before)) is not None:
            held.callback(old.release)
            await run_sync(_share, store.path(before), store.path(generation), record)
        await _compile(store.path(generation), record, confine)
        await run_sync(seal, store.path(generation))


async def _compile(path: Path, record: GenerationRecord, confine: Confine) -> None:
    """An interpreter without `site` (-S) compiles: no code of the environment runs, so that it may write there."""
    interpreter = of_generation(record)
    environment = {"PATH": "/usr/bin:/bin"}
    policy = Policy(
        read=interpreter.paths, hide=interpreter.hidden, write=(path,), environment=tuple(environment.items())
    )
    command = [str(interpreter.python), "-I", "-S", "-c", _COMPILE, *map(str, plain.site_packages(path))]
    await run(confine(policy, command), environment=environment, directory=Path("/"))


def _share(old: Path, new: Path, record: GenerationRecord) -> None:
    """Link bytecode from `old` to `new` for each module that is one and the same file in both: it fits both."""
    tag = f"{record.implementation}-{of_generation(record).minor.replace('.', '')}"
    compiled = {inode: _bytecode(module, tag) for root in plain.site_packages(old) for inode, module in _modules(root)}
    for root in plain.site_packages(new):
        for inode, module in _modules(root):
            if inode in compiled:
                target = _bytecode(module, tag)
                with suppress(FileNotFoundError, FileExistsError):
                    target.parent.mkdir(exist_ok=True)
                    target.hardlink_to(compiled[inode])


def _modules(directory: Path | str) -> Iterator[tuple[int, Path]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _modules(entry.path)
            elif entry.name.endswith(".py"):
                yield entry.inode(), Path(entry.path)


def _bytecode(module: Path, tag: str) -> Path:
    return module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc"
