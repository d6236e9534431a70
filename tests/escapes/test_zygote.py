"""What the warm interpreter may do, a package in it may do: none of it reaches outside, or another environment."""

import os
import stat
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes.attack import CANARY, state
from tests.escapes.infected import in_another_environment, infected
from tests.escapes.outside import bystander

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

_DONE = "attack-ran-to-its-end"
# Each line is written at once: the interpreter may not outlive the attack. By descriptor: it may cover the directory.
_PRELUDE = """
import ctypes, errno, struct, traceback
libc = ctypes.CDLL(None, use_errno=True)
record = os.open(OUT + ("/told-ahead" if control() else "/told"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
BIND, REC, MOVE, REMOUNT, RDONLY, NOSUID, NODEV, RELATIME = 4096, 16384, 8192, 32, 1, 2, 4, 1 << 21
UNBINDABLE, PRIVATE, SHARED = 1 << 17, 1 << 18, 1 << 20
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, *(1 << n for n in range(25, 31))
HERE = -100
ASIDE = OUT + "/aside"
os.makedirs(ASIDE, exist_ok=True)
def say(*words):
    os.write(record, (" ".join(map(str, words)) + "\\n").encode())
def call(what, function, *arguments):
    result = function(*arguments)
    say(what, "DONE" if result >= 0 else errno.errorcode[ctypes.get_errno()])
    return result
def attempt(what, action):
    try:
        action()
        say(what, "DONE")
    except OSError as error:
        say(what, error.strerror)
def mount(what, source, target, kind, flags, options=None):
    return call(what, libc.mount, source, target, kind, ctypes.c_ulong(flags), options)
def in_a_child(act):
    if os.fork() == 0:
        try:
            act()
        except BaseException:
            say("FAILED", traceback.format_exc())
        os._exit(0)
    os.wait()
def pids():
    try:
        return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    except OSError:
        return set(range(1, 64))
MOUNTS = [line.split()[4].encode() for line in open("/proc/self/mountinfo")]
"""


async def told_ahead(open_bench: OpenBench, tmp_path: Path, standing: Confinement, attack: str) -> str:
    """What `attack` said where packages are imported: ahead of programs, or in each where nothing is imported ahead."""
    output = tmp_path / "out"
    output.mkdir()
    code = f"OUT = {str(output)!r}\n{_PRELUDE}\n{attack}\nsay({_DONE!r})\n"
    async with infected(open_bench, tmp_path, code, output_path=output) as bench:
        with suppress(ExecutorError):  # programs may not run there any more
            await bench.run("'ran'")
    told = (output / ("told-ahead" if standing.bubblewrap else "told")).read_text()
    assert told.endswith(_DONE + "\n"), told
    assert "FAILED" not in told, told
    return told


def host_mounts(place: Path) -> list[str]:
    """What is mounted on the host above, at and below `place`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [(line, Path(line.split()[4])) for line in lines]
    return [line for line, point in points if place.is_relative_to(point) or point.is_relative_to(place)]


def done(told: str, what: str) -> list[str]:
    """The lines that tell of a `what` that was not refused."""
    return [line for line in told.splitlines() if line.startswith(what) and line.endswith(" DONE")]


# Every way to make what is mounted something else, and then a try to write there.
_CHANGE_MOUNTS = """
def change_mounts():
    aside = ASIDE.encode()
    for path in MOUNTS:
        for flags in (BIND, BIND | NOSUID | NODEV | RELATIME, BIND | REC, 0, NOSUID | NODEV):
            mount(f"remount {path}", None, path, None, REMOUNT | flags)
        for flags in (0, 1, 2, 8):
            call(f"unmount {path}", libc.umount2, path, flags)
        mount(f"move {path}", path, aside, None, MOVE)
        for flags in (SHARED, UNBINDABLE, SHARED | REC):
            mount(f"propagate {path}", None, path, None, flags)
        mount("bind", path, aside, None, BIND | REC)
        mount(f"remount a copy of {path}", None, aside, None, REMOUNT | BIND)
        attempt(f"write to a copy of {path}", lambda: open(ASIDE + "/CANARY", "w"))
        call("unmount a copy", libc.umount2, aside, 2)
        cleared = struct.pack("QQQQ", 0, RDONLY | NOSUID | NODEV, 0, 0)
        for flags in (0, 0x8000):
            call(f"set {path}", libc.syscall, 442, HERE, path, flags, cleared, 32)
        tree = call("clone", libc.syscall, 428, HERE, path, 1)
        if tree >= 0:
            call("set a clone", libc.syscall, 442, tree, b"", 0x1000, cleared, 32)
            call("attach", libc.syscall, 429, tree, b"", HERE, aside, 4)
            attempt(f"write to a clone of {path}", lambda: open(ASIDE + "/CANARY", "w"))
    for path in (b"/", b"/tmp", aside):
        call("chroot", libc.chroot, path)
        call("pivot", libc.syscall, 155, path, path)
    for kind in (b"tmpfs", b"proc", b"overlay"):
        call("open a file system", libc.syscall, 430, kind, 0)
    for path in CLOSED:
        attempt(f"write {path}", lambda: open(path + "/CANARY", "w"))
        attempt(f"append to {path}", lambda: open(path + "/pyvenv.cfg", "r+").write("CANARY"))
