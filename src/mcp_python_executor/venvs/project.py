"""A venv as the project that uv understands: what was asked for (pyproject.toml) and what it means (uv.lock)."""

import hashlib
import json
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs.pythons import Interpreter, libc

# The same for every venv, so that the same requests have the same lock and the same generation.
PROJECT_NAME = "mcp-python-executor-venv"
PYPROJECT = "pyproject.toml"
LOCK = "uv.lock"
WHEELS = "wheels"
_REQUIRES_PYTHON = re.compile(r'^requires-python = ".*"$', re.MULTILINE)


def render(requests: Iterable[Requirement], interpreter: Interpreter) -> str:
    """The pyproject.toml that asks for `requests` on this platform and `interpreter`."""
    platform_marker = (
        f"sys_platform == '{sys.platform}' and platform_machine == '{platform.machine()}'"
        f" and implementation_name == '{interpreter.implementation}'"
    )
    lines = [
        "[project]",
        f'name = "{PROJECT_NAME}"',
        'version = "0"',
        f'requires-python = "{requires_python(interpreter)}"',
        "dependencies = [",
        *(f"  {json.dumps(text)}," for text in sorted(map(str, requests))),
        "]",
        "",
        "[tool.uv]",
        "package = false",
        f"environments = [{json.dumps(platform_marker)}]",
        "",
        "[tool.uv.workspace]",  # of its own: uv looks for none in the folders above
        "",
    ]
    return "\n".join(lines)


def requests(pyproject: Path) -> list[Requirement]:
    """What the project at `pyproject` asks for."""
    loaded = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    return [Requirement(text) for text in loaded["project"]["dependencies"]]


def lock_text(generation: Path) -> str:
    """The lock of a generation; empty where nothing was asked for."""
    path = generation / LOCK
    return path.read_text(encoding="utf-8") if path.exists() else ""


def locked_for(interpreter: Interpreter, lock: str) -> str:
    """The text of a lock for `interpreter`, from the `lock` for another one of the same minor version.

    What fits does not depend on the rest of the version: only what the lock says of itself is another.
    """
    return _REQUIRES_PYTHON.sub(f'requires-python = "{requires_python(interpreter)}"', lock, count=1)


def requires_python(interpreter: Interpreter) -> str:
    """The versions of Python that a project for `interpreter` is for, as uv writes it."""
    major, minor = interpreter.minor.split(".")
    return f">={interpreter.version}, <{major}.{int(minor) + 1}"


def merge(old: Sequence[Requirement], new: Sequence[Requirement]) -> list[Requirement]:
    """What is asked for once `new` is asked for on top of `old`.

    A new specifier takes the old one's place; a bare name leaves it as it is. Extras add up. Names are normalized.

    Raises:
        InvalidArgument: one of `new` has the name that the project itself has.
    """
    if any(canonicalize_name(requirement.name) == PROJECT_NAME for requirement in new):
        raise InvalidArgument(f"{PROJECT_NAME!r} is what an environment calls itself, and no package")
    merged = {_key(requirement): requirement for requirement in old}
    for key, requirement in _together(new).items():
        if (before := merged.get(key)) is not None:
            requirement.extras |= before.extras
            requirement.specifier = requirement.specifier or before.specifier
        merged[key] = requirement
    return list(merged.values())


def _together(requirements: Sequence[Requirement]) -> dict[tuple[str, str], Requirement]:
    """What was asked for at once holds at once: `numpy>=1` and `numpy<2` are one request."""
    together: dict[tuple[str, str], Requirement] = {}
    for requirement in requirements:
        known = together.setdefault(_key(requirement), Requirement(str(requirement)))
        known.name = canonicalize_name(requirement.name)
        known.extras |= requirement.extras
        known.specifier &= requirement.specifier
    return together


def without(old: Sequence[Requirement], names: Iterable[str]) -> list[Requirement]:
    """`old` but what is asked of the packages `names`."""
    gone = set(names)
    return [requirement for requirement in old if canonicalize_name(requirement.name) not in gone]


def generation_id(
    pyproject: str, lock: str, interpreter: Interpreter, wheels: Mapping[str, str], number: int = 0
) -> str:
    """The name of the generation with this content; `wheels` are hashes of those built for it, by file name.

    A `number` makes another name: for the same content beside a generation that somebody has changed.
    """
    parts = [1, pyproject, lock, str(interpreter.python), interpreter.version, platform.machine(), libc(), dict(wheels)]
    parts += [number] if number else []
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"py{interpreter.minor.replace('.', '')}-{digest[:20]}"


def unchanged(before: str, after: str) -> set[str]:
    """The packages that are the same in two locks, and that the project of `after` needs wherever it is."""
    old, new = _packages(before), _packages(after)
    needed, waiting = set[tuple[str, str]](), [(PROJECT_NAME, "")]
    while waiting:
        if (one := waiting.pop()) not in needed:
            needed.add(one)
            waiting += [way for package in new.get(one[0], []) for way in _surely_needed(package, one[1])]
    names = {name for name, _ in needed} - {PROJECT_NAME}
    return {name for name in names if len(new.get(name, [])) == 1 and new[name] == old.get(name)}


def _packages(lock: str) -> dict[str, list[dict[str, Any]]]:
    """By name; there may be several of one name, each for other markers."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads(lock).get("package", []):
        packages.setdefault(package["name"], []).append(package)
    return packages


def _surely_needed(package: dict[str, Any], extra: str) -> list[tuple[str, str]]:
    """What `package`, or one `extra` of it, needs on any machine: names, each with one of its extras or none."""
    every = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
    sure: list[dict[str, Any]] = [dependency for dependency in every if "marker" not in dependency]
    return [(one["name"], asked) for one in sure for asked in ("", *one.get("extra", ()))]


@dataclass(frozen=True, slots=True)
class Needs:
    """Which package needs which, as a lock tells it."""

    edges: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, lock: str) -> "Needs":
        """Read from the text of a uv.lock."""
        packages: list[dict[str, Any]] = tomllib.loads(lock).get("package", [])
        return cls({package["name"]: _dependencies(package) for package in packages})

    def needed(self) -> set[str]:
        """What some package needs, and not the project alone."""
        return {name for package, edges in self.edges.items() if package != PROJECT_NAME for name in edges}

    def chain(self, roots: Iterable[str], target: str) -> list[str]:
        """The shortest way from one of `roots` to `target`, both included; empty when there is none."""
        ways = [[root] for root in sorted(set(roots))]
        seen = {way[0] for way in ways}
        while ways:
            way = ways.pop(0)
            if way[-1] == target:
                return way
            following = [name for name in self.edges.get(way[-1], ()) if name not in seen]
            seen.update(following)
            ways += [[*way, name] for name in following]
        return []


def _dependencies(package: dict[str, Any]) -> tuple[str, ...]:
    """Those of extras too: only extras that somebody asked for are in a lock."""
    extras: dict[str, list[dict[str, Any]]] = package.get("optional-dependencies", {})
    groups: list[list[dict[str, Any]]] = [package.get("dependencies", []), *extras.values()]
    return tuple(dependency["name"] for group in groups for dependency in group)


def _key(requirement: Requirement) -> tuple[str, str]:
    return canonicalize_name(requirement.name), str(requirement.marker or "")
