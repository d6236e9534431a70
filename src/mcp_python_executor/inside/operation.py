"""Walls around a command of a package operation where bubblewrap puts up none, before it begins: Landlock and seccomp.

Each start of uv waits for this, so it imports little.
"""

from __future__ import annotations

import os
import signal
import sys

from . import landlock, namespaces, seccomp


def main() -> None:
    """Becomes the command.

    Its arguments: whether there is a network (0, 1); how many places are read, looked at and written; these places; the
    command.
    """
    network, *counts = map(int, sys.argv[1:5])
    rest, places = sys.argv[5:], list[list[str]]()
    for count in counts:
        places.append(rest[:count])
        rest = rest[count:]
    try:
        _confine(*places, network=bool(network))
        os.execv(rest[0], rest)  # noqa: S606 - what this is for
    except OSError as error:
        sys.exit(f"error: the walls of a package operation can't be put up: {error}")


def _confine(read: list[str], look: list[str], write: list[str], *, network: bool) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this interpreter ignores them, and no other program does
        signal.signal(number, signal.SIG_DFL)
    namespaces.no_new_privileges()
    landlock.restrict(read, write, [], network=network, look=look)
    # With modes and times of files: uv sets those of what it installs.
    seccomp.install(seccomp.program(os.uname().machine, network=network))
