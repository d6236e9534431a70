"""A program writes its own directory, its temporary one and OUTPUT_PATH, and changes nothing else."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes.attack import attack, state, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


@pytest.fixture
def victim() -> Iterator[Path]:
    """A file in a folder of its own in the real home directory."""
    above = Path(tempfile.mkdtemp(prefix="canary-", dir=Path.home()))
    (above / "folder").mkdir()
    (above / "folder" / "file").write_text("precious")
    yield above / "folder" / "file"
    shutil.rmtree(above)


@pytest.mark.parametrize("thing", ["write", "change", "ioctl"])
async def test_a_file_of_the_home_directory_stays_as_it_is(open_bench: OpenBench, victim: Path, thing: str):
    before = state(victim.parent.parent)
    async with open_bench() as bench:
        await try_every_way(bench, thing, victim)
    assert state(victim.parent.parent) == before


@pytest.mark.parametrize("thing", ["write", "change", "ioctl"])
async def test_a_file_that_everybody_may_write_stays_as_it_is(open_bench: OpenBench, tmp_path: Path, thing: str):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("precious")
    for path in (folder, folder / "file"):
        path.chmod(0o777)
    before = state(folder)
    async with open_bench() as bench:
        await try_every_way(bench, thing, folder / "file")
    assert state(folder) == before
    assert not (tmp_path / "folder-moved").exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="the host has no /dev/shm")
async def test_shared_memory_of_the_hosts_stays_as_it_is(open_bench: OpenBench):
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="canary-") as name:
        folder = Path(name)
        (folder / "file").write_text("precious")
        (folder / "file").chmod(0o666)
        before = state(folder)
        async with open_bench() as bench:
            for thing in ("write", "change"):
                await try_every_way(bench, thing, folder / "file")
        assert state(folder) == before


async def test_what_lies_beside_the_output_stays_as_it_is(open_bench: OpenBench, tmp_path: Path):
    output, beside = tmp_path / "shared" / "out", tmp_path / "shared" / "beside"
    for folder in (output, beside):
        folder.mkdir(parents=True)
    (beside / "file").write_text("precious")
    (output / "link").symlink_to(beside / "file")
    (output / "folder").symlink_to("../beside")
    before = state(beside)
    async with open_bench(output_path=output) as bench:
        for path in (beside / "file", output / ".." / "beside" / "file", output / "folder" / "file"):
            await try_every_way(bench, "write", path)
            await try_every_way(bench, "change", path)
        await attack(bench, f"open({str(output / 'link')!r}, 'w').write('changed')")
    assert state(beside) == before
    assert output.is_dir()
    assert sorted(path.name for path in output.parent.iterdir()) == ["beside", "out"]


async def test_nothing_is_written_into_a_pipe_of_the_hosts(open_bench: OpenBench, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe", 0o666)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        code = f"import os\nos.write(os.open({str(tmp_path / 'pipe')!r}, os.O_WRONLY | os.O_NONBLOCK), b'x')"
        async with open_bench() as bench:
            assert "Error" in await attack(bench, code)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


@contextmanager
def unharmed(path: Path) -> Generator[None]:
    """Fails if `path` has come to be, and removes it."""
    assert not path.exists()
    try:
        yield
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("folder", ["/", "/dev", "/etc", "/run", "/usr", "/var"])
async def test_the_system_cannot_be_written(open_bench: OpenBench, folder: str):
    path = Path(folder, f"canary-{os.getpid()}")
    code = f"""
import os
for way in (lambda: open({str(path)!r}, "x"), lambda: os.symlink("/", {str(path)!r})):
    try:
        way()
        print("WROTE")
    except OSError as error:
        print("refused", error)
