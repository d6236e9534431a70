"""Starts a command as a user of the host that nobody else is, to whom root's files at some places belong.

It is for bubblewrap, where root starts the server. Behind a bubblewrap that root runs, programs keep root's number in
the kernel: what root owns in /proc/sys is theirs, so bubblewrap covers it, and where /proc is covered the kernel lets
nobody mount another (mount_namespaces(7)); and no limit counts their processes (RLIMIT_NPROC in getrlimit(2)).

Each place is cloned, and the ids of the clone are mapped (MOUNT_ATTR_IDMAP in mount_setattr(2)): what root owns appears
as the user's, what the user writes becomes root's, and everybody else's stays theirs. The clones are attached in a
mount namespace of the command's own and end with it. One that can't be mapped is seen as any stranger sees it.

This is a process of its own that becomes the command, run by the server's interpreter with the standard library alone:
each start waits for what it imports.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys

TYPE_CHECKING = False  # typing's own, and pathlib, would cost as much as all the rest
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# User and group. Above what SSSD gives out and below what systemd does (its UIDS-GIDS.md): nobody else may have it, for
# any process of the same user could enter the command's namespaces, where root's files are its own. So not nobody's.
HOST_ID = 2_100_000_000
_HIGHEST_ID = 2**32 - 2
# Every host has it, for bubblewrap does not start without. The places are cloned before this covers them.
_STAGE = "/tmp"  # noqa: S108 - a mount of the command's own
_STAGE_OPTIONS = b"mode=0755,size=1m"
# Exit status of a trial (see `launcher`) of places that can't all be mapped.
_NOT_MAPPED = 3

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_NEWNS, _NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 2, 4, 16384, 1 << 19
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_CLONE, _FROM_EMPTY_PATH = 1, 4
_IDMAP = 0x00100000
_CAPABILITY_VERSION_3 = 0x20080522
# What the interpreter ignores, and programs do not: see signal(7).
_SIGPIPE, _SIGXFSZ = 13, 25

_libc = ctypes.CDLL(None, use_errno=True)


def staged(places: Iterable[Path]) -> dict[Path, str]:
    """Where the command that `launcher(places)` starts finds each place."""
    return {place: f"{_STAGE}/{number}" for number, place in enumerate(places)}


def launcher(places: Sequence[Path]) -> list[str]:
    """What to put before a command so that it is started in the way of this module, with `places` as `staged` says.

    Alone it is a trial: it exits with 0 where all of them can be mapped. Start it as root.
    """
    parent = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib is slow to import
    boot = f"import sys; sys.path.append({parent!r}); from sandbox import unprivileged; unprivileged.main()"
    return [sys.executable, "-I", "-S", "-c", boot, str(len(places)), *map(str, places)]


def main() -> None:
    """The launcher's whole life. Its arguments: how many places, the places, the command."""
    count = int(sys.argv[1])
    places, command = sys.argv[2 : 2 + count], sys.argv[2 + count :]
    try:
        environment = _environment()
        mapped = _stage(places)
        _give_up_root()
        if not command:
            sys.exit(0 if mapped else _NOT_MAPPED)
        for number in (_SIGPIPE, _SIGXFSZ):
            _libc.signal(number, None)
        os.execve(command[0], command, environment)  # noqa: S606 - what this is for
    except OSError as error:
        sys.exit(f"unprivileged start: {error}")


def _environment() -> Mapping[bytes, bytes]:
    """What this process was started with: the interpreter adds a locale of its own to it (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:
        return dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)


def _checked(result: int, what: str) -> int:
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"{what}: {os.strerror(failure)}")
    return result


def _stage(places: Sequence[str]) -> bool:
    """Attaches clones of `places`; gives whether all of them are mapped.

    What the host mounts and unmounts later shows below them: a namespace that did not follow would keep a disk busy.
    """
    _checked(_libc.unshare(_NEWNS), "unshare a mount namespace")
    _checked(_libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "keep mounts from the host")
    namespace = _user_namespace()
    clones = [_clone(place) for place in places]
    mapped = [_map(clone, namespace) for clone in clones]
    flags = _MS_NOSUID | _MS_NODEV
    _checked(_libc.mount(b"tmpfs", _STAGE.encode(), b"tmpfs", flags, _STAGE_OPTIONS), f"mount {_STAGE}")
    for number, clone in enumerate(clones):
        _attach(clone, f"{_STAGE}/{number}")
    return all(mapped)


def _user_namespace() -> int:
    """A descriptor of a user namespace in which root is the user: mounts take their mapping from one."""
    entered, enter = os.pipe()
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        os.write(enter, b"1" if _libc.unshare(_NEWUSER) == 0 else b"")
        os.close(enter)
        os.read(held, 1)  # until the other end is closed, or its process has died
        os._exit(0)
    os.close(enter)
    try:
        if not os.read(entered, 1):
            raise OSError("no user namespace could be made")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(_mapping())
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold)
        os.waitpid(child, 0)


def _mapping() -> str:
    """Ids on the disk, ids they appear as, and how many follow."""
    above = HOST_ID + 1
    return f"0 {HOST_ID} 1\n1 1 {HOST_ID - 1}\n{above} {above} {_HIGHEST_ID - HOST_ID}\n"


def _clone(place: str) -> int:
    """A descriptor of a copy of the mounts at and below `place`, which are attached nowhere."""
    flags = ctypes.c_uint(_CLONE | _AT_RECURSIVE | os.O_CLOEXEC)
    return _checked(_libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(place), flags), place)


def _map(clone: int, namespace: int) -> bool:
    """Maps the ids of `clone`: whole, or but for mounts below it where one of those can't be; gives whether it did."""
    attributes = struct.pack("QQQQ", _IDMAP, 0, 0, namespace)
    size = ctypes.c_size_t(len(attributes))
    return any(
        _libc.syscall(_MOUNT_SETATTR, clone, b"", ctypes.c_uint(flags), attributes, size) == 0
        for flags in (_AT_EMPTY_PATH | _AT_RECURSIVE, _AT_EMPTY_PATH)
    )


def _attach(clone: int, path: str) -> None:
    if stat.S_ISDIR(os.fstat(clone).st_mode):
        os.mkdir(path)  # noqa: PTH102 - pathlib is slow to import
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    result = _libc.syscall(_MOVE_MOUNT, clone, b"", _AT_FDCWD, path.encode(), ctypes.c_uint(_FROM_EMPTY_PATH))
    _checked(result, f"attach {path}")


def _give_up_root() -> None:
    """Becomes the user, in no other group and with no capability, whatever the host says of them (capabilities(7))."""
    os.setgroups([])
    os.setresgid(HOST_ID, HOST_ID, HOST_ID)
    os.setresuid(HOST_ID, HOST_ID, HOST_ID)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "drop capabilities")
