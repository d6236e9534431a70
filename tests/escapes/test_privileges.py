"""A program gains no privilege, makes no namespace and reaches no corner of the kernel that it has no business in."""

import anyio
import pytest

from mcp_python_executor.execution.model import ExecutionResult
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# By name: number on x86-64 and its arguments. Each answers EPERM before its arguments count.
CALLS = {
    "ptrace": (101, "0, 1, 0, 0"),
    "mount": (165, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "umount2": (166, "b'/tmp', 2"),
    "pivot_root": (155, "b'/tmp', b'/tmp'"),
    "chroot": (161, "b'/tmp'"),
    "unshare user": (272, "0x10000000"),
    "unshare mount": (272, "0x20000"),
    "setns": (308, "0, 0"),
    "keyctl": (250, "0, 0"),
    "add_key": (248, "b'user', b'x', b'y', 1, -3"),
    "bpf": (321, "0, 0, 0"),
    "perf_event_open": (298, "0, 0, 0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "userfaultfd": (323, "0"),
    "init_module": (175, "0, 0, 0"),
    "finit_module": (313, "0, 0, 0"),
    "kexec_load": (246, "0, 0, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "open_by_handle_at": (304, "0, 0, 0"),
    "swapon": (167, "b'/tmp', 0"),
    "reboot": (169, "0, 0, 0, 0"),
    "sethostname": (170, "b'x', 1"),
    "iopl": (172, "3"),
    "fsopen": (430, "b'tmpfs', 0"),
    "open_tree": (428, "-100, b'/', 1"),
    "mount_setattr": (442, "-100, b'/', 0, 0, 0"),
    "capset": (126, "0, 0"),
    "syslog": (103, "3, 0, 0"),
    "settimeofday": (164, "0, 0"),
    "acct": (163, "0"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_no_program_needs_is_refused(open_bench: OpenBench, name: str):
    number, arguments = CALLS[name]
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall({number}, {arguments})
print("result", result, os.strerror(ctypes.get_errno()))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "result -1 Operation not permitted" in told


async def test_no_capability_is_left_and_none_is_gained_by_a_program(open_bench: OpenBench):
    # By capget(2) and prctl(2), not by /proc: behind some walls a process that a program starts has no entry there.
    code = """
import subprocess, sys
ask = '''
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
held = ctypes.create_string_buffer(24)
print("asked", libc.capget(struct.pack("Ii", 0x20080522, 0), held), "held", sum(held.raw))
print("no new privileges", libc.prctl(39, 0, 0, 0, 0), "seccomp", libc.prctl(21, 0, 0, 0, 0))
'''
exec(ask)
print(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("asked 0 held 0") == 2
    assert told.count("no new privileges 1 seccomp 2") == 2


async def test_a_thread_in_a_new_namespace_is_not_made_by_clone(open_bench: OpenBench):
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x02000000, 0x04000000, 0x08000000):
    result = libc.syscall(56, flag | 17, 0, 0, 0, 0)
    if result == 0: os._exit(0)
    print("clone", result, os.strerror(ctypes.get_errno()))
print("clone3", libc.syscall(435, 0, 0), os.strerror(ctypes.get_errno()))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("clone -1 Operation not permitted") == 7
    assert "clone3 -1 Function not implemented" in told


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("libc.syscall(0x40000000 | 39)", id="x32"),
        pytest.param("call = ctypes.CFUNCTYPE(ctypes.c_long)(address)\ncall()", id="i386"),
    ],
)
async def test_a_foreign_system_call_table_kills(open_bench: OpenBench, code: str):
    # mov eax, 20 (getpid of i386); int 0x80; ret
    prepare = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print("ready", flush=True)
"""
    async with open_bench() as bench:
        result = await bench.run(prepare + code + "\nprint('LIVES')")
    assert result.stdout == "ready\n"
    assert result.signal == "SIGSYS"


async def test_another_run_is_neither_seen_nor_signalled(open_bench: OpenBench, confinement: Confinement):
    code = """
import os, signal
try: print("seen", {int(entry) for entry in os.listdir("/proc") if entry.isdigit()} - {1, os.getpid()})
except PermissionError: print("seen set()")
for pid in range(1, 200):
    if pid not in (os.getpid(), os.getppid()):
        try:
            os.kill(pid, signal.SIGKILL)
            print("KILLED", pid)
        except OSError:
            pass
"""
    started = anyio.Event()

    def hear(_: str, __: str) -> None:
        started.set()

    async with open_bench() as bench:
        victim: list[ExecutionResult] = []
        told = ""
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                victim.append(await bench.run("print('up')\nimport time\ntime.sleep(1)\nprint('alive')", listener=hear))

            tasks.start_soon(wait)
            await started.wait()
            told = await attack(bench, code)
    assert "seen set()" in told
    killed = {line for line in told.splitlines() if line.startswith("KILLED")}
    # The first process there is the run's own, which no such signal of its namespace ends: see pid_namespaces(7).
    assert killed <= ({"KILLED 1"} if confinement.namespaces else set[str]())
    assert victim[0].stdout == "up\nalive\n"
