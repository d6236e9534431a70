"""The standard streams of programs, built before anything is imported ahead that may keep one of them for itself."""

from __future__ import annotations

import io
import os
import sys


def build() -> None:
    """Standard streams as an interpreter in a UTF-8 locale has them, but for lines: each leaves when it is complete.

    What a program printed before it was killed is then there to be told. They are built on pipes, for a worker has
    pipes there, and what a stream can do it asks once.
    """
    before = [os.dup(descriptor) for descriptor in range(3)]
    read, write = os.pipe()
    for descriptor, end in enumerate((read, write, write)):
        os.dup2(end, descriptor)
    sys.stdin = sys.__stdin__ = _stream(0, "r", "<stdin>", "surrogateescape")
    sys.stdout = sys.__stdout__ = _stream(1, "w", "<stdout>", "surrogateescape")
    sys.stderr = sys.__stderr__ = _stream(2, "w", "<stderr>", "backslashreplace")
    for descriptor, kept in enumerate(before):
        os.dup2(kept, descriptor)
    for descriptor in (*before, read, write):
        os.close(descriptor)


def _stream(descriptor: int, mode: str, name: str, errors: str) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, mode, closefd=False)
    raw.name = name
    buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors=errors, newline=None, line_buffering=mode == "w")