"""
    with unharmed(path):
        async with open_bench() as bench:
            told = await attack(bench, code)
    assert told.count("refused") == 2


# Those that do no harm when they are written as they are.
KNOBS = (
    *(
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/printk",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/swappiness",
    ),
    *("/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj", "/proc/self/coredump_filter", "/proc/self/comm"),
    *(
        "/proc/self/loginuid",
        "/proc/self/timerslack_ns",
        "/proc/self/uid_map",
        "/proc/self/sched",
        "/proc/self/autogroup",
    ),
    *("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs"),
)


async def test_no_knob_of_the_kernels_is_turned(open_bench: OpenBench):
    code = f"""
import os
for path in {KNOBS}:
    for flags in (os.O_WRONLY, os.O_RDWR):
        try:
            os.close(os.open(path, flags))
            print("OPENED", path)
        except OSError as error:
            print("refused", error.strerror)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("refused ") == 2 * len(KNOBS)


async def test_a_program_stays_the_kernels_first_victim(open_bench: OpenBench):
    code = """
import os
for value in ("-1000", "-1", "0", "999"):
    for path in ("/proc/self/oom_score_adj", f"/proc/self/task/{os.readlink('/proc/self')}/oom_score_adj"):
        try:
            open(path, "w").write(value)
        except OSError as error:
            print("refused", error.strerror)
print(f"in {os.getcwd()} now", flush=True)
"""
    seen: list[str] = []

    def look(_: str, text: str) -> None:
        if " now\n" in text:
            directory = text.partition("in ")[2].partition(" now")[0]
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.AccessDenied):  # the one that keeps the warm interpreter's namespace
                    if process.cwd() == directory:
                        seen.append(Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip())

    async with open_bench() as bench:
        await attack(bench, code + "import time\ntime.sleep(0.3)", listener=look)
    assert seen == ["1000"]


