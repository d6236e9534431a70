"""Plain venv folders, made by another tool or an older server, and the distributions in any environment."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from mcp_python_executor.venvs.model import Generation, Package
from mcp_python_executor.venvs.pythons import Interpreter

PREFIX = "plain-"
# Older servers allowed names that start with '_' or '-'. None that starts with '.' is a venv's.
_ANY_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", re.ASCII)
_INTERPRETER = Path("bin", "python")
_INFO = ".dist-info"
_VERSION = re.compile(r"3\.\d+\.\d+")


def may_be_name(name: str) -> bool:
    """Whether an environment may be found under `name`, though perhaps none could be made so today."""
    return _ANY_NAME.fullmatch(name) is not None


def is_venv(path: Path) -> bool:
    """Whether the folder `path` is a virtual environment."""
    return os.path.isfile(path / "pyvenv.cfg")  # noqa: PTH113 - quick: asked of every entry


def generation(path: Path) -> Generation | None:
    """What runs in the plain venv `path`; None when its interpreter is gone.

    Its id changes when packages come and go, so that nothing that was learned of it outlives a change.
    """
    python = path / _INTERPRETER
    try:
        state = [part.stat() for part in (path, path / "pyvenv.cfg", python, *site_packages(path))]
        config = _config(path / "pyvenv.cfg")
    except OSError:
        return None
    stamp = ";".join(f"{stat.st_dev}:{stat.st_ino}:{stat.st_mtime_ns}" for stat in state)
    digest = hashlib.sha256(f"{path};{stamp}".encode()).hexdigest()[:16]
    version = _version(config)
    home = Path(config.get("home", "") or python.resolve().parent)
    return Generation(PREFIX + digest, path, python, home.parent, version)


def interpreter(path: Path) -> Interpreter | None:
    """The interpreter that the plain venv `path` was made from, which may be gone; None where nothing tells of it."""
    try:
        config = _config(path / "pyvenv.cfg")
    except OSError:
        return None
    version = _version(config)
    if not _VERSION.fullmatch(version):
        minors = [packages.parent.name.removeprefix("python") for packages in site_packages(path)]
        version = f"{minors[0]}.0" if minors else ""
    if not _VERSION.fullmatch(version):
        return None
    home = Path(config.get("home") or path / "bin")
    executable = config.get("executable") or home / f"python{version.rpartition('.')[0]}"
    return Interpreter(Path(executable), version, home.parent)


def packages(path: Path) -> list[Package]:
    """The distributions installed in the environment `path`, sorted by name; none of its code runs for it."""
    return sorted(_distributions(path), key=lambda package: package.name)


def site_packages(path: Path) -> list[Path]:
    """Where the environment `path` has its packages."""
    return sorted((path / "lib").glob("python*/site-packages"))


def _distributions(path: Path) -> Iterator[Package]:
    for directory in site_packages(path):
        with os.scandir(directory) as entries:
            # What pip could not remove it leaves with a '~' for its first letter.
            names = [name for name in (entry.name for entry in entries) if name.endswith(_INFO) and name[0] != "~"]
        for name in names:
            distribution, _, version = name.removesuffix(_INFO).partition("-")
            # pip leaves this file for what a person named, uv for everything.
            requested = (directory / name / "REQUESTED").exists()
            yield Package(canonicalize_name(distribution), version, requested)


def _version(config: dict[str, str]) -> str:
    """As `venv` writes it, and as virtualenv and uv do, some with more behind the third number."""
    return ".".join((config.get("version") or config.get("version_info") or "").split(".")[:3])


def _config(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.partition("=") for line in lines]
    return {key.strip().lower(): value.strip() for key, _, value in pairs}
