"""What follows a commit, in its own time: compile a generation's modules, then seal it."""

import stat
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_python_executor.process import run
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.files import seal
from mcp_python_executor.venvs.locks import try_lock
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.store import MARKER, Store
from mcp_python_executor.venvs.uv import Confine

# Nobody waits for it: executions go first. Each file is replaced by a rename, so that readers never see a part of one.
_COMPILE = """
import compileall, os, sys
os.nice(10)
for path in sys.argv[1:]:
    compileall.compile_dir(path, maxlevels=64, quiet=2, workers=1)
"""


def is_sealed(store: Store, generation: str) -> bool:
    """Whether nothing is left to do for the generation: the marker is the last file to become read-only."""
    try:
        return not (store.path(generation) / MARKER).stat().st_mode & stat.S_IWUSR
    except FileNotFoundError:
        return True


async def compile_and_seal(store: Store, confine: Confine, generation: str) -> None:
    """Give the generation its bytecode, and take the right to write from it. Harmless when it was done before.

    An interpreter without `site` (-S) compiles: no code of the environment runs, so that it may write there.
    """
    record = store.record(generation)
    if record is None or is_sealed(store, generation):
        return
    path = store.path(generation)
    lock = try_lock(store.locks / f".{generation}")
    if lock is None:
        return  # another server is at it
    try:
        interpreter = Interpreter(Path(record.base_python), record.python_version, Path(record.base_prefix))
        policy = Policy(read=interpreter.paths, write=(path,), environment=(("PATH", "/usr/bin:/bin"),))
        command = [record.base_python, "-I", "-S", "-c", _COMPILE, *map(str, plain.site_packages(path))]
        await run(confine(policy, command), environment=dict(policy.environment), directory=Path("/"))
        await run_sync(seal, path)
    finally:
        (store.locks / f".{generation}").unlink(missing_ok=True)
        lock.release()
