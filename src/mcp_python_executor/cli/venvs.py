"""The environments from the terminal: the same operations as the tools, in words for people or as the tools' JSON."""

import argparse
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from mcp_python_executor.cli.bar import open_bar
from mcp_python_executor.cli.terminal import harmless, open_terminal, say
from mcp_python_executor.errors import InvalidArgument, shown
from mcp_python_executor.sandbox.probe import probe
from mcp_python_executor.server.outputs import (
    DeletionOutput,
    OneVenvOutput,
    Output,
    PackageOutput,
    PackageReportOutput,
    PackagesOutput,
    VenvOutput,
    VenvsOutput,
)
from mcp_python_executor.service import open_environments, open_service
from mcp_python_executor.settings import Settings
from mcp_python_executor.venvs.model import PackageReport, Venv, VenvStatus
from mcp_python_executor.venvs.operations import Venvs

Listener = Callable[[str], None]
_Answer = tuple[str, Output]
"""What a command answers: in words, and as the object that the tool of the same name gives."""


def listing(options: argparse.Namespace) -> int:
    """Shows every environment; the default one is made first."""

    async def ask(settings: Settings) -> _Answer:
        async with open_service(settings) as service:
            await service.wait_for_default(settings.default_venv_name)
            found = await service.venvs.list()
        return _table(found), VenvsOutput(venvs=[VenvOutput.of(venv) for venv in found])

    settings = open_terminal(options)
    _show(anyio.run(ask, settings), options)
    return 0


def create(options: argparse.Namespace) -> int:
    """Makes an environment."""
    python = Path(options.python).absolute() if options.python else None
    if python is not None and not os.path.isfile(python):  # noqa: PTH113 - a name that is too long is no file either
        raise InvalidArgument(f"{shown(options.python)} is no file; name the interpreter to make it from by its path")

    async def ask(venvs: Venvs, listener: Listener) -> _Answer:
        asked = {"description": options.description, "python_version": options.python_version}
        return _one("created", await venvs.create(options.name, python=python, listener=listener, **asked))

    return _change(options, ask)


def delete(options: argparse.Namespace) -> int:
    """Deletes an environment."""

    async def ask(venvs: Venvs, _: Listener) -> _Answer:
        if options.name == options.default_venv_name and not options.confirm:
            raise InvalidArgument(f"venv {options.name!r} is the default one; to delete it, add --confirm")
        deleted = await venvs.delete(options.name, confirm=options.confirm)
        return f"deleted {options.name}", DeletionOutput(venv_name=options.name, deleted=deleted)

    return _change(options, ask)


def describe(options: argparse.Namespace) -> int:
    """Changes a description."""

    async def ask(venvs: Venvs, _: Listener) -> _Answer:
        return _one("described", await venvs.describe(options.name, options.description))

    return _change(options, ask)


def install(options: argparse.Namespace) -> int:
    """Installs packages; the environment is made where it is missing."""

    async def ask(venvs: Venvs, listener: Listener) -> _Answer:
        return _changes(await venvs.install(options.name, options.packages, listener=listener))

    return _change(options, ask)


def uninstall(options: argparse.Namespace) -> int:
    """Removes packages, and what only they needed."""

    async def ask(venvs: Venvs, listener: Listener) -> _Answer:
        return _changes(await venvs.uninstall(options.name, options.packages, listener=listener))

    return _change(options, ask)


def packages(options: argparse.Namespace) -> int:
    """Shows what is installed in an environment."""

    async def ask(venvs: Venvs, _: Listener) -> _Answer:
        found = [PackageOutput.of(package) for package in await venvs.packages(options.name)]
        rows = [("NAME", "VERSION", "REQUESTED")]
        rows += [(one.name, one.version, "yes" if one.requested else "") for one in found]
        return _columns(rows), PackagesOutput(venv_name=options.name, packages=found)

    return _change(options, ask)


def rollback(options: argparse.Namespace) -> int:
    """Returns to what an environment was before its last change."""

    async def ask(venvs: Venvs, listener: Listener) -> _Answer:
        words, value = _changes(await venvs.rollback(options.name, listener=listener), nothing="no package is another")
        return f"rolled back {options.name}\n{words}", value

    return _change(options, ask)


def repair(options: argparse.Namespace) -> int:
    """Rebuilds a broken environment from what is written down of it."""

    async def ask(venvs: Venvs, listener: Listener) -> _Answer:
        return _one("repaired", await venvs.repair(options.name, listener=listener))

    return _change(options, ask)


def _change(options: argparse.Namespace, ask: Callable[[Venvs, Listener], Awaitable[_Answer]]) -> int:
    async def run(settings: Settings) -> _Answer:
        async with open_environments(settings, await probe(settings.venvs_base_path)) as venvs, _progress() as listener:
            return await ask(venvs, listener)

    settings = open_terminal(options)
    options.default_venv_name = settings.default_venv_name
    _show(anyio.run(run, settings), options)
    return 0


def _show(answer: _Answer, options: argparse.Namespace) -> None:
    words, value = answer
    say(value.model_dump_json(indent=2, exclude_none=True) if options.json else words)


@asynccontextmanager
async def _progress() -> AsyncGenerator[Listener]:
    """Shows a person at a terminal what is being done, and how much of it, while it is done; nobody else."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with open_bar() as listener:
        yield listener


def _one(done: str, venv: Venv) -> _Answer:
    noun = "package" if venv.package_count == 1 else "packages"
    words = f"{done} {venv.name}: Python {venv.python_version}, {venv.package_count} {noun}, at {venv.path}"
    return words, OneVenvOutput(venv=VenvOutput.of(venv))


def _changes(report: PackageReport, *, nothing: str = "nothing to do: all is as asked already") -> _Answer:
    lines = [f"created {report.venv_name}"] if report.created else []
    lines += [f"+ {one.name} {one.version}" for one in report.added]
    lines += [f"~ {one.name} {one.previous_version} -> {one.version}" for one in report.changed]
    lines += [f"- {one.name} {one.version}" for one in report.removed]
    return "\n".join(map(harmless, lines)) or nothing, PackageReportOutput.of(report)


def _table(venvs: Iterable[Venv]) -> str:
    found = list(venvs)
    rows = [("NAME", "PYTHON", "PACKAGES", "LAST USED", "STATUS", "DESCRIPTION"), *map(_row, found)]
    problems = [
        harmless(f"{venv.name} is broken: {venv.problem}") for venv in found if venv.status is VenvStatus.BROKEN
    ]
    return "\n".join([_columns(rows), *problems])


def _row(venv: Venv) -> tuple[str, ...]:
    name = f"{venv.name} (default)" if venv.is_default else venv.name
    used = f"{venv.last_used_at.astimezone():%Y-%m-%dT%H:%M}" if venv.last_used_at else "never"
    return name, venv.python_version, str(venv.package_count), used, str(venv.status), venv.description


def _columns(cells: Sequence[Sequence[str]]) -> str:
    rows = [[harmless(cell) for cell in row] for row in cells]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