"""
_WAYS = {
    "as it is": "change_mounts()",
    "in namespaces of its own": "in_a_child(lambda: (call('unshare', libc.unshare, NEWUSER | NEWNS), change_mounts()))",
    "in mounts of its own": "in_a_child(lambda: (call('unshare', libc.unshare, NEWNS), change_mounts()))",
}


@pytest.mark.parametrize("how", _WAYS)
async def test_what_is_mounted_read_only_stays_so(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, interpreter: Interpreter, how: str
):
    library = Path(os.__file__).parent
    closed = [tmp_path / "infected", library, library / "site-packages", Path("/usr"), Path("/")]
    host, other = [host_mounts(path) for path in closed[:-1]], state(interpreter.prefix)
    attack = f"CLOSED = {[str(path) for path in closed]}\n{_CHANGE_MOUNTS}\n{_WAYS[how]}"
    told = await told_ahead(open_bench, tmp_path, standing, attack.replace("CANARY", CANARY))
    assert told.count("\nwrite /") >= len(closed)
    if standing.seccomp and standing.bubblewrap:  # else its root may be another by now
        assert done(told, "write /") == []
    if standing.seccomp:
        for what in ("remount", "unmount", "move", "propagate", "set", "clone", "pivot", "chroot", "open a file"):
            assert f"{what} " in told
            assert done(told, what) == []
    assert [path for path in closed if (path / CANARY).exists()] == []
    assert CANARY not in (tmp_path / "infected" / "pyvenv.cfg").read_text()
    assert not [path for path in (tmp_path / "infected").rglob("*") if path.name == CANARY]
    assert state(interpreter.prefix) == other
    assert [host_mounts(path) for path in closed[:-1]] == host


async def test_it_covers_nothing(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, interpreter: Interpreter
):
    output, data, runs = tmp_path / "out", tmp_path / "data", tmp_path / "runs"
    output.mkdir()
    data.mkdir()
    for place in (output, data):
        (place / "file").write_text("true")
    code = f"""
OUT = {str(output)!r}
{_PRELUDE}
open(ASIDE + "/file", "w").write("false")
for path in ["/etc/ssl/certs", "/proc", *{[str(path) for path in (data, runs, tmp_path / "infected", output)]}]:
    mount("cover", ASIDE.encode(), path.encode(), None, BIND)
    mount("cover", b"tmpfs", path.encode() + b"/lib", b"tmpfs", NOSUID | NODEV)
say({_DONE!r})
"""
    look = f"print([open(place + '/file').read() for place in {[str(output), str(data)]}])"
    async with infected(open_bench, tmp_path, code, output_path=output, read_paths=(data,)) as bench:
        other = in_another_environment(bench, interpreter, tmp_path, output_path=output, read_paths=(data,))
        assert (await other.run(look)).stdout == "['true', 'true']\n"
        for _ in range(2):
            with suppress(ExecutorError):  # programs may not run there any more
                await bench.run(look)
        assert (await other.run(look)).stdout == "['true', 'true']\n"
    told = (output / ("told-ahead" if standing.bubblewrap else "told")).read_text()
    assert told.endswith(_DONE + "\n")
    if standing.seccomp:
        assert "cover " in told
        assert done(told, "cover") == []
    assert [(place / "file").read_text() for place in (output, data)] == ["true", "true"]
    async with open_bench(output_path=output, read_paths=(data,)) as bench:
        assert (await bench.run(look)).stdout == "['true', 'true']\n"


async def test_no_namespace_but_its_own_is_entered(open_bench: OpenBench, tmp_path: Path, standing: Confinement):
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
    attack = f"""
