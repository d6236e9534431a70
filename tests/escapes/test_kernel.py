"""A program reaches no part of the kernel that is not for it: settings, secrets, terminals, filters, cores."""

import fcntl
import os
import resource
import select
import shutil
import socket
import subprocess
import termios
from collections.abc import Generator
from pathlib import Path

import pytest

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes import apart
from tests.escapes.attack import CANARY, attack, state

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


_REFUSALS = ("FileNotFoundError", "PermissionError")


def settings() -> list[str]:
    """Every setting of the kernel."""
    return [str(path) for path in Path("/proc/sys").rglob("*") if path.is_file()]


def mounts() -> str:
    """What is mounted where, as this process sees it."""
    return Path("/proc/self/mountinfo").read_text()


async def test_no_setting_of_the_kernel_is_opened_for_writing(open_bench: OpenBench):
    paths = settings()
    code = f"""
import os
others = '''
    /proc/sysrq-trigger /proc/acpi/wakeup /proc/irq/default_smp_affinity /proc/mtrr /proc/timer_list /proc/scsi/scsi
    /proc/latency_stats /proc/fs/ext4 /proc/dynamic_debug/control /proc/pressure/memory /proc/sys/kernel/core_pattern
    /sys/power/state /sys/kernel/uevent_helper /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/debug
    /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/release_agent /sys/kernel/tracing/trace
    /sys/module/kernel/parameters/panic /sys/kernel/security/landlock /sys/firmware/efi/efivars /sys/bus/pci/rescan
'''.split()
count = 0
for path in {paths} + others:
    for flags in (os.O_WRONLY, os.O_RDWR):
        count += 1
        try: print("OPENED", path, os.open(path, flags))
        except OSError: pass
print("tried", count)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "OPENED" not in told
    assert f"tried {2 * (len(paths) + 23)}\n" in told


_KEPT = (
    *("/proc/kcore", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/vmallocinfo"),
    *("/proc/slabinfo", "/proc/sched_debug", "/proc/timer_list", "/sys/kernel/notes", "/sys/kernel/vmcoreinfo"),
    *("/sys/kernel/debug/sched/debug", "/sys/kernel/security/lsm", "/sys/fs/cgroup/memory.max"),
    *("/sys/class/dmi/id/product_uuid", "/boot/System.map"),
)
# Everybody's on the host: where a run has a /proc of its own the first two are empty, and the last tells of no one.
_PUBLIC = ("/proc/keys", "/proc/key-users", "/proc/config.gz")


async def test_what_the_kernel_keeps_to_itself_is_not_read(open_bench: OpenBench, standing: Confinement):
    code = f"""
for path in {_KEPT + _PUBLIC}:
    try: print("READ", path, len(open(path, "rb").read(4096)))
    except OSError as error: print("refused", path, type(error).__name__)
try:
    symbols = [line.split()[0] for line in open("/proc/kallsyms")]
    print("symbols", any(int(address, 16) for address in symbols))
except OSError as error: print("symbols", type(error).__name__)
"""
    async with open_bench() as bench:
        told = (await attack(bench, code)).splitlines()
    refused = {path for path in (*_KEPT, *_PUBLIC) if {f"refused {path} {name}" for name in _REFUSALS} & set(told)}
    assert refused >= set(_KEPT)
    for path in filter(os.path.exists, _PUBLIC):
        assert (path in refused) is not standing.namespaces
        assert path == "/proc/config.gz" or path in refused or f"READ {path} 0" in told
    assert {f"symbols {found}" for found in (False, *_REFUSALS)} & set(told)


@pytest.fixture
def cores_allowed() -> Generator[None]:
    """This process and what it starts may leave cores, as far as the machine lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("cores_allowed")
