"""Wheels of packages that exist only as source. Strangers' code runs for it: behind walls, without credentials, in a
cache that goes with it; only the wheel leaves."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mcp_python_executor.errors import PackageError
from mcp_python_executor.process import Completed, run
from mcp_python_executor.sandbox.policy import Policy, readable
from mcp_python_executor.sandbox.probe import INSIDE, bootstrap
from mcp_python_executor.venvs import reasons
from mcp_python_executor.venvs.bounds import LIMITS, Bounds
from mcp_python_executor.venvs.files import remove_tree, walk
from mcp_python_executor.venvs.project import PYPROJECT, WHEELS
from mcp_python_executor.venvs.pythons import Interpreter
from mcp_python_executor.venvs.uv import Listener, Uv, without_credentials

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Site:
    """Where wheels are built, and by what: a build writes below `private` alone, and reads the `wheels` before it."""

    uv: Uv
    interpreter: Interpreter
    walls: Sequence[str]
    private: Path
    wheels: Path


async def build_wheels(
    uv: Uv,
    workshop: Path,
    interpreter: Interpreter,
    names: Sequence[str],
    listener: Listener | None,
    *,
    walls: Sequence[str],
) -> None:
    """Build a wheel of each of `names`, as the project in `workshop` needs it, into its folder of wheels.

    `walls` are put up within the outer one: `landlock`, `seccomp`.

    Raises:
        PackageError: one can't be built; with the compiler's last words, or the bound that it went beyond.
    """
    private, wheels = workshop / "build", workshop / WHEELS
    private.mkdir()
    site = _Site(uv, interpreter, walls, private, wheels)
    try:
        wheels.mkdir(exist_ok=True)
        built = {parse_wheel_filename(path.name)[0] for path in wheels.iterdir()}
        shutil.copyfile(workshop / PYPROJECT, private / PYPROJECT)
        sources = [part for name in names for part in ("--no-binary", name)]
        resolve = ["pip", "compile", "--no-header", "--no-annotate", "--only-binary", ":all:", *sources]
        resolved = await _behind_walls(site, [*resolve, str(private / PYPROJECT)])
        if resolved.returncode:
            raise PackageError(reasons.build_reason(names, resolved.stderr.decode("utf-8", "replace")))
        for name, version in _PINNED.findall(resolved.stdout.decode("utf-8", "replace")):
            if name in names and name not in built:
                if listener is not None:
                    listener(f"building {name} {version}")
                await _build(site, name, version)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(remove_tree, private)


async def _build(site: _Site, name: str, version: str) -> None:
    install = ["pip", "install", "--no-deps", "--no-binary", name, "--target", str(site.private / "target")]
    completed = await _behind_walls(site, [*install, f"{name}=={version}"])
    if completed.returncode:
        raise PackageError(reasons.build_reason([name], completed.stderr.decode("utf-8", "replace")))
    if not await run_sync(_take, site, name, version):
        raise PackageError(f"building {name!r} from source left no wheel of it")


def _take(site: _Site, name: str, version: str) -> bool:
    """Copy the wheel that was built; gives whether there is one. What is reached by a link is none."""
    cache = f"{site.private}{os.sep}cache{os.sep}sdists-v"
    for _, entry in islice(walk(site.private, LIMITS.depth), LIMITS.files):
        if entry.path.startswith(cache) and entry.is_file(follow_symlinks=False) and _is_of(entry.name, name, version):
            shutil.copyfile(entry.path, site.wheels / entry.name, follow_symlinks=False)
            return True
    return False


def _is_of(wheel: str, name: str, version: str) -> bool:
    """A build may leave what it likes: only what we asked for is taken."""
    try:
        found, found_version, _, _ = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return False
    return found == canonicalize_name(name) and str(found_version) == version


async def _behind_walls(site: _Site, command: Sequence[str]) -> Completed:
    """uv's `command`, with all that it starts, behind all walls and within bounds.

    Raises:
        PackageError: it used more than a build may.
    """
    policy = _policy(site)
    options = ["--python", str(site.interpreter.python), "--find-links", str(site.wheels)]
    launcher = [str(site.interpreter.python), *bootstrap("build"), json.dumps(_config(site, policy))]
    bounds = Bounds(site.private, LIMITS)
    completed = await run(
        site.uv.confine(policy, [*launcher, str(site.uv.binary), *command, *options]),
        environment=dict(policy.environment),
        directory=Path("/"),
        watch=bounds.watch,
    )
    if bounds.exceeded:
        raise PackageError(f"building from source was ended, for it used more than {bounds.exceeded}")
    return completed


def _config(site: _Site, policy: Policy) -> dict[str, Any]:
    """What the launcher is told, see `inside/build.py`."""
    return {
        "walls": list(site.walls),
        "read": [str(path) for path in readable(policy, walled=True)[0]],
        "write": [str(path) for path in policy.write],
        "limits": {
            "file_bytes": LIMITS.file_bytes,
            "open_files": LIMITS.open_files,
            # Without walls the kernel would count all that the user runs.
            "processes": LIMITS.refused_processes if site.walls else 0,
        },
    }


def _policy(site: _Site) -> Policy:
    index = without_credentials(site.uv.index)
    environment = {
        **index,
        **site.uv.environment(site.private),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "UV_CACHE_DIR": str(site.private / "cache"),
    }
    interpreter = site.interpreter
    include = interpreter.prefix / "include"
    headers = (include,) if include.is_dir() else ()
    named = replace(site.uv, index=index).configured_files()
    return Policy(
        read=(INSIDE, site.uv.binary, *interpreter.paths, *headers, *named, site.wheels),
        write=(site.private,),
        hide=interpreter.hidden,
        network=True,
        environment=tuple(environment.items()),
    )
