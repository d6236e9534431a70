"""Environments with a package that attacks wherever it is imported: at an interpreter's start, or ahead of programs."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.execution.surroundings import surroundings
from mcp_python_executor.settings import Settings
from tests.bench import Bench, OpenBench, make_interpreter

# A package that is imported ahead, once a program has used it.
_POPULAR = "yaml"
# What it said so far, for the program that is forked from it; the control socket, where it finds one; and namespaces of
# runs that nobody asked for, where a worker is to have some of its own: by the interpreter's own means.
_PRELUDE = """
import ctypes, gc, os, signal, socket
told = []
def control():
    for entry in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(entry)))
        except OSError:
            continue
        if found.type == socket.SOCK_SEQPACKET:
            return found
def inits():
    return next((each for each in gc.get_objects() if type(each).__name__ == "Inits"), None)
def begin(runs):
    name = os.urandom(8).hex()
    for folder in ("work", "output"):
        os.makedirs(f"{runs}/{name}/{folder}")
    run = inits().begin(name)
    inits().leave()
    return run
def inside(run, act):
    # In a child, which waits where it is.
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            if ctypes.CDLL(None).setns(run.mounts, 0x20000) == 0:
                act()
        finally:
            os.write(tell, b"x")
            signal.pause()
    os.read(ready, 1)
"""
TELL = f"import {_POPULAR}\nprint(*{_POPULAR}.told, sep='\\n')"


def infect(interpreter: Interpreter, code: str, *, at_start: bool) -> Interpreter:
    """`interpreter` with a package that runs `code` when it is imported, be it `at_start` or when it is asked for."""
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    (packages / f"{_POPULAR}.py").write_text(_PRELUDE + code)
    if at_start:
        (packages / "start.pth").write_text(f"import {_POPULAR}")
    return interpreter


@asynccontextmanager
async def infected(
    open_bench: OpenBench, directory: Path, code: str, *, at_start: bool = True, **settings: Any
) -> AsyncGenerator[Bench]:
    """A bench whose environment runs `code` in the warm interpreter, or in each worker where that imports nothing."""
    interpreter = infect(make_interpreter(directory / "infected"), code, at_start=at_start)
    async with open_bench(within=interpreter, **settings) as bench:
        if not at_start:
            bench.zygotes.learn(bench.surroundings, [_POPULAR])
            with anyio.fail_after(30):
                while _POPULAR not in bench.zygotes.warmed(bench.surroundings):  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
        yield bench


def in_another_environment(bench: Bench, interpreter: Interpreter, directory: Path, **settings: Any) -> Bench:
    """The same server's bench with an environment that nobody infected."""
    chosen = Settings(venvs_base_path=directory / "venvs", **settings)
    return replace(bench, surroundings=surroundings(chosen, interpreter, None, os.environ))
