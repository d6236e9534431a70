"""Which system calls are left: an allow-list with checked arguments, assembled into a seccomp filter by us.

A call that is not on the list answers EPERM; one that is newer than our table answers ENOSYS, so that libraries fall
back to what they did before it. See seccomp(2) and Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import syscalls

_FILES = """
    read write open close stat fstat lstat poll lseek pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2
    access pipe pipe2 select pselect6 ppoll copy_file_range dup dup2 dup3 fcntl flock fsync
    fdatasync sync syncfs sync_file_range truncate ftruncate fallocate getdents getdents64 getcwd chdir fchdir rename
    renameat renameat2 mkdir mkdirat rmdir creat link linkat unlink unlinkat symlink symlinkat readlink readlinkat
    umask statfs fstatfs openat newfstatat faccessat faccessat2 statx readahead fadvise64 chmod fchmod fchmodat
    fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat mknod mknodat getxattr lgetxattr fgetxattr
    listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr close_range ioctl cachestat inotify_init
    inotify_init1 inotify_add_watch inotify_rm_watch
"""
_MEMORY = """
    mmap mprotect munmap brk mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall
    remap_file_pages mbind set_mempolicy get_mempolicy set_mempolicy_home_node pkey_mprotect pkey_alloc pkey_free
    membarrier map_shadow_stack mseal shmget shmat shmctl shmdt
"""
_PROCESSES = """
    clone fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill getpid getppid gettid getpgid
    getpgrp setpgid getsid setsid rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo
    rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause restart_syscall set_tid_address set_robust_list get_robust_list
    futex futex_wait futex_wake futex_requeue futex_waitv rseq arch_prctl prctl personality pidfd_open pidfd_send_signal
    getrlimit setrlimit prlimit64 getrusage times getpriority setpriority ioprio_get ioprio_set sched_yield
    sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval sched_setaffinity sched_getaffinity sched_setattr sched_getattr getcpu
    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
    setfsuid setfsgid capget seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr
"""
_TIME_AND_EVENTS = """
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time getitimer setitimer alarm timer_create
    timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime eventfd
    eventfd2 signalfd signalfd4 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 getrandom
    uname sysinfo
"""
# All but `socket` itself, whose families are checked: a pair of connected Unix sockets reaches nobody else.
_SOCKETS = """
    socketpair sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockname getpeername setsockopt getsockopt
"""
_NETWORK = "bind listen accept accept4 connect"
# Where no mount keeps a program from them: Landlock covers none of these (landlock-lsm/linux#11). Answered as done and
# not done, for shutil.copy, tempfile and zipfile give up when they are refused.
_ANSWERED_AS_DONE = """
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
"""
# Answered as by a file system without extended attributes. Who has capabilities in a user namespace, as a zygote has,
# could leave files with some (see capabilities(7)): those of root, where mounts map the user to root.
_NEW_ATTRIBUTES = "setxattr lsetxattr fsetxattr"
_ATTRIBUTES = """
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
"""
# Objects that outlive whoever made them.
_SHARED_OBJECTS = """
    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
    mq_timedsend mq_timedreceive mq_notify mq_getsetattr
