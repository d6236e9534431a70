"""Wheels of packages that exist only as source. Strangers' code runs for it: behind walls, without credentials, in a
cache that goes with it; only the wheel leaves."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mcp_python_executor.errors import PackageError
from mcp_python_executor.process import Completed, run
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import reasons
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.project import PYPROJECT, WHEELS
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.uv import Listener, Uv, without_credentials

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)


async def build_wheels(
    uv: Uv, workshop: Path, interpreter: Interpreter, names: Sequence[str], listener: Listener | None
) -> None:
    """Build a wheel of each of `names`, as the project in `workshop` needs it, into its folder of wheels.

    Raises:
        PackageError: one can't be built; with the compiler's last words.
    """
    private = workshop / "build"
    private.mkdir()
    try:
        wheels = workshop / WHEELS
        wheels.mkdir(exist_ok=True)
        built = {parse_wheel_filename(path.name)[0] for path in wheels.iterdir()}
        shutil.copyfile(workshop / PYPROJECT, private / PYPROJECT)
        sources = [part for name in names for part in ("--no-binary", name)]
        resolve = ["pip", "compile", "--no-header", "--no-annotate", "--only-binary", ":all:", *sources]
        resolved = await _behind_walls(uv, private, wheels, interpreter, [*resolve, str(private / PYPROJECT)])
        if resolved.returncode:
            raise PackageError(reasons.build_reason(names, resolved.stderr.decode("utf-8", "replace")))
        for name, version in _PINNED.findall(resolved.stdout.decode("utf-8", "replace")):
            if name in names and name not in built:
                if listener is not None:
                    listener(f"building {name} {version}")
                await _build(uv, private, wheels, interpreter, name, version)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(remove_tree, private)


async def _build(uv: Uv, private: Path, wheels: Path, interpreter: Interpreter, name: str, version: str) -> None:
    install = ["pip", "install", "--no-deps", "--no-binary", name, "--target", str(private / "target")]
    completed = await _behind_walls(uv, private, wheels, interpreter, [*install, f"{name}=={version}"])
    if completed.returncode:
        raise PackageError(reasons.build_reason([name], completed.stderr.decode("utf-8", "replace")))
    for path in (private / "cache").glob("sdists-v*/**/*.whl"):
        if not path.is_symlink() and path.is_file() and _is_of(path, name, version):
            shutil.copyfile(path, wheels / path.name, follow_symlinks=False)
            return
    raise PackageError(f"building {name!r} from source left no wheel of it")


def _is_of(wheel: Path, name: str, version: str) -> bool:
    """A build may leave what it likes: only what we asked for is taken."""
    try:
        found, found_version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        return False
    return found == canonicalize_name(name) and str(found_version) == version


async def _behind_walls(
    uv: Uv, private: Path, wheels: Path, interpreter: Interpreter, command: Sequence[str]
) -> Completed:
    environment = {
        **without_credentials(uv.index),
        "HOME": str(private),
        "TMPDIR": str(private),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "UV_CACHE_DIR": str(private / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    include = interpreter.prefix / "include"
    headers = (include,) if include.is_dir() else ()
    policy = Policy(
        read=(uv.binary, *interpreter.paths, *headers, *uv.configured_files(), wheels),
        write=(private,),
        hide=interpreter.hidden,
        network=True,
        environment=tuple(environment.items()),
    )
    options = ["--python", str(interpreter.python), "--find-links", str(wheels)]
    return await run(
        uv.confine(policy, [str(uv.binary), *command, *options]), environment=environment, directory=Path("/")
    )