async def test_nothing_with_a_set_user_id_bit_is_left_in_the_output(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    code = """
import ctypes, io, os, shutil, subprocess, tarfile
libc = ctypes.CDLL(None, use_errno=True)
output = os.environ["OUTPUT_PATH"]
path = output + "/shell"
shutil.copy("/bin/sh", path)
os.chdir(output)
def unpack():
    archive, member = tarfile.open("archive", "w"), tarfile.TarInfo("unpacked")
    member.mode = 0o6755
    archive.addfile(member, io.BytesIO())
    archive.close()
    tarfile.open("archive").extractall()
def nameless():
    number = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o6755)
    os.link(f"/proc/self/fd/{number}", "named", follow_symlinks=True)
for way in (
    lambda: os.chmod(path, 0o4755),
    lambda: os.chmod(path, 0o2755),
    lambda: os.chmod(".", 0o2777),
    lambda: os.fchmod(os.open(path, os.O_RDONLY), 0o6755),
    lambda: os.chmod("/proc/self/fd/%d" % os.open(path, os.O_PATH), 0o6755),
    lambda: os.chmod("shell", 0o6755, dir_fd=os.open(".", os.O_RDONLY)),
    lambda: libc.syscall(452, -100, path.encode(), 0o6755, 0),
    lambda: os.open("made", os.O_CREAT | os.O_WRONLY, 0o4755),
    lambda: libc.syscall(2, b"opened", os.O_CREAT | os.O_WRONLY, 0o6755),
    lambda: libc.syscall(85, b"created", 0o6755),
    lambda: libc.syscall(437, -100, b"openat2", (ctypes.c_ulong * 3)(os.O_CREAT | os.O_WRONLY, 0o6755, 0), 24),
    lambda: os.mkdir("folder", 0o2777),
    lambda: os.mkdir("folder2", 0o2777, dir_fd=os.open(".", os.O_RDONLY)),
    lambda: os.mknod("node", 0o106755),
    lambda: os.mknod("node2", 0o106755, dir_fd=os.open(".", os.O_RDONLY)),
    lambda: subprocess.run(["install", "-m", "6755", "/bin/sh", "installed"], capture_output=True),
    lambda: subprocess.run(["cp", "-p", "/bin/su", "/usr/bin/passwd", "."], capture_output=True),
    lambda: shutil.copy2("/usr/bin/passwd", "copied"),
    lambda: os.link("/usr/bin/passwd", "linked"),
    lambda: os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),
    lambda: subprocess.run(["setcap", "cap_setuid+ep", path], capture_output=True),
    unpack,
    nameless,
):
    try:
        print("tried", way())
    except OSError as error:
        print("tried", error)
"""
    async with open_bench(output_path=output) as bench:
        assert (await attack(bench, code)).count("tried ") == 23
    left = [output, *output.rglob("*")]
    assert len(left) > 2
    assert not [path for path in left if path.lstat().st_mode & 0o6000]
    assert not [path for path in left if path.is_file() and "security.capability" in os.listxattr(path)]


async def test_ordinary_file_tools_go_on_working(open_bench: OpenBench, standing: Confinement):
    code = """
import os, shutil, sqlite3, tarfile, tempfile, zipfile
t = tempfile.gettempdir()
open("a", "w").write("x")
shutil.copy("a", "b"); shutil.copy2("a", "c"); shutil.copytree(".", t + "/tree"); os.chmod("a", 0o600); os.utime("a")
with tempfile.NamedTemporaryFile() as f, tempfile.TemporaryDirectory() as d: pass
with zipfile.ZipFile("z.zip", "w") as z: z.write("a")
zipfile.ZipFile("z.zip").extractall(t + "/z")
with tarfile.open("t.tar", "w") as a: a.add("a")
tarfile.open("t.tar").extractall(t + "/t")
db = sqlite3.connect("d.db"); db.execute("create table t (x)"); db.execute("insert into t values (1)"); db.commit()
print("all fine")
"""
    share = """
import multiprocessing.shared_memory as m
s = m.SharedMemory(create=True, size=100); s.close(); s.unlink()
print("shared")
"""
    async with open_bench() as bench:
        assert ("shared\n" in await attack(bench, share)) is standing.namespaces
        assert "all fine" in await attack(bench, code)


async def test_the_hosts_devices_keep_their_modes_and_go_on_working(open_bench: OpenBench):
    code = f"""
import os
for path in [f"/dev/{{name}}" for name in {DEVICES}] + ["/dev"]:
    for way in (lambda: os.chmod(path, 0o700), lambda: os.utime(path, (1, 1))):
        try:
            way()
        except OSError as error:
            print(error.strerror)
open("/dev/null", "w").write("x")
print(open("/dev/zero", "rb").read(1))
"""
    with unchanged_devices():
        async with open_bench() as bench:
            told = await attack(bench, code)
        assert "b'\\x00'" in told


@contextmanager
def unchanged_devices() -> Generator[None]:
    """Fails if a device's mode changed, and gives it back."""
    paths = [Path("/dev", name) for name in DEVICES]
    before = [path.stat().st_mode for path in paths]
    try:
        yield
        assert [path.stat().st_mode for path in paths] == before
    finally:
        for path, mode in zip(paths, before, strict=True):
            if path.stat().st_mode != mode:
                path.chmod(mode)


async def test_a_file_that_another_program_is_to_write_is_not_held_up(open_bench: OpenBench, victim: Path):
    code = f"""
import fcntl, os, time
file = os.open({str(victim)!r}, os.O_RDONLY)
for what in (fcntl.F_RDLCK, fcntl.F_WRLCK):
    try:
        print("leased", fcntl.fcntl(file, fcntl.F_SETLEASE, what))
    except OSError as error:
        print("refused", error)
print("held", flush=True)
time.sleep(0.5)
"""
    opened: list[bool] = []

    def write(_: str, text: str) -> None:
        if "held" in text:
            try:
                os.close(os.open(victim, os.O_WRONLY | os.O_NONBLOCK))
                opened.append(True)
            except BlockingIOError:
                opened.append(False)

    async with open_bench(read_paths=(victim,)) as bench:
        await attack(bench, code, listener=write)
    assert opened == [True]
