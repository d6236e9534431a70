"""Verdicts of the filters by a BPF interpreter, for x86-64 and for arm64, which was not run on hardware."""

import errno
import re
from pathlib import Path

import pytest

from mcp_python_executor.inside import seccomp, syscalls
from tests.inside import bpf

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# A newer call than any that the table knows.
UNKNOWN_CALL = 2000


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def verdict(
    machine: str, name: str, *arguments: int, network: bool = False, zygote: bool = False, mounts: bool = True
) -> int:
    program = seccomp.program(machine, network=network, zygote=zygote, mounts=mounts)
    return bpf.run(program, ARCHITECTURES[machine], syscalls.numbers(machine)[name], arguments)


@pytest.mark.parametrize("name", ["read", "openat", "mmap", "futex", "execve", "wait4", "getrandom", "socketpair"])
def test_what_every_program_needs_is_allowed(machine: str, name: str):
    assert verdict(machine, name, 1, 1) == bpf.ALLOW


REFUSED = """
    ptrace mount unshare setns keyctl bpf perf_event_open io_uring_setup userfaultfd capset init_module kexec_load
    process_vm_readv open_by_handle_at fsopen chroot pidfd_getfd kcmp
"""


@pytest.mark.parametrize("name", REFUSED.split())
def test_what_no_program_needs_is_refused(machine: str, name: str):
    assert verdict(machine, name) == bpf.ERRNO | errno.EPERM


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        *((name, (0, 0, 0, 0), bpf.ERRNO | errno.ENOSYS) for name in ("splice", "tee", "vmsplice", "sendfile")),
        *(("setsockopt", (3, 1, option), bpf.ERRNO) for option in (7, 8, 32, 33)),
        *(("setsockopt", (3, level, option), bpf.ALLOW) for level, option in ((1, 16), (6, 7), (6, 1))),
        ("clone", (0x10B00,), bpf.ERRNO | errno.EPERM),
        *(("close_range", (3, 9, flags), bpf.ERRNO | errno.EINVAL) for flags in (2, 6)),
        *(("close_range", (3, 9, flags), bpf.ALLOW) for flags in (0, 4)),
        *(("clone", (flags,), bpf.ALLOW) for flags in (0x3D0F00, 17, 0x4111)),
    ],
)
def test_what_would_be_counted_nowhere_is_not_done(machine: str, name: str, arguments: tuple[int, ...], expected: int):
    assert verdict(machine, name, *arguments) == expected


_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x08000000, 0x10000000, 0x20000000
# Time, cgroup, host name and network.
_OTHER_NAMESPACES = (0x80, 0x02000000, 0x04000000, 0x40000000)
_TMPFS, _PROC, _PRIVATE, _BIND = 6, 14, 0x44000, 0x1000
_MOUNTING = "mount umount2 move_mount open_tree fsopen fsmount fspick mount_setattr pivot_root chroot"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unshare", (_NEWUSER | _NEWIPC,)),
        ("setns", (3, _NEWPID)),
        ("setns", (3, _NEWNS)),
        ("capset", ()),
    ],
)
def test_a_zygote_may_put_a_worker_into_its_namespaces(machine: str, name: str, arguments: tuple[int, ...]):
    assert verdict(machine, name, *arguments, zygote=True) == bpf.ALLOW
    assert verdict(machine, name, *arguments) == bpf.ERRNO | errno.EPERM


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("unshare", (kind,)) for kind in (0, 0x400, _NEWUSER, _NEWIPC, _NEWNS, _NEWPID, *_OTHER_NAMESPACES)),
        *(("unshare", (kind | _NEWUSER | _NEWIPC,)) for kind in (_NEWNS, _NEWPID, *_OTHER_NAMESPACES)),
        *(("clone", (kind | 17,)) for kind in (*_OTHER_NAMESPACES, _NEWUSER, _NEWPID, _NEWNS)),
        *(("setns", (3, kind)) for kind in (0, _NEWUSER, _NEWPID | _NEWNS, *_OTHER_NAMESPACES)),
        *(("mount", (0, 0, 0, flags)) for flags in (0, _TMPFS, _PROC, _PRIVATE, _BIND, _BIND | 0x4000)),
        # Remounts, moves, and what shares mounts.
        *(("mount", (0, 0, 0, flags)) for flags in (32, 32 | _BIND, 33 | _BIND, 8192, 1 << 17, 1 << 19, 1 << 20)),
        *((name, (0, 0)) for name in _MOUNTING.split()),
        ("prctl", (8,)),
    ],
)
def test_a_zygote_may_make_no_others(machine: str, name: str, arguments: tuple[int, ...]):
    assert verdict(machine, name, *arguments, zygote=True) == bpf.ERRNO | errno.EPERM