async def test_a_crash_leaves_no_core(open_bench: OpenBench, tmp_path: Path):
    crash_children = """
import os, resource, signal, subprocess, sys
ask = "import resource; print('limit', *resource.getrlimit(resource.RLIMIT_CORE), flush=True)"
exec(ask)
for value in ((resource.RLIM_INFINITY,) * 2, (1 << 30,) * 2, (0, 0), (0, 1)):
    for change in (resource.setrlimit, lambda *limits: resource.prlimit(0, *limits)):
        try: change(resource.RLIMIT_CORE, value)
        except (OSError, ValueError) as error: print(error)
        exec(ask)
print("child", subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout)
for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGSYS, signal.SIGBUS, signal.SIGXCPU):
    child = os.fork()
    if child == 0:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    status = os.waitpid(child, 0)[1]
    print("crashed", os.WTERMSIG(status), "CORE" if os.WCOREDUMP(status) else "")
"""
    async with open_bench() as bench:
        told = await attack(bench, crash_children)
        crashed = await bench.run("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
        assert crashed.signal == "SIGSEGV"
        left = [path for place in (tmp_path, Path.cwd()) for path in place.rglob("core*") if path.is_file()]
    assert told.count("crashed") == 6
    assert told.count("limit 1 1\n") == told.count("limit ") == 10
    assert "child limit 1 1\n" in told
    assert "CORE" not in told
    assert [path for path in left if path.read_bytes().startswith(b"\x7fELF")] == []


# BTRFS_IOC_SNAP_CREATE, BTRFS_IOC_SUBVOL_CREATE, the second form of both, FS_IOC_ENABLE_VERITY, FS_IOC_SETFLAGS,
# FS_IOC_FSSETXATTR, FS_IOC_SETVERSION in 32 bits, EXT4_IOC_SETVERSION_OLD
_IOCTLS = (
    *(0x50009401, 0x5000940E, 0x50009417, 0x50009418, 0x40806685, 0x40086602),
    *(0x401C5820, 0x40047602, 0x40086604),
)


async def test_no_ioctl_of_file_systems_reaches_what_it_may_write(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    before = state(output)
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for place in (".", os.environ["OUTPUT_PATH"]):
    descriptor = os.open(place, os.O_RDONLY)
    for request in {_IOCTLS}:
        told = ctypes.create_string_buffer(b"\\x40" + bytes(4095))  # FS_NODUMP_FL
        told[8:12] = b"made"
        done = libc.ioctl(descriptor, ctypes.c_ulong(request), told)
        print("ioctl", hex(request), done, os.strerror(ctypes.get_errno()))
"""
    async with open_bench(output_path=output) as bench:
        told = await attack(bench, code)
    assert told.count("-1 Inappropriate ioctl for device") == 2 * len(_IOCTLS)
    assert state(output) == before


async def test_tools_find_the_ioctls_that_they_need(open_bench: OpenBench):
    code = """
import array, asyncio, fcntl, os, shutil, socket, sqlite3, subprocess, termios
reader, writer = os.pipe()
os.write(writer, b"four")
waiting = array.array("i", [0])
fcntl.ioctl(reader, termios.FIONREAD, waiting)
os.set_inheritable(reader, True), os.set_blocking(reader, False)
one, _ = socket.socketpair()
one.settimeout(1)
print("waiting", waiting[0], os.isatty(reader), shutil.get_terminal_size((7, 7)).columns)
print(subprocess.run(["echo", "started"], capture_output=True, text=True).stdout)
async def start():
    child = await asyncio.create_subprocess_exec("echo", "awaited", stdout=asyncio.subprocess.PIPE)
    print((await child.communicate())[0].decode())
asyncio.run(start())
with sqlite3.connect("base") as base: base.execute("create table made (x)")
base.close()
shutil.copy("base", "copied"), shutil.move("copied", "moved")
print("moved", os.path.exists("moved"))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    for line in ("waiting 4 False 7\n", "started\n", "awaited\n", "moved True\n"):
        assert line in told


_NOBODY = 65534


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A copy of id(1) in a directory for output, which runs as another user and group when the kernel lets it."""
    if os.getuid() != 0:
        pytest.skip("only root can plant a program of another user's")
    program = tmp_path / "out" / "id"
    program.parent.mkdir()
    shutil.copy("/usr/bin/id", program)
    os.chown(program, _NOBODY, _NOBODY)
    program.chmod(0o6755)
    for option in ("-u", "-g"):
        if subprocess.run([program, option], stdout=subprocess.PIPE, check=True).stdout != b"%d\n" % _NOBODY:
            pytest.skip(f"{tmp_path} is mounted so that no program becomes another user")
    return program


async def test_a_planted_program_with_a_set_user_id_runs_as_who_starts_it(open_bench: OpenBench, planted: Path):
    code = f"""
import os, subprocess
for option, own in (("-u", os.getuid()), ("-g", os.getgid())):
    ended = subprocess.run([{str(planted)!r}, option], capture_output=True, text=True)
    print("planted", ended.returncode, ended.stdout == f"{{own}}\\n", own == {_NOBODY}, ended.stderr)
"""
    async with open_bench(output_path=planted.parent) as bench:
        told = await attack(bench, code)
    assert told.count("planted 0 True False") == 2


async def test_the_systems_programs_with_a_set_user_id_run_as_who_starts_them(open_bench: OpenBench):
    # The dynamic loader shows what the kernel told it, unless the program became somebody else: see ld.so(8).
    code = """
import os, stat, subprocess
own = {"UID": os.getuid(), "EUID": os.getuid(), "GID": os.getgid(), "EGID": os.getgid(), "SECURE": 0}
def shown(path):
    told = {}
    with subprocess.Popen([path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env={"LD_SHOW_AUXV": "1"}) as started:
        for line in started.stdout:
            name, _, value = line.decode(errors="replace").removeprefix("AT_").partition(":")
            if name in own: told[name] = int(value)
            if told.keys() == own.keys(): break
        started.kill()
    return told
for top in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec"):
    for folder, _, names in os.walk(top):
        for path in (os.path.join(folder, name) for name in names):
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & 0o6000 and os.access(path, os.X_OK):
                told = shown(path)
                print("ran as before" if told == own else f"BECAME {told}", path)
print("looked at all")
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "BECAME" not in told
    assert "looked at all" in told
    if "ran as before" not in told:
        pytest.skip("this machine has no program with a set-user-id that a program may run")


async def test_programs_that_give_privileges_give_none(open_bench: OpenBench):
    code = """
import os, shutil, subprocess
def here(): return os.stat(os.getcwd()).st_dev, os.stat(os.getcwd()).st_ino
before = here()
for command in (
    ["su", "nobody", "-s", "/bin/sh", "-c", "echo GAINED"], ["sudo", "-n", "echo", "GAINED"],
    ["pkexec", "echo", "GAINED"], ["newgrp", "tty"], ["sg", "tty", "-c", "echo GAINED"],
    ["mount", "-t", "tmpfs", "none", os.getcwd()], ["mount", "--bind", "/etc", os.getcwd()],
    ["fusermount3", "-o", "ro", os.getcwd()], ["chsh", "-s", "/bin/sh"], ["passwd", "-d", "root"],
):
    program = shutil.which(command[0], path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if program:
        ended = subprocess.run([program, *command[1:]], capture_output=True, timeout=10, stdin=subprocess.DEVNULL)
        print("failed" if ended.returncode and b"GAINED" != ended.stdout.strip() else "GAVE", *command)
print("nothing mounted here", here() == before)
"""
    before = mounts()
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "GAVE" not in told
    assert told.count("failed") >= 4
    assert "nothing mounted here True" in told
    assert mounts() == before


async def test_tools_of_administration_do_nothing(open_bench: OpenBench):
    host = socket.gethostname()
    code = f"""
import os, shutil, subprocess
for command in '''
    unshare -Ur true | unshare -m true | unshare -n true | unshare -p true | bwrap --ro-bind / / true
    nsenter -t 1 -m true | nsenter -t {os.getpid()} -a true | chroot / true | pivot_root . . | hostname {CANARY}
    mount -t tmpfs none . | losetup -f main.py | modprobe dummy | insmod x.ko | rmmod dummy | keyctl session
    sysctl -w kernel.hostname={CANARY} | dmesg | ip link add dummy0 type dummy | ip netns add x
    setpriv --reuid=65534 true | capsh --uid=65534 -- -c true | setarch -R true | setarch i686 true
    runuser -u nobody true | renice -n -5 -p 1 | chrt -f 1 true | ionice -c 1 true | prlimit --nproc=99999 true
'''.replace("\\n", "|").split("|"):
    command = command.split()
    tool = command and shutil.which(command[0], path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if tool:
        ended = subprocess.run([tool, *command[1:]], capture_output=True, stdin=subprocess.DEVNULL, timeout=10)
        print("tried" if ended.returncode else "DID IT:", *command)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "DID IT" not in told
    assert told.count("tried") >= 8
    assert socket.gethostname() == host


@pytest.mark.parametrize("action", ["ALLOW", "LOG", "USER_NOTIF"])
async def test_a_filter_of_its_own_permits_nothing_more(open_bench: OpenBench, action: str):
    code = f"""
import ctypes, fcntl, os, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return result, os.strerror(ctypes.get_errno()) if result < 0 else ""
value = {{"ALLOW": 0x7FFF0000, "LOG": 0x7FFC0000, "USER_NOTIF": 0x7FC00000}}[{action!r}]
# Loads the number; mount (165) and personality (135) get the action, all else is allowed.
lines = [(0x20, 0, 0, 0), (0x15, 1, 0, 165), (0x15, 0, 1, 135), (6, 0, 0, value), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *line) for line in lines)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
program = Program(len(code) // 8, code)
flags = 8 if value == 0x7FC00000 else 0  # SECCOMP_FILTER_FLAG_NEW_LISTENER
listener, why = call(317, 1, flags, ctypes.byref(program))
print("filter", listener >= 0, why)
def permit():
    while True:
        room = ctypes.create_string_buffer(80)
        fcntl.ioctl(listener, 0xC0502100, room)  # SECCOMP_IOCTL_NOTIF_RECV
        answer = struct.pack("QqiI", struct.unpack_from("Q", room)[0], 0, 0, 1)  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
        fcntl.ioctl(listener, 0xC0182101, answer)  # SECCOMP_IOCTL_NOTIF_SEND
if flags and listener >= 0: threading.Thread(target=permit, daemon=True).start()
print("mount", *call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
print("personality", *call(135, 0x0040000))
print("strict", call(317, 9, 0, 0)[0])
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "mount -1 Operation not permitted" in told
    assert "personality -1 Operation not permitted" in told


async def test_a_ruleset_of_its_own_opens_nothing(open_bench: OpenBench, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    code = f"""
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, function):
    try: print(what, function())
    except OSError as error: print(what, error)
for rights in ((1 << 13) - 1, 4):
    ruleset = libc.syscall(444, struct.pack("Q", rights), ctypes.c_size_t(8), 0)
    root = os.open("/", os.O_PATH)
    print("rule", libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights, root), 0))
    print("restricted", libc.syscall(446, ruleset, 0), os.strerror(ctypes.get_errno()))
tried("read", lambda: open({str(secret)!r}).read())
tried("write", lambda: open({str(secret)!r}, "w").write("x"))
print("lifted", libc.syscall(446, -1, 1), libc.syscall(446, -1, 0))
tried("read", lambda: open({str(secret)!r}).read())
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("rule 0") == 2
    assert told.count("restricted 0") == 2
    assert CANARY not in told
    assert secret.read_text() == CANARY


async def test_no_personality_of_old_is_taken(open_bench: OpenBench):
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for persona in (0x0040000, 0x0020000, 0x0400000, 0x0100000, 0x0200000, 0x0008, 0x4000000, 0x8000000, 1, 0x7FFFFFFF):
    print("persona", libc.personality(ctypes.c_ulong(persona)), os.strerror(ctypes.get_errno()))
print("now", libc.personality(ctypes.c_ulong(0xFFFFFFFF)))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("persona -1 Operation not permitted") == 10
    assert "now 0" in told


async def test_no_other_user_or_group_is_become(open_bench: OpenBench):
    code = """
import os
before = os.getresuid(), os.getresgid(), os.getgroups()
others = [number for number in (0, 1, 1000, 65534, 2100000000) if number not in (os.getuid(), os.getgid())]
for number in others:
    for call in (
        os.setuid, os.setgid, os.seteuid, os.setegid, lambda n: os.setresuid(n, n, n), lambda n: os.setresgid(n, n, n),
        lambda n: os.setgroups([n]), lambda n: os.initgroups("root", n),
    ):
        try: print("BECAME", call(number))
        except OSError as error: print("refused", error)
print("same", before == (os.getresuid(), os.getresgid(), os.getgroups()))
print([line.split() for line in open("/proc/self/status") if line.startswith("Cap")])
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "BECAME" not in told
    assert "refused" in told
    assert "same True" in told
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"['{name}:', '0000000000000000']" in told


def test_nothing_is_typed_into_or_shown_on_the_servers_terminal(
    standing: Confinement, interpreter: Interpreter, tmp_path: Path
):
    # TIOCSTI, TIOCLINUX, TIOCSCTTY, TIOCCONS
    code = """
import fcntl, glob, os, termios
descriptors = [0, 1, 2, 3]
for path in ["/dev/console", "/proc/self/fd/0", *glob.glob("/dev/pts/[0-9]*"), *glob.glob("/dev/tty*")]:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try: descriptors.append(os.open(path, flags | os.O_NONBLOCK))
        except OSError as error: print(error)
for descriptor in descriptors:
    for request, argument in ((0x5412, b"x"), (0x541C, b"\\x02"), (0x540E, 1), (0x541D, 0)):
        try: print("IOCTL", descriptor, hex(request), fcntl.ioctl(descriptor, request, argument))
        except OSError as error: print(error)
    if descriptor > 3:
        try: os.write(descriptor, b"shown")
        except OSError as error: print(error)
print("tried on", len(descriptors))
"""
    controller, terminal = os.openpty()
    os.set_blocking(terminal, False)

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        os.close(os.open("/dev/tty", os.O_RDWR))

    try:
        with apart.server(apart.Order(standing, interpreter, tmp_path, code), take_terminal) as server:
            assert server.stdout is not None
            told = server.stdout.read().decode()
            assert select.select([controller, terminal], [], [], 0)[0] == []
    finally:
        os.close(controller)
        os.close(terminal)
    assert "tried on" in told
    assert "IOCTL" not in told
    assert told.endswith("status ok\n")