def enter():
    before = {{kind: os.readlink("/proc/self/ns/" + kind) for kind in {kinds}}}
    for pid in [*pids(), "self"]:
        for kind in {kinds}:
            for flags in (0, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWNET, 0x80):
                try:
                    namespace = os.open(f"/proc/{{pid}}/ns/{{kind}}", os.O_RDONLY)
                except OSError:
                    continue
                call(f"enter {{kind}} of {{pid}}", libc.setns, namespace, flags)
                os.close(namespace)
        try:
            handle = os.pidfd_open(os.getpid() if pid == "self" else pid)
        except OSError:
            continue
        for flags in (NEWNS, NEWUSER | NEWNS, NEWNET, NEWUTS, NEWIPC, NEWCGROUP):
            call(f"enter all of {{pid}}", libc.setns, handle, flags)
        os.close(handle)
    for kind in {kinds}:
        say("namespace", os.readlink("/proc/self/ns/" + kind), "was", before[kind])
    for kind in (NEWNET, NEWUTS, NEWCGROUP, 0x80):
        call("unshare", libc.unshare, kind)
        made = libc.syscall(56, kind | 17, 0, 0, 0, 0)
        if made == 0:
            os._exit(0)
        say("clone", "DONE" if made > 0 else "refused")
in_a_child(enter)
"""
    told = await told_ahead(open_bench, tmp_path, standing, attack)
    assert "enter mnt of self" in told
    namespaces = [line.split()[1::2] for line in told.splitlines() if line.startswith("namespace ")]
    assert len(namespaces) == len(kinds)
    assert all(now == before for now, before in namespaces)
    if standing.seccomp:
        for what in ("unshare", "clone"):
            assert done(told, what) == []
        # It has workers enter those of their runs. The one here is its own.
        assert [line for line in done(told, "enter") if not line.startswith(("enter mnt of", "enter all of"))] == []
    if standing.bubblewrap:
        outside = {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds[:6]}  # noqa: PTH115 - no path
        assert not outside & {now for now, _ in namespaces}


# Holds by descriptors as many as there may be, in several processes, for each has few descriptors.
_PIN_NAMESPACES = """
def raise_most():
    for kind in ("user", "ipc"):
        attempt("raise", lambda: open(f"/proc/sys/user/max_{kind}_namespaces", "w").write("9999"))
def pin():
    raise_most()
    for number in range(300):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            kept = []
            if call("pin", libc.unshare, NEWUSER | NEWIPC) == 0:
                kept = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "ipc")]
                if number == 0:
                    in_a_child(raise_most)
            socket.send_fds(theirs, [b"x"], kept)
            os._exit(0)
        held.append(socket.recv_fds(ours, 1, 2)[1])
        os.wait()
        ours.close(), theirs.close()
    os.write(pinned, b"+")
    signal.pause()
held, (all_pinned, pinned) = [], os.pipe()
for _ in range(4):
    in_a_child(lambda: os.fork() or pin())
    os.read(all_pinned, 1)
os.close(all_pinned), os.close(pinned)
"""


async def test_it_holds_few_namespaces(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, interpreter: Interpreter
):
    output = tmp_path / "out"
    output.mkdir()
    code = f"OUT = {str(output)!r}\n{_PRELUDE}\nsay('begun')\n{_PIN_NAMESPACES}\nsay({_DONE!r})\n"
    async with infected(open_bench, tmp_path, code, output_path=output) as bench:
        other = in_another_environment(bench, interpreter, tmp_path)
        for _ in range(2):
            with suppress(ExecutorError):  # there are none left for the run
                await bench.run("'ran'")
            assert (await other.run("6 * 7")).result == "42"
    told = (output / ("told-ahead" if standing.bubblewrap else "told")).read_text()
    assert _DONE in told
    assert told.count("\npin ") >= 1200
    every = told.count("begun\n")
    assert len(done(told, "pin")) <= 1024 * every
    if standing.namespaces and standing.bubblewrap:
        assert len(done(told, "pin")) > 1000
        assert 8 <= len(done(told, "raise")) <= 8 * every  # of each that is the first in another one


# Files that, run by somebody, would give more than he has.
_PRIVILEGE = """
def capable(path):
    everything = (0xFFFFFFFF, 0, 0xFFFFFFFF, 0)
    values = [struct.pack("<5I", 0x02000001, *everything)]
    values += [struct.pack("<6I", 0x03000001, *everything, root) for root in (0, os.getuid(), 65534)]
    for value in values:
        attempt("capabilities", lambda: os.setxattr(path, "security.capability", value))
        attempt("capabilities", lambda: os.setxattr(os.open(path, os.O_RDWR), "security.capability", value))
        call("capabilities", libc.syscall, 463, HERE, path.encode(), 0, b"security.capability", value, len(value))