def test_a_zygote_may_do_nothing_else_that_a_worker_may_not(machine: str):
    changed = {name for name in syscalls.numbers(machine) if verdict(machine, name, zygote=True) == bpf.ALLOW}
    assert {name for name in changed if verdict(machine, name) != bpf.ALLOW} <= {"unshare", "capset"}


@pytest.mark.parametrize("zygote", [True, False])
def test_no_file_gets_capabilities(machine: str, zygote: bool):
    for name in ("setxattr", "lsetxattr", "fsetxattr"):
        if name in syscalls.numbers(machine):
            assert verdict(machine, name, zygote=zygote) == bpf.ERRNO | errno.EOPNOTSUPP
    assert verdict(machine, "setxattrat", zygote=zygote) == bpf.ERRNO | errno.EPERM
    assert verdict(machine, "fgetxattr", zygote=zygote) == bpf.ALLOW


def test_a_call_that_is_newer_than_the_table_is_not_there(machine: str):
    program = seccomp.program(machine, network=False)
    assert bpf.run(program, ARCHITECTURES[machine], UNKNOWN_CALL) == bpf.ERRNO | errno.ENOSYS
    assert verdict(machine, "clone3") == bpf.ERRNO | errno.ENOSYS
    assert verdict(machine, "memfd_create") == bpf.ERRNO | errno.ENOSYS
    assert verdict(machine, "openat2") == bpf.ERRNO | errno.ENOSYS


def test_another_architecture_kills(machine: str):
    program = seccomp.program(machine, network=False)
    for other in (0x40000003, 0x40000028, 0xC000003E, 0xC00000B7):
        if other != ARCHITECTURES[machine]:
            assert bpf.run(program, other, 0) == bpf.KILL


def test_the_x32_table_kills():
    program = seccomp.program("x86_64", network=False)
    assert bpf.run(program, ARCHITECTURES["x86_64"], 0x40000000) == bpf.KILL


def test_sockets_open_only_with_the_network_and_only_for_the_internet(machine: str):
    for family in range(64):  # AF_MAX is below
        assert verdict(machine, "socket", family) == bpf.ERRNO | errno.EACCES
        opens = verdict(machine, "socket", family, network=True)
        assert opens == (bpf.ALLOW if family in (2, 10) else bpf.ERRNO | errno.EACCES), family