"""
# What leaves pages of a process or a file in a pipe, where they are nobody's when that lets go of them: a byte holds a
# huge page. Who uses these copies where a kernel has none: see sendfile(2).
_MOVE_PAGES = "splice tee vmsplice sendfile"
_WORKER = (_FILES + _MEMORY + _PROCESSES + _TIME_AND_EVENTS + _SOCKETS).split()
# A zygote puts workers into namespaces and has them give up capabilities; a worker has no more to do with either.
_ZYGOTE = [*_WORKER, "capset"]

_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _RETURN, _AND, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x20, 6, 0x54, 0x15, 0x25, 0x35, 0x45
# Offsets into struct seccomp_data: the call's number, the architecture, the low half of each argument.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "arm64": 0xC00000B7}
_X32_BIT = 0x40000000

# CLONE_PARENT too: such a child would be the zygote's, which does not know it.
_NEWTIME, _NEWNS, _NEWCGROUP, _NEWUTS = 0x80, 0x20000, 0x02000000, 0x04000000
_NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_CLONE_PARENT = 0x8000
_NOT_FOR_CLONE = _CLONE_PARENT | _NEWTIME | _NEWCGROUP | _NEWUTS | _NEWNET | _NEWNS | _NEWIPC | _NEWUSER | _NEWPID
_CLONE_FILES, _CLONE_THREAD = 0x400, 0x10000
# Gives a thread descriptors of its own as well.
_CLOSE_RANGE_UNSHARE = 2
_SET_ID_BITS = 0o6000
# The first process of a run's namespace, which is of the same user and serves other runs too. Its capabilities keep a
# program from its priorities (see sched(7)), but not from its limits.
_INIT = 1
_PRIO_PROCESS, _IOPRIO_WHO_PROCESS = 0, 1
_RLIMIT_CORE = 4
_SCHEDULING = "sched_setparam sched_setaffinity"
# What is SCHED_IDLE takes seconds to end while others are busy, and with it the run.
_SCHED_OTHER, _SCHED_BATCH, _SCHED_RESET_ON_FORK = 0, 3, 0x40000000
# SO_SNDBUF, SO_RCVBUF, and both by force.
_SOL_SOCKET, _BUFFER_SIZES = 1, (7, 8, 32, 33)
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_TYPE, _SOCK_STREAM, _SOCK_SEQPACKET = 0xF, 1, 5
# File systems have ioctls of their own, for what belongs to a file that is open for reading alone, and for snapshots:
# older ones of btrfs make one of any directory of the user's. So those that programs need are named.
# Terminals (TCGETS to TCSETSF, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, TIOCSWINSZ, TIOCGPTN, TIOCSPTLCK), descriptors
# (FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FIOASYNC), and what reads or clones files (FICLONE, FICLONERANGE, FIEMAP,
# FS_IOC_GETFLAGS).
_IOCTLS = (
    *(0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5410, 0x5413, 0x5414, 0x80045430, 0x40045431),
    *(0x541B, 0x5421, 0x5450, 0x5451, 0x5452),
    *(0x40049409, 0x4020940D, 0xC020660B, 0x80086601),
)
# What tells of interfaces (SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK,
# SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX), and SIOCETHTOOL, which changes them for CAP_NET_ADMIN alone.
_NETWORK_IOCTLS = (0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933, 0x8946)
# F_SETLEASE: who reads a file holds up whoever is to write it. F_NOTIFY tells what others do in a directory.
_FCNTLS_REFUSED = (1024, 1026)
_PERSONALITY_QUERY = 0xFFFFFFFF
# prctl(2) options that change only how the caller itself runs: PDEATHSIG, DUMPABLE (reading), NAME, TIMING, SECCOMP,
# CAPBSET (reading), TIMERSLACK, CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE, SET_VMA (a mapping's name).
_PRCTL = (1, 2, 3, 13, 14, 15, 16, 21, 22, 23, 27, 29, 30, 36, 37, 38, 39, 41, 42, 0x53564D41)

Instruction = bytes


def _one(code: int, value: int, if_true: int = 0, if_false: int = 0) -> Instruction:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _fail(number: int) -> Instruction:
    return _one(_RETURN, _ERRNO | number)


def _argument(index: int) -> Instruction:
    return _one(_LOAD, _ARGUMENTS + 8 * index)


def _high_half(index: int) -> Instruction:
    return _one(_LOAD, _ARGUMENTS + 8 * index + 4)


def _refuse_bits(index: int, bits: int, error: int) -> list[Instruction]:
    return [_argument(index), _one(_JUMP_ANY_BIT, bits, 0, 1), _fail(error), _one(_RETURN, _ALLOW)]


def _only(index: int, values: tuple[int, ...], error: int, *, mask: int = 0xFFFFFFFF) -> list[Instruction]:
    tests = [_one(_JUMP_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_argument(index), _one(_AND, mask), *tests, _fail(error), _one(_RETURN, _ALLOW)]


def _never(index: int, values: tuple[int, ...], error: int) -> list[Instruction]:
    tests = [_one(_JUMP_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_argument(index), *tests, _one(_RETURN, _ALLOW), _fail(error)]


def _when(arguments: dict[int, int], error: int) -> list[Instruction]:
    """Allowed where each of `arguments`, by index, has the value that stands there."""
    code: list[Instruction] = []
    for index, value in arguments.items():
        code += [_argument(index), _one(_JUMP_EQUAL, value, 1, 0), _fail(error)]
    return [*code, _one(_RETURN, _ALLOW)]


def _policies() -> list[Instruction]:
    return _only(1, (_SCHED_OTHER, _SCHED_BATCH), errno.EPERM, mask=0xFFFFFFFF & ~_SCHED_RESET_ON_FORK)


def _pairs() -> list[Instruction]:
    """Unix sockets that stay with each other: a datagram socket of a pair can send to any path.

    TIPC, where a kernel has it, makes pairs too.
    """
    return [
        *_when({0: _AF_UNIX}, errno.EACCES)[:-1],
        *_only(1, (_SOCK_STREAM, _SOCK_SEQPACKET), errno.EACCES, mask=_SOCK_TYPE),
    ]


def _keeps_buffers() -> list[Instruction]:
    """The sizes of a socket's buffers stay what they are, and whoever sets them is told that it is done."""
    others = [_argument(1), _one(_JUMP_EQUAL, _SOL_SOCKET, 1, 0), _one(_RETURN, _ALLOW)]
    return [*others, *_never(2, _BUFFER_SIZES, 0)]