def leave(name):
    path = OUT + "/" + name
    open(path, "w").write("#!/bin/sh")
    for mode in (0o4755, 0o2755, 0o6777):
        for way in (
            lambda: os.chmod(path, mode),
            lambda: os.fchmod(os.open(path, os.O_RDONLY), mode),
            lambda: os.chmod(f"/proc/self/fd/{os.open(path, os.O_PATH)}", mode),
            lambda: os.chmod(OUT, mode),
            lambda: os.open(path + "-opened", os.O_CREAT | os.O_WRONLY, mode),
            lambda: os.mkdir(path + "-folder", mode),
            lambda: os.mknod(path + "-node", 0o100000 | mode),
        ):
            attempt("mode", way)
        call("mode", libc.syscall, 452, HERE, path.encode(), mode, 0)
    capable(path)
    for kind, device in ((0o020000, (1, 1)), (0o020000, (1, 3)), (0o060000, (8, 0)), (0o060000, (254, 0))):
        attempt("device", lambda: os.mknod(f"{path}-{kind}-{device[1]}", kind | 0o666, os.makedev(*device)))
    attempt("owner", lambda: os.chown(path, 0, 0))
    for name in ("lower", "upper", "work", "merged"):
        os.makedirs(f"{path}-{name}", exist_ok=True)
    for lower in (b"/usr/bin", path.encode() + b"-lower"):
        mount("stack", b"tmpfs", path.encode() + b"-lower", b"tmpfs", NOSUID | NODEV, b"mode=6777")
        options = b"lowerdir=%s,upperdir=%s-upper,workdir=%s-work" % (lower, path.encode(), path.encode())
        for more in (b"", b",userxattr", b",metacopy=on"):
            mount("stack", b"overlay", path.encode() + b"-merged", b"overlay", NOSUID | NODEV, options + more)
        for name in ("su", "passwd", "mount"):
            attempt("copy up", lambda: os.utime(f"{path}-merged/{name}"))
            attempt("copy up", lambda: os.link(f"/usr/bin/{name}", path + "-" + name))
leave("as it is")
in_a_child(lambda: (call("unshare", libc.unshare, NEWUSER | NEWNS), leave("nested")))
"""


async def test_no_file_that_it_leaves_gives_a_privilege(open_bench: OpenBench, tmp_path: Path, standing: Confinement):
    told = await told_ahead(open_bench, tmp_path, standing, _PRIVILEGE)
    assert told.count("capabilities ") == 24
    left = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(left) > 8
    assert [path for path in left if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)] == []
    assert [path for path in left if stat.S_ISBLK(path.lstat().st_mode) or stat.S_ISCHR(path.lstat().st_mode)] == []
    assert [path for path in left if "security.capability" in os.listxattr(path)] == []


# What can take another process over. Only one that no filter binds has more than the package has.
_TAKE_OVER = """
for pid in pids() - {os.getpid()} | {VICTIM}:
    try:
        bound = "Seccomp:\\t2" in open(f"/proc/{pid}/status").read()
    except OSError:
        bound = False
    whose = "a filtered one's" if bound else "another's"
    call(f"trace {whose}", libc.ptrace, 16, pid, 0, 0)
    call(f"seize {whose}", libc.ptrace, 0x4206, pid, 0, 0)
    text = ctypes.create_string_buffer(b"CANARY")
    piece = struct.pack("QQ", ctypes.addressof(text), 6)
    for address in (ADDRESS, ctypes.addressof(text)):
        call(f"copy to {whose}", libc.syscall, 311, pid, piece, 1, struct.pack("QQ", address, 6), 1, 0)
    handle = call("handle", libc.syscall, 434, pid, 0)
    call(f"take a descriptor of {whose}", libc.syscall, 438, handle, 0, 0)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        attempt(f"memory of {whose}", lambda: os.open(f"/proc/{pid}/mem", flags))
    for name in ("environ", "maps", "root/tmp", "cwd/."):
        attempt(f"{name} of {whose}", lambda: os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
    for name in ("exe", "fd/0"):
        attempt(f"{name} of {whose}", lambda: os.readlink(f"/proc/{pid}/{name}"))
"""


@pytest.mark.parametrize("landlock", [True, False], ids=["here", "before Landlock kept domains apart"])
async def test_no_process_that_may_do_more_is_taken_over(
    open_bench: OpenBench, tmp_path: Path, standing: Confinement, landlock: bool
):
    if not landlock and standing.namespaces:  # else that is not accepted
        standing = replace(standing, landlock=False)
    behind = partial(open_bench, confinement=standing)
    with bystander() as victim:
        attack = _TAKE_OVER.replace("ADDRESS", str(victim.address)).replace("VICTIM", str(victim.pid))
        told = await told_ahead(behind, tmp_path, standing, attack.replace("CANARY", CANARY))
        assert victim.told() == "untouched"
    assert "memory of another's " in told
    assert [line for line in done(told, "") if "another's" in line] == []
    if standing.seccomp:
        for what in ("trace", "seize", "copy to", "take"):
            assert done(told, what) == []
