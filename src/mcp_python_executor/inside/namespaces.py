"""Locked mounts for the zygote, and for each run a PID namespace, mounts and a /tmp of its own.

See user_namespaces(7), pid_namespaces(7) and mount_namespaces(7): in a mount namespace that a less privileged user
namespace owns, what was mounted before is locked and can be neither unmounted nor remounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import struct

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x08000000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_PID = struct.Struct("i")
# Each costs the kernel about a kilobyte that no size bounds.
_MOST_INODES = 65_536

# What every /proc shows of the user who started the server: see keyrings(7).
_ANOTHERS_IN_PROC = ("/proc/keys", "/proc/key-users")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"{what}: {os.strerror(failure)}")


def enter_locked() -> int:
    """Becomes PID 1 of namespaces whose mounts are locked; gives a descriptor of their PID namespace.

    Call it single-threaded, before any import of a package. The process that called waits and never returns.

    Raises:
        OSError: the machine refuses nested namespaces.
    """
    _unshare_with_user(_NEWNS | _NEWPID, "unshare user, mount and PID namespaces")
    zygote = os.fork()  # a PID namespace begins with the next child
    if zygote:
        # Not bound by the zygote's filter, so nobody there may take this process over: see ptrace(2).
        _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "keep others out")
        os.waitpid(zygote, 0)
        os._exit(0)
    _seal_devices()
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _unshare_with_user(kinds: int, what: str) -> None:
    """A user namespace with the same user in it, which owns the other namespaces of `kinds`."""
    uid, gid = os.getuid(), os.getgid()
    _checked(_libc.unshare(_NEWUSER | kinds), what)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def own_user() -> None:
    """In the worker: RLIMIT_NPROC counts this run's processes alone, for it counts by user namespace and user.

    The limit that held until now still holds for all runs together (see the kernel's `inc_rlimit_ucounts`, Linux 5.14).

    Raises:
        OSError: the kernel refused.
    """
    _unshare_with_user(0, "unshare a user namespace")


def _seal_devices() -> None:
    """The device nodes are the host's own: nobody here changes their modes, owners or times (chmod(2), EROFS)."""
    for path in (*(f"/dev/{name}" for name in _DEVICES), "/dev"):
        if os.path.ismount(path):
            flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _mount_flags(path)
            _checked(_libc.mount(None, path.encode(), None, flags, None), f"make {path} read-only")


def _mount_flags(path: str) -> int:
    """What a mount is locked to, in mount(2)'s words: statvfs(3) numbers these flags as mount(2) does, but relatime."""
    flags = os.statvfs(path).f_flag
    relatime, ms_relatime = 4096, 1 << 21
    return (flags & 0x40F) | (flags & 0x800) | (ms_relatime if flags & relatime else 0)


class Inits:
    """Has the first process of the next run ready, which is PID 1 of a PID namespace of the run's own.

    A process of its own starts them, for they have to ignore SIGCHLD, as it does: then the kernel waits for the orphans
    that become theirs (see wait(2)), which otherwise counted as processes until the run's end.
    """

    def __init__(self, home: int, program: str) -> None:
        """`program` is what they run: it has to end when its standard input does, and start nothing."""
        asked, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        if os.fork() == 0:
            _start_inits(asked, answer, home, program)
        os.close(asked)
        os.close(answer)

    def take(self) -> int:
        """The PID of one that no run has yet.

        Raises:
            OSError: the kernel refused one.
            EOFError: what starts them was killed.
        """
        answer = b""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ask, b"?")
            answer = os.read(self._answers, _PID.size)
        if not answer:
            raise EOFError("no run can have a PID namespace any more")
        (pid,) = _PID.unpack(answer)
        if pid < 0:
            raise OSError(-pid, f"make a PID namespace: {os.strerror(-pid)}")
        return pid


def _start_inits(asked: int, answer: int, home: int, program: str) -> None:
    """Never returns: ends with the zygote, which is the first process of the namespace `home`."""
    try:
        for place, descriptor in enumerate((asked, answer, home)):
            os.dup2(descriptor, place, inheritable=False)
        asked, answer, home = range(3)
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        lifeline, _ = os.pipe()  # its other end stays open as long as this process is
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        ready = _start_init(lifeline, home, program)
        while os.read(asked, 1):
            os.write(answer, _PID.pack(ready if ready > 0 else _start_init(lifeline, home, program)))
            ready = _start_init(lifeline, home, program)
    finally:
        os._exit(1)


def _start_init(lifeline: int, home: int, program: str) -> int:
    """The PID of a new one, or minus an error's number."""
    nowhere = [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_WRONLY, 0) for place in (1, 2)]
    try:
        _checked(_libc.unshare(_NEWPID), "unshare a PID namespace")
        try:
            return os.posix_spawn(program, ["init"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, lifeline, 0), *nowhere])
        finally:
            _checked(_libc.setns(home, _NEWPID), "return to the zygote's PID namespace")
    except OSError as error:
        return -(error.errno or errno.EAGAIN)


class Run:
    """One run's own PID namespace: the end of PID 1, its `init`, ends every process in it.

    A program as PID 1 could not even kill itself (an init ignores its own default signals), so it is PID 2.
    """

    def __init__(self, home: int, inits: Inits) -> None:
        self._home = home
        self.init = inits.take()
        self._handle = os.pidfd_open(self.init)
        try:
            _checked(_libc.setns(self._handle, _NEWPID), "enter the run's PID namespace")
        except BaseException:
            self.close()
            raise

    def leave(self) -> None:
        """The zygote's next child is in the zygote's own PID namespace again."""
        _checked(_libc.setns(self._home, _NEWPID), "return to the zygote's PID namespace")

    def kill(self) -> None:
        """Ends every process of the run; the worker's end then shows to whoever waits for it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Ends every process of the run. When it returns, none is left."""
        self.kill()
        ended = select.poll()
        ended.register(self._handle, select.POLLIN)
        ended.poll()
        os.close(self._handle)


def own_mounts(sizes: dict[str, int], keep: list[str]) -> None:
    """In the worker: its own IPC objects, /proc, and an empty tmpfs at each directory of `sizes`, of so many bytes.

    `keep` stays visible below them.

    Raises:
        OSError: the kernel refused, as it does a /proc where parts of the present one are covered: below a bubblewrap
            that root runs, say.
    """
    _checked(_libc.unshare(_NEWNS | _NEWIPC), "unshare mount and IPC namespaces")
    _checked(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    for directory, size in sizes.items():
        kept = [(path, os.open(path, os.O_PATH)) for path in keep if path.startswith(directory + "/")]
        options = f"size={size},nr_inodes={_MOST_INODES},mode=1777".encode()
        flags = _MS_NOSUID | _MS_NODEV
        _checked(_libc.mount(b"tmpfs", directory.encode(), b"tmpfs", flags, options), f"mount {directory}")
        for path, place in kept:
            _bring_back(path, place)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _checked(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")
    for name in filter(os.path.exists, _ANOTHERS_IN_PROC):  # not where the kernel has no keys
        _checked(_libc.mount(b"/dev/null", name.encode(), None, _MS_BIND, None), f"cover {name}")


def _bring_back(path: str, place: int) -> None:
    if os.path.isdir(f"/proc/self/fd/{place}"):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    source = f"/proc/self/fd/{place}".encode()
    _checked(_libc.mount(source, path.encode(), None, _MS_BIND | _MS_REC, None), f"keep {path}")
    os.close(place)


def no_new_privileges() -> None:
    """From now on no program that is started gains anything: see prctl(2)."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def drop_capabilities() -> None:
    """Gives up every capability of the calling thread: see capset(2)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "drop capabilities")