def _keeps_core_limit() -> list[Instruction]:
    """That of cores stays what it is, for 0 would do less (see `lower_limits`), and whoever sets it is told it is done.

    Who asks for the one before as well is refused: it would not be told that.
    """
    old_too = [_argument(3), _one(_JUMP_EQUAL, 0, 1, 0), _fail(errno.EPERM), _fail(0)]
    new = [_argument(2), _one(_JUMP_EQUAL, 0, 0, 2), _high_half(2), _one(_JUMP_EQUAL, 0, len(old_too), 0)]
    return [_argument(1), _one(_JUMP_EQUAL, _RLIMIT_CORE, 0, len(new + old_too)), *new, *old_too]


def _shares_descriptors() -> list[Instruction]:
    """A thread has the descriptors of its process: those of its own nobody would count."""
    return [
        *(_argument(0), _one(_AND, _CLONE_THREAD | _CLONE_FILES)),
        *(_one(_JUMP_EQUAL, _CLONE_THREAD, 0, 1), _fail(errno.EPERM)),
    ]


def unmounted_checks() -> dict[str, list[Instruction]]:
    """What stands in for mounts and namespaces of the run's own, by the call's name."""
    itself = {0: 0}
    return {
        **{name: [_fail(0)] for name in _ANSWERED_AS_DONE.split()},
        **{name: [_fail(errno.EOPNOTSUPP)] for name in _ATTRIBUTES.split()},
        # The kernel counts instances for the user, wherever they are.
        **{name: [_fail(errno.EMFILE)] for name in ("inotify_init", "inotify_init1")},
        "inotify_add_watch": [_fail(errno.EPERM)],
        "prlimit64": [*_keeps_core_limit(), *_when(itself, errno.EPERM)],
        "setpriority": _when({0: _PRIO_PROCESS, 1: 0}, errno.EPERM),
        "ioprio_set": _when({0: _IOPRIO_WHO_PROCESS, 1: 0}, errno.EPERM),
        **{name: _when(itself, errno.EPERM) for name in _SCHEDULING.split()},
        "sched_setscheduler": [*_when(itself, errno.EPERM)[:-1], *_policies()],
    }