@pytest.mark.parametrize(
    "flag", [0x80, 0x8000, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_clone_makes_no_namespace_and_no_child_of_the_zygotes(machine: str, flag: int):
    assert verdict(machine, "clone", flag | 17) == bpf.ERRNO | errno.EPERM
    assert verdict(machine, "clone", 0x3D0F00) == bpf.ALLOW  # a thread as glibc makes it


@pytest.mark.parametrize(
    ("name", "index"), [("fchmod", 1), ("fchmodat", 2), ("openat", 3), ("mkdirat", 2), ("mknodat", 2)]
)
def test_no_file_gets_a_set_id_bit(machine: str, name: str, index: int):
    for mode in (0o4755, 0o2755, 0o6000):
        assert verdict(machine, name, *[0] * index, mode) == bpf.ERRNO | errno.EPERM
    assert verdict(machine, name, *[0] * index, 0o1777) == bpf.ALLOW


@pytest.mark.parametrize(
    ("kind", "allowed"), [(1, True), (2, False), (3, False), (5, True), (0x80001, True), (0x802, False)]
)
def test_a_pair_of_sockets_reaches_nobody_else(machine: str, kind: int, allowed: bool):
    assert (verdict(machine, "socketpair", 1, kind) == bpf.ALLOW) == allowed
    for family in range(64):
        for network in (False, True):
            told = verdict(machine, "socketpair", family, kind, network=network)
            assert told == (bpf.ALLOW if allowed and family == 1 else bpf.ERRNO | errno.EACCES), family


@pytest.mark.parametrize("name", ["bind", "connect", "listen", "accept4"])
def test_addresses_are_for_the_network(machine: str, name: str):
    assert verdict(machine, name) == bpf.ERRNO | errno.EPERM
    assert verdict(machine, name, network=True) == bpf.ALLOW


IOCTLS_REFUSED = {
    "TIOCSTI": 0x5412,
    "TIOCLINUX": 0x541C,
    "TIOCSCTTY": 0x540E,
    "TIOCCONS": 0x541D,
    "BTRFS_IOC_SNAP_CREATE": 0x50009401,
    "BTRFS_IOC_SUBVOL_CREATE": 0x5000940E,
    "BTRFS_IOC_SNAP_CREATE_V2": 0x50009417,
    "BTRFS_IOC_SUBVOL_CREATE_V2": 0x50009418,
    "FS_IOC_ENABLE_VERITY": 0x40806685,
    "FS_IOC_SETFLAGS": 0x40086602,
    "FS_IOC_SETVERSION": 0x40087602,
    "FS_IOC_FSSETXATTR": 0x401C5820,
    "SIOCSIFFLAGS": 0x8914,
    "SIOCSIFADDR": 0x8916,
}
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FICLONE, FS_IOC_GETFLAGS
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409, 0x80086601)
# SIOCGIFCONF, SIOCGIFADDR, SIOCGIFINDEX
NETWORK_IOCTLS = (0x8912, 0x8915, 0x8933)


@pytest.mark.parametrize("mounts", [True, False])
@pytest.mark.parametrize("name", IOCTLS_REFUSED)
def test_an_ioctl_that_no_program_needs_is_refused(machine: str, name: str, mounts: bool):
    for network in (True, False):
        told = verdict(machine, "ioctl", 0, IOCTLS_REFUSED[name], network=network, mounts=mounts)
        assert told == bpf.ERRNO | errno.ENOTTY


@pytest.mark.parametrize("mounts", [True, False])
def test_ioctls_of_descriptors_and_terminals_are_allowed_and_of_interfaces_with_the_network(machine: str, mounts: bool):
    for request in IOCTLS:
        assert verdict(machine, "ioctl", 0, request, mounts=mounts) == bpf.ALLOW
    for request in NETWORK_IOCTLS:
        assert verdict(machine, "ioctl", 0, request, mounts=mounts) == bpf.ERRNO | errno.ENOTTY
        assert verdict(machine, "ioctl", 0, request, mounts=mounts, network=True) == bpf.ALLOW


@pytest.mark.parametrize("name", ["fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat"])
def test_without_mounts_a_change_of_modes_owners_and_times_is_answered_as_done(machine: str, name: str):
    assert verdict(machine, name, mounts=False) == bpf.ERRNO
    assert verdict(machine, name) == bpf.ALLOW


@pytest.mark.parametrize("name", ["fsetxattr", "lgetxattr", "listxattr", "removexattr"])
def test_without_mounts_no_file_has_attributes(machine: str, name: str):
    assert verdict(machine, name, mounts=False) == bpf.ERRNO | errno.EOPNOTSUPP


@pytest.mark.parametrize("name", ["inotify_init", "inotify_init1"])
def test_without_namespaces_there_are_no_more_inotify_instances(machine: str, name: str):
    if name in syscalls.numbers(machine):
        assert verdict(machine, name, mounts=False) == bpf.ERRNO | errno.EMFILE
        assert verdict(machine, name) == bpf.ALLOW


@pytest.mark.parametrize("name", ["shmget", "shmat", "semget", "semop", "msgget", "mq_open"])
def test_there_are_no_objects_that_outlive_a_program(machine: str, name: str):
    assert verdict(machine, name) == bpf.ERRNO | errno.ENOSYS


@pytest.mark.parametrize("mounts", [True, False])
def test_no_process_becomes_one_that_runs_when_nobody_else_does(machine: str, mounts: bool):
    for policy, allowed in ((0, True), (3, True), (0x40000003, True), (1, False), (5, False), (0x40000005, False)):
        told = verdict(machine, "sched_setscheduler", 0, policy, mounts=mounts)
        assert told == (bpf.ALLOW if allowed else bpf.ERRNO | errno.EPERM)
    assert verdict(machine, "sched_setattr", mounts=mounts) == bpf.ERRNO | errno.ENOSYS


def test_the_limits_of_a_namespaces_first_process_stay(machine: str):
    told = [verdict(machine, "prlimit64", pid) for pid in (1, 0, 77)]
    assert told == [bpf.ERRNO | errno.EPERM, bpf.ALLOW, bpf.ALLOW]


@pytest.mark.parametrize("mounts", [True, False])
def test_the_limit_of_cores_is_answered_as_set_and_stays(machine: str, mounts: bool):
    cores, another, address = 4, 7, 0x7F0000001000
    for new in (address, 1, 0x700000000):  # a pointer that is zero in its low half too
        assert verdict(machine, "prlimit64", 0, cores, new, 0, mounts=mounts) == bpf.ERRNO
        assert verdict(machine, "prlimit64", 0, cores, new, address, mounts=mounts) == bpf.ERRNO | errno.EPERM
        assert verdict(machine, "prlimit64", 0, another, new, address, mounts=mounts) == bpf.ALLOW
    assert verdict(machine, "prlimit64", 0, cores, 0, address, mounts=mounts) == bpf.ALLOW
    assert verdict(machine, "setrlimit", cores, address, mounts=mounts) == bpf.ERRNO
    assert verdict(machine, "setrlimit", another, address, mounts=mounts) == bpf.ALLOW
    assert verdict(machine, "getrlimit", cores, address, mounts=mounts) == bpf.ALLOW


@pytest.mark.parametrize("name", ["prlimit64", "sched_setaffinity", "sched_setscheduler", "setpriority", "ioprio_set"])
def test_without_namespaces_only_a_process_changes_its_own_limits_and_priority(machine: str, name: str):
    own = (1, 0) if name == "ioprio_set" else (0, 0)
    other = (own[0], 77) if name in ("setpriority", "ioprio_set") else (77, 0)
    assert verdict(machine, name, *own, mounts=False) == bpf.ALLOW
    assert verdict(machine, name, *other, mounts=False) == bpf.ERRNO | errno.EPERM
    assert verdict(machine, name, *other) == bpf.ALLOW


def test_without_mounts_all_else_is_decided_as_with_them(machine: str):
    changed = {
        name for name in syscalls.numbers(machine) if verdict(machine, name, mounts=False) != verdict(machine, name)
    }
    assert changed <= set(seccomp.unmounted_checks())


# PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_GET_TIMING, PR_SET_TIMING, PR_SET_NAME, PR_GET_NAME,
# PR_GET_SECCOMP, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_GET_SECUREBITS, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK,
# PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_THP_DISABLE,
# PR_GET_THP_DISABLE, PR_SET_VMA
PRCTLS = {1, 2, 3, 13, 14, 15, 16, 21, 22, 23, 27, 29, 30, 36, 37, 38, 39, 41, 42, 0x53564D41}
PRCTLS_REFUSED = {
    "PR_SET_DUMPABLE": 4,
    "PR_SET_KEEPCAPS": 8,
    "PR_CAPBSET_DROP": 24,
    "PR_SET_TSC": 26,
    "PR_SET_SECUREBITS": 28,
    "PR_MCE_KILL": 33,
    "PR_SET_MM": 35,
    "PR_CAP_AMBIENT": 47,
    "PR_SET_SPECULATION_CTRL": 53,
    "PR_SET_IO_FLUSHER": 57,
    "PR_SET_SYSCALL_USER_DISPATCH": 59,
    "PR_SCHED_CORE": 62,
    "PR_SET_PTRACER": 0x59616D61,
}


def test_a_program_changes_of_itself_only_what_harms_nobody(machine: str):
    for option in {*range(100), *PRCTLS, *PRCTLS_REFUSED.values(), 0xFFFFFFFF}:
        told = verdict(machine, "prctl", option)
        assert told == (bpf.ALLOW if option in PRCTLS else bpf.ERRNO | errno.EPERM), option
        assert verdict(machine, "prctl", option, mounts=False) == told


@pytest.mark.parametrize("option", PRCTLS_REFUSED)
def test_what_would_weaken_a_program_or_its_walls_is_refused_by_name(machine: str, option: str):
    assert verdict(machine, "prctl", PRCTLS_REFUSED[option]) == bpf.ERRNO | errno.EPERM


def test_a_personality_is_asked_for_and_not_taken(machine: str):
    for persona in (0, 0xFFFFFFFF):
        assert verdict(machine, "personality", persona) == bpf.ALLOW
    # PER_LINUX32, and each bit: ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, ...
    for persona in (8, 0x7FFFFFFF, *(1 << bit for bit in range(32))):
        assert verdict(machine, "personality", persona) == bpf.ERRNO | errno.EPERM


def test_a_file_is_not_held_up_and_a_directory_is_not_watched(machine: str):
    lease, notify = 1024, 1026
    # F_DUPFD to F_GETOWNER_UIDS, then F_SETLEASE to F_SEAL_GET; F_DUPFD_CLOEXEC and F_SETPIPE_SZ are among them.
    for command in (*range(18), *range(36, 42), *range(1024, 1041)):
        told = verdict(machine, "fcntl", 0, command)
        assert told == (bpf.ERRNO | errno.EPERM if command in (lease, notify) else bpf.ALLOW), command


def test_disk_is_taken_by_writing_alone(machine: str):
    for mode in (0, 1, 2, 0x10):  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE
        assert verdict(machine, "fallocate", 0, mode) == bpf.ERRNO | errno.EOPNOTSUPP
    for name in ("ftruncate", "pwrite64", "copy_file_range"):
        assert verdict(machine, name) == bpf.ALLOW


@pytest.mark.parametrize("mounts", [True, False])
@pytest.mark.parametrize("zygote", [True, False])
@pytest.mark.parametrize("network", [True, False])
def test_both_machines_have_the_same_verdicts(network: bool, zygote: bool, mounts: bool):
    one, other = (syscalls.numbers(machine) for machine in ARCHITECTURES)
    assert len(one.keys() & other.keys()) > 300
    edges = (0, 1, 2, 5, 17, 38, 77, 1024, 0o4755, 0x5412, 0x80001, 0x10000000, 0xFFFFFFFF)
    samples = [*([edge] * 6 for edge in edges), *([0, edge] for edge in edges)]
    programs = {
        machine: seccomp.program(machine, network=network, zygote=zygote, mounts=mounts) for machine in ARCHITECTURES
    }
    for name in one.keys() & other.keys():
        for arguments in samples:
            verdicts = {
                bpf.run(programs[machine], ARCHITECTURES[machine], numbers[name], arguments)
                for machine, numbers in zip(ARCHITECTURES, (one, other), strict=True)
            }
            assert len(verdicts) == 1, (name, arguments)


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_the_kernels(machine: str, header: str):
    if not Path(header).exists():
        pytest.skip(f"the kernel's headers are not installed: {header}")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", Path(header).read_text()))
    ours = syscalls.numbers(machine)
    shared = defined.keys() & ours.keys()
    assert len(shared) > 290
    assert {name: int(defined[name]) for name in shared} == {name: ours[name] for name in shared}
