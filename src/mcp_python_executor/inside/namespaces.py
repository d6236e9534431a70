"""Locked mounts for the zygote, and the mounts of a run: a /tmp and a /proc of its own.

See user_namespaces(7), pid_namespaces(7) and mount_namespaces(7): in a mount namespace that a less privileged user
namespace owns, what was mounted before is locked and can be neither unmounted nor remounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import time

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Generator

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x08000000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SYS_CHROOT, _CAP_SYS_ADMIN, _CAP_SETFCAP = 18, 21, 31
# Each run has one of each kind, which the kernel takes apart somewhat later. A package that is imported ahead can hold
# all of them, at 18 KB of the kernel's memory for two.
_MOST_NAMESPACES = 1024
# For all runs of an interpreter: the kernel counts them for the user who started the server too, who usually may have
# 128 instances and at least 8192 watches (see inotify(7)), and there may be eight interpreters.
_MOST_INOTIFY = {"instances": 8, "watches": 1024}
# Each costs the kernel about a kilobyte that no size bounds.
_MOST_INODES = 65_536
# The least that a file in memory takes, by which small file systems have few.
_INODE = 256
# How soon is tried again to unmount what is still in use, and at last how often.
_BUSY_SECONDS, _BUSY_SECONDS_AT_MOST = 0.001, 0.05

# What every /proc shows of the user who started the server: see keyrings(7).
_ANOTHERS_IN_PROC = ("/proc/keys", "/proc/key-users")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"{what}: {os.strerror(failure)}")


def enter_locked() -> None:
    """Becomes PID 1 of namespaces whose mounts are locked, and which hold few namespaces and inotify instances.

    Call it single-threaded, before any import of a package. The process that called waits and never returns.

    Raises:
        OSError: the machine refuses nested namespaces.
    """
    _unshare_with_user(_NEWNS | _NEWPID, "unshare user, mount and PID namespaces")
    first = os.fork()  # a PID namespace begins with the next child
    if first:
        let_in(others=False)
        os.waitpid(first, 0)
        os._exit(0)
    for kind in ("user", "ipc"):  # see namespaces(7)
        _lower(f"max_{kind}_namespaces", _MOST_NAMESPACES)
    for what, most in _MOST_INOTIFY.items():
        with contextlib.suppress(FileNotFoundError):  # the kernel has no inotify
            _lower(f"max_inotify_{what}", most)
    _seal_devices()


def _lower(name: str, most: int) -> None:
    with open(f"/proc/sys/user/{name}", "w") as file:
        file.write(str(most))


def let_in(*, others: bool) -> None:
    """Whether other processes of the same user may take this one over: see PR_SET_DUMPABLE in prctl(2)."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, int(others), 0, 0, 0), "keep others out")


def own_pids() -> None:
    """The calling process's next child is the first of a PID namespace."""
    _checked(_libc.unshare(_NEWPID), "unshare a PID namespace")


def join_pids(namespace: int) -> None:
    """The calling process's next child is in the PID namespace that the descriptor `namespace` is of."""
    _checked(_libc.setns(namespace, _NEWPID), "enter a PID namespace")


def join_mounts(namespace: int) -> None:
    """Sees the mounts of the mount namespace that the descriptor `namespace` is of, from their root."""
    _checked(_libc.setns(namespace, _NEWNS), "enter a mount namespace")


def _unshare_with_user(kinds: int, what: str) -> None:
    """A user namespace with the same user in it, which owns the other namespaces of `kinds`."""
    uid, gid = os.getuid(), os.getgid()
    _checked(_libc.unshare(_NEWUSER | kinds), what)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def own_user() -> None:
    """In the worker: IPC objects of its own, and RLIMIT_NPROC counts this run's processes alone.

    For that counts by user namespace and user. The limit that held until now still holds for all runs together (see the
    kernel's `inc_rlimit_ucounts`, Linux 5.14).

    Raises:
        OSError: the kernel refused.
    """
    _unshare_with_user(_NEWIPC, "unshare user and IPC namespaces")


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


