"""Tries each wall that a run needs, as a run does, and prints as JSON how each try went: empty where it stands.

A wall stands when what it has to refuse is refused, whatever the kernel says of itself.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import socket
import sys

from . import inits, landlock, namespaces, seccomp

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TRIES = "namespaces", "mounts", "landlock", "scopes", "processes", "seccomp"
_MS_REMOUNT, _MS_BIND, _NEWUSER = 32, 4096, 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def _refused(what: str, number: int, act: Callable[[], object]) -> None:
    """Raises OSError where `act` succeeds, or fails otherwise than with the error `number`."""
    try:
        act()
    except OSError as error:
        if error.errno != number:
            raise
    else:
        raise OSError(f"{what} was not refused")


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), function)


def _try_bubblewrap(canary: str, outside: Mapping[str, str]) -> None:
    """`canary` is a file of the host's, and `outside` are the names of the server's namespaces by their kind."""
    shared = [kind for kind, name in outside.items() if os.readlink(f"/proc/self/ns/{kind}") == name]
    if shared:
        raise OSError(f"it shares namespaces with the server: {', '.join(shared)}")
    _refused("opening a file that it was not to show", errno.ENOENT, lambda: os.open(canary, os.O_PATH))
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        raise OSError("its root is not read-only")


def _locked() -> None:
    namespaces.enter_locked()
    if os.statvfs("/").f_flag & os.ST_RDONLY:  # as bubblewrap leaves it
        change = _MS_REMOUNT | _MS_BIND
        _refused("making a locked mount writable", errno.EPERM, lambda: _call("mount", None, b"/", None, change, None))


class _Beyond:
    """A process and a socket that a later Landlock domain does not hold."""

    def __init__(self, inherited: int) -> None:
        self._server, self._client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self._server.bind("")  # the kernel chooses an abstract address
        self._server.listen()
        held, self._hold = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(inherited)
            os.close(self._hold)
            os.read(held, 1)
            os._exit(0)

    def try_to_reach(self) -> None:
        _refused("a signal to a process beyond", errno.EPERM, lambda: os.kill(self._pid, 0))
        address = self._server.getsockname()
        _refused("a connection to a socket beyond", errno.EPERM, lambda: self._client.connect(address))


def _try_mounts(mounts: int) -> None:
    namespaces.join_mounts(mounts)
    namespaces.own_user()
    others = {entry for entry in os.listdir("/proc") if entry.isdigit()} - {"1", str(os.getpid())}
    if others:
        raise OSError("its /proc shows the processes of others")


def _try_landlock() -> None:
    namespaces.no_new_privileges()
    landlock.restrict([], [], [], network=False)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        _refused("opening a file", errno.EACCES, lambda flags=flags: os.open(os.devnull, flags))


def _start_one() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _try_processes() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    _refused("a process too many", errno.EAGAIN, _start_one)


def _try_seccomp() -> None:
    seccomp.install(seccomp.program(os.uname().machine, network=False, zygote=False))
    _refused("a Unix socket", errno.EACCES, lambda: socket.socket(socket.AF_UNIX))
    _refused("tracing", errno.EPERM, lambda: _call("ptrace", 0, 0, 0, 0))
    _refused("a user namespace", errno.EPERM, lambda: _call("unshare", _NEWUSER))


def _failure(put_up: Callable[[], object]) -> str:
    try:
        put_up()
    except OSError as error:
        return str(error)
    return ""


def _tell(write: int, name: str, put_up: Callable[[], object]) -> None:
    os.write(write, json.dumps({name: _failure(put_up)}).encode() + b"\n")


def _try_in_worker(write: int, mounts: int | None) -> None:
    """In a fork: every wall of a worker, told one by one, so that a kill half-way shows what was tried last."""
    try:
        if mounts is not None:
            _tell(write, "mounts", lambda: _try_mounts(mounts))
        beyond = _Beyond(write)
        _tell(write, "landlock", _try_landlock)
        _tell(write, "scopes", beyond.try_to_reach)
        _tell(write, "processes", _try_processes)
        _tell(write, "seccomp", _try_seccomp)
    finally:
        os._exit(0)


def _begin(found: dict[str, object]) -> tuple[inits.Inits | None, inits.Init | None]:
    try:
        _locked()
        all_inits = inits.Inits(lambda: namespaces.Mounts({"/tmp": 1 << 20}, {}, "/", []), 1)
    except OSError as error:
        found["namespaces"] = str(error)
        return None, None
    found["namespaces"] = ""
    try:
        return all_inits, all_inits.begin("tmp")
    except OSError as error:
        found["mounts"] = str(error)
        return all_inits, None


def main() -> None:
    """The probe's whole life. Behind bubblewrap its argument is what that has to refuse, a JSON object."""
    found: dict[str, object] = dict.fromkeys(_TRIES, "not reached")
    found["abi"] = landlock.abi()
    if len(sys.argv) > 1:
        found["bubblewrap"] = _failure(lambda: _try_bubblewrap(**json.loads(sys.argv[1])))
    all_inits, init = _begin(found)
    read, write = os.pipe()  # after the namespaces: a process stays outside them and would keep it open
    worker = os.fork()
    if worker == 0:
        _try_in_worker(write, init.mounts if init else None)
    os.close(write)
    if all_inits and init:
        all_inits.leave()
    with open(read) as results:
        for line in results:
            found.update(json.loads(line))
    os.waitpid(worker, 0)
    if all_inits and init:
        all_inits.end_run(init)
    print(json.dumps(found), flush=True)  # with `all_inits` all processes here end