def _checks(network: bool, zygote: bool) -> dict[str, list[Instruction]]:
    """What each call with checked arguments does, by name.

    Files made or changed may not carry set-user-id bits: they would be the server's user's on the host.
    """
    families = (_AF_INET, _AF_INET6) if network else ()
    checks = {
        "socket": _only(0, families, errno.EACCES),
        "socketpair": _pairs(),
        "ioctl": _only(1, (*_IOCTLS, *(_NETWORK_IOCTLS if network else ())), errno.ENOTTY),
        "fcntl": _never(1, _FCNTLS_REFUSED, errno.EPERM),
        "personality": _only(0, (0, _PERSONALITY_QUERY), errno.EPERM),
        # Memory that no process holds is nobody's to be counted; nor is what a removed file is given unwritten.
        "memfd_create": [_fail(errno.ENOSYS)],
        **{name: [_fail(errno.ENOSYS)] for name in (_SHARED_OBJECTS + _MOVE_PAGES).split()},
        "setsockopt": _keeps_buffers(),
        "fallocate": [_fail(errno.EOPNOTSUPP)],
        "prlimit64": [*_keeps_core_limit(), *_never(0, (_INIT,), errno.EPERM)],
        "setrlimit": _never(0, (_RLIMIT_CORE,), 0),
        "sched_setscheduler": _policies(),
        "clone3": [_fail(errno.ENOSYS)],  # its flags are out of a filter's reach; libraries fall back to clone
        "openat2": [_fail(errno.ENOSYS)],  # likewise its mode
        "sched_setattr": [_fail(errno.ENOSYS)],  # likewise its policy
        "chmod": _refuse_bits(1, _SET_ID_BITS, errno.EPERM),
        "fchmod": _refuse_bits(1, _SET_ID_BITS, errno.EPERM),
        "fchmodat": _refuse_bits(2, _SET_ID_BITS, errno.EPERM),
        "fchmodat2": _refuse_bits(2, _SET_ID_BITS, errno.EPERM),
        "open": _refuse_bits(2, _SET_ID_BITS, errno.EPERM),
        "openat": _refuse_bits(3, _SET_ID_BITS, errno.EPERM),
        "creat": _refuse_bits(1, _SET_ID_BITS, errno.EPERM),
        "mkdir": _refuse_bits(1, _SET_ID_BITS, errno.EPERM),
        "mkdirat": _refuse_bits(2, _SET_ID_BITS, errno.EPERM),
        "mknod": _refuse_bits(1, _SET_ID_BITS, errno.EPERM),
        "mknodat": _refuse_bits(2, _SET_ID_BITS, errno.EPERM),
        **{name: [_fail(errno.EOPNOTSUPP)] for name in _NEW_ATTRIBUTES.split()},
        "close_range": _refuse_bits(2, _CLOSE_RANGE_UNSHARE, errno.EINVAL),
        "clone": [*_shares_descriptors(), *_refuse_bits(0, _NOT_FOR_CLONE, errno.EPERM)],
        "prctl": _only(0, _PRCTL, errno.EPERM),
    }
    if zygote:  # as `namespaces` has a worker put into what `inits` made for its run
        checks["unshare"] = _only(0, (_NEWUSER | _NEWIPC,), errno.EPERM)
        checks["setns"] = _only(1, (_NEWPID, _NEWNS), errno.EPERM)
    return checks


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers: (first, last) of each."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _in_ranges(numbers: list[int], verdict: Instruction) -> list[Instruction]:
    code: list[Instruction] = []
    for first, last in _ranges(numbers):
        code += [_one(_JUMP_AT_LEAST, first, 0, 2), _one(_JUMP_GREATER, last, 1, 0), verdict]
    return code


def program(machine: str, *, network: bool, zygote: bool = False, mounts: bool = True) -> bytes:
    """The filter for `machine` as an array of struct sock_filter.

    `network` opens Internet sockets; `zygote` leaves the calls by which a worker enters namespaces. Without `mounts`
    and namespaces of the run's own it also keeps what these keep from the program.

    Raises:
        OSError: no filter can be made for this machine.
    """
    number = syscalls.numbers(machine)
    wanted = {**_checks(network, zygote), **({} if mounts else unmounted_checks())}
    checks = {name: code for name, code in wanted.items() if name in number}
    names = [*(_ZYGOTE if zygote else _WORKER), *(_NETWORK.split() if network else ())]
    allowed = [number[name] for name in names if name in number and name not in checks]
    code = [_one(_LOAD, _ARCHITECTURE), _one(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0), _one(_RETURN, _KILL_PROCESS)]
    code.append(_one(_LOAD, _NUMBER))
    if machine == "x86_64":
        code += [_one(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _one(_RETURN, _KILL_PROCESS)]
    for name, block in checks.items():
        code += [_one(_JUMP_EQUAL, number[name], 0, len(block)), *block]
    code += _in_ranges(allowed, _one(_RETURN, _ALLOW))
    code += _in_ranges(list(number.values()), _fail(errno.EPERM))
    code.append(_fail(errno.ENOSYS))
    return b"".join(code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(code: bytes) -> None:
    """Puts `code` on the calling thread, for good. It must have set no_new_privs.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_seccomp, mode_filter = 22, 2
    packed = _Program(len(code) // 8, code)
    if libc.prctl(pr_set_seccomp, mode_filter, ctypes.byref(packed), 0, 0) != 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"seccomp filter refused: {os.strerror(failure)}")
