"""Runs the command in its arguments on a kernel without Landlock, as far as it can tell: a filter answers."""

import ctypes
import errno
import os
import struct
import sys

_LANDLOCK_CREATE_RULESET, _PR_SET_NO_NEW_PRIVS = 444, 38


def main() -> None:
    """Becomes the command."""
    from mcp_python_executor.inside import seccomp

    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    load, jump_equal, answer, allow = 0x20, 0x15, 0x00050000 | errno.ENOSYS, 0x7FFF0000
    lines = [(load, 0, 0, 0), (jump_equal, 0, 1, _LANDLOCK_CREATE_RULESET), (6, 0, 0, answer), (6, 0, 0, allow)]
    seccomp.install(b"".join(struct.pack("HBBI", *line) for line in lines))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - what it is for


if __name__ == "__main__":
    main()
