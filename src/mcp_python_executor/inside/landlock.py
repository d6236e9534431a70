"""What may be read and written, by Landlock: see landlock(7) and Documentation/userspace-api/landlock.rst.

The running kernel is asked for its ABI, and rights it does not know are left out.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV, _RESOLVE_UNIX = 1 << 14, 1 << 15, 1 << 16
# By ABI: how many of the file system rights, in the order of their bits, that kernel knows.
_KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16, 8: 16, 9: 17}
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ALL = (1 << 17) - 1
# A program makes no device nodes, has no device whose ioctls it needs, and reaches no Unix socket of anybody else's.
_WRITE = _ALL & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV | _RESOLVE_UNIX)
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NETWORK_SINCE, _ALL_TCP = 4, 3
_SCOPES_SINCE, _ALL_SCOPES = 6, 3  # abstract Unix sockets, signals

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The Landlock ABI of the running kernel; 0 where there is none."""
    return max(0, _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)))


def _checked(result: int, what: str) -> int:
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"Landlock: {what}: {os.strerror(failure)}")
    return result


def _ruleset(version: int, filesystem: int, *, network: bool) -> int:
    tcp = _ALL_TCP if version >= _NETWORK_SINCE and not network else 0
    scopes = _ALL_SCOPES if version >= _SCOPES_SINCE else 0
    attributes = struct.pack("QQQ", filesystem, tcp, scopes)
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= _NETWORK_SINCE else 8
    return _checked(
        _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "create a ruleset"
    )


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Allows `rights` at and below `path`; a path that is not there needs no rule."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _FILE_ONLY
        rule = struct.pack("=Qi", rights, place)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)), f"allow {path!r}")
    finally:
        os.close(place)


def _restrict(ruleset: int) -> None:
    try:
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "restrict this thread")
    finally:
        os.close(ruleset)


def restrict(
    read: list[str], write: list[str], devices: list[str], *, network: bool, look: list[str] | None = None
) -> None:
    """Leaves the calling thread `read` to read and execute, `write` to change and `devices` to read and write.

    Directories of `look` can be listed, with all below them, and not read.

    TCP ports go unless `network`; signals and abstract sockets beyond the thread's own domain go where the kernel
    can. It must have set no_new_privs, and be the only thread: Landlock binds one thread and what it starts.

    Raises:
        OSError: the kernel has no Landlock or refused.
    """
    version = abi()
    if version == 0:
        raise OSError("this kernel has no Landlock")
    known = (1 << _KNOWN_RIGHTS[min(version, max(_KNOWN_RIGHTS))]) - 1
    ruleset = _ruleset(version, known, network=network)
    for path in read:
        _allow(ruleset, path, _READ & known)
    for path in look or []:
        _allow(ruleset, path, _READ_DIR & known)
    for path in write:
        _allow(ruleset, path, _WRITE & known)
    for path in devices:
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & known)
    _restrict(ruleset)


def scope(*, network: bool) -> None:
    """The same without file system rights, for whoever forks what is to have some: layers only ever narrow.

    Raises:
        OSError: the kernel refused.
    """
    version = abi()
    if version >= _SCOPES_SINCE or (version >= _NETWORK_SINCE and not network):
        _restrict(_ruleset(version, 0, network=network))