class Mounts:
    """Mounts of the calling process's own, a /proc of its PID namespace among them, and what is mounted for each run.

    For a run that is an empty tmpfs at each directory of `sizes`, of so many bytes. Below them stays visible what is to
    be kept, `keep`, and of the run's own directory in `runs` the directories `own`. `runs` is a real path, and `keep`
    has the real one of each: from before anybody could put a link there.

    Raises:
        OSError: the kernel refused, as it does a /proc where parts of the present one are covered: below a bubblewrap
            that root runs, say.
    """

    def __init__(self, sizes: dict[str, int], keep: dict[str, str], runs: str, own: list[str]) -> None:
        _checked(_libc.unshare(_NEWNS), "unshare a mount namespace")
        _checked(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        _checked(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")
        for name in filter(os.path.exists, _ANOTHERS_IN_PROC):  # not where the kernel has no keys
            _checked(_libc.mount(b"/dev/null", name.encode(), None, _MS_BIND, None), f"cover {name}")
        self._sizes, self._runs, self._own = sizes, runs, own
        self._kept = [(path, _opened(path, real)) for path, real in keep.items() if self._would_be_covered(path)]
        self._place = _opened(runs, runs)
        # Of each that is mounted for a run: its directory, which others may rename, its name there, and how it goes.
        self._mounted: list[tuple[int, str, int]] = []

    def _would_be_covered(self, path: str) -> bool:
        return any(path.startswith(directory + "/") for directory in self._sizes)

    def mount(self, run: str) -> None:
        """Mounts what the run is to see whose directory has the name `run`.

        Raises:
            OSError: the kernel refused, or there is no such directory. `unmount` takes away what was mounted by then.
        """
        kept = list(self._kept)
        devices: dict[str, int] = {}
        try:
            kept += self._directories(run)
            for directory, size in self._sizes.items():
                options = f"size={size},nr_inodes={min(_MOST_INODES, size // _INODE)},mode=1777".encode()
                with self._to_be_unmounted(directory, 0):
                    flags = _MS_NOSUID | _MS_NODEV
                    _checked(_libc.mount(b"tmpfs", directory.encode(), b"tmpfs", flags, options), f"mount {directory}")
                devices[directory] = os.stat(directory).st_dev
                for path, place in kept:
                    if path.startswith(directory + "/"):
                        self._bring_back(path, place)
            for directory, device in devices.items():  # by a link that somebody made below it meanwhile
                if os.stat(directory).st_dev != device:
                    raise OSError(errno.EBUSY, f"mount {directory}: it is covered")
        finally:
            for _, place in kept[len(self._kept) :]:
                os.close(place)

    def _directories(self, run: str) -> list[tuple[str, int]]:
        """By descriptor: what asks for them may have put a link in the place of any of them."""
        if not run.isalnum():
            raise OSError(errno.EINVAL, f"{run!r} is no name of a run")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
        directory = os.open(run, flags, dir_fd=self._place)
        try:
            return [(f"{self._runs}/{run}/{name}", os.open(name, flags, dir_fd=directory)) for name in self._own]
        finally:
            os.close(directory)

    def _bring_back(self, path: str, place: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{place}"):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        source = f"/proc/self/fd/{place}".encode()
        with self._to_be_unmounted(path, _MNT_DETACH):  # there may be mounts below it
            _checked(_libc.mount(source, path.encode(), None, _MS_BIND | _MS_REC, None), f"keep {path}")

    @contextlib.contextmanager
    def _to_be_unmounted(self, path: str, flags: int) -> Generator[None]:
        directory, name = os.path.split(path)
        parent = os.open(directory, os.O_PATH)
        try:
            yield
        except OSError:
            os.close(parent)
            raise
        self._mounted.append((parent, name, flags))

    def unmount(self) -> None:
        """Takes away what was mounted for a run, and waits as long as anybody has a file there.

        So no file system in memory is left that nobody would find any more.
        """
        seconds = _BUSY_SECONDS
        while self._mounted:
            parent, name, flags = self._mounted[-1]
            os.fchdir(parent)
            failed = _libc.umount2(name.encode(), _UMOUNT_NOFOLLOW | flags)
            os.chdir("/")
            if failed:
                time.sleep(seconds)
                seconds = min(2 * seconds, _BUSY_SECONDS_AT_MOST)
            else:
                self._mounted.pop()
                os.close(parent)


def _opened(path: str, real: str) -> int:
    place = os.open(path, os.O_PATH)
    now = os.readlink(f"/proc/self/fd/{place}")
    if now not in (real, f"{real} (deleted)"):
        raise OSError(errno.EINVAL, f"{path} was {real} and is {now}")
    return place


def no_new_privileges() -> None:
    """From now on no program that is started gains anything: see prctl(2)."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def drop_capabilities() -> None:
    """Gives up every capability of the calling thread: see capset(2)."""
    _keep_capabilities(0)


def keep_entering() -> None:
    """Gives up every capability of the calling thread but what setns(2) asks for, and user_namespaces(7) of root.

    So it can't raise how many namespaces or inotify instances there may be: that takes CAP_SYS_RESOURCE.
    """
    _keep_capabilities(1 << _CAP_SYS_ADMIN | 1 << _CAP_SYS_CHROOT | 1 << _CAP_SETFCAP)


def _keep_capabilities(kept: int) -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    # Two structures of those that are effective, permitted and inheritable, and all kept ones are in the first.
    _checked(_libc.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0)), "drop capabilities")
