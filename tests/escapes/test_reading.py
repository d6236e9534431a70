"""A program reads its environment, the system and its own places, and nothing else of the host's."""

import errno
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import Status
from mcp_python_executor.sandbox.policy import SYSTEM_FILES
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import PROGRAMS, OpenBench
from tests.escapes.attack import CANARY, attack, try_every_way

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

# The devices that a program has: each gives nothing of the host's.
DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
# What gives the machine away where a host has it: memory, disks, and the ways into the kernel that others may open.
NAMED = (
    *("/dev/mem", "/dev/kmsg", "/dev/port", "/dev/sda", "/dev/vda", "/dev/nvme0n1"),
    *("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/fuse", "/dev/userfaultfd"),
    "/dev/tty",
    *("/dev/ptmx", "/dev/pts/ptmx"),  # each opening of these makes a terminal, of which the machine has a number
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder in the real home directory for canaries."""
    folder = Path(tempfile.mkdtemp(prefix=".canary-", dir=Path.home()))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def key() -> Iterator[Path]:
    """A canary where the home directory's own keys lie."""
    folder = Path.home() / ".ssh"
    was_there = folder.exists()
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"canary-{os.getpid()}"
    path.write_text(CANARY)
    yield path
    path.unlink()
    if not was_there:
        folder.rmdir()


async def test_a_file_of_the_home_directory_is_not_read(open_bench: OpenBench, home: Path):
    (home / "token").write_text(CANARY)
    async with open_bench() as bench:
        assert CANARY not in await try_every_way(bench, "read", home / "token")


async def test_a_private_key_is_not_read(open_bench: OpenBench, key: Path):
    async with open_bench() as bench:
        assert CANARY not in await try_every_way(bench, "read", key)


async def test_a_secret_beside_the_runs_is_not_read(open_bench: OpenBench, tmp_path: Path):
    (tmp_path / "secret").write_text(CANARY)
    async with open_bench() as bench:
        assert CANARY not in await try_every_way(bench, "read", tmp_path / "secret")


async def test_a_secret_that_everybody_may_read_is_not_read(open_bench: OpenBench):
    with tempfile.NamedTemporaryFile("w", prefix="canary-") as secret:
        secret.write(CANARY)
        secret.flush()
        await anyio.Path(secret.name).chmod(0o644)
        async with open_bench() as bench:
            assert CANARY not in await try_every_way(bench, "read", secret.name)


def is_missing(path: Path) -> bool:
    """Whether there is nothing at `path`, as far as this user may look there."""
    return os.access(path.parent, os.X_OK) and not path.exists()


_REFUSALS = ("FileNotFoundError", "PermissionError")
_READ = """
import os
try:
    print("read", os.listdir({path!r}) if os.path.isdir({path!r}) else os.read(os.open({path!r}, {flags}), 4096))
except OSError as error:
    print("refused", type(error).__name__)
"""


def read(path: str | Path) -> str:
    """A program that reads a file, or lists a directory, or tells how that is refused."""
    return _READ.format(path=str(path), flags=os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/shadow", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/machine-id"),
        *("/root/.bashrc", "/var/log/dpkg.log", "/var/lib/dpkg/status", "/proc/1/environ", "/proc/kmsg"),
        "/sys/kernel/notes",
    ],
)
async def test_what_belongs_to_the_host_is_not_read(open_bench: OpenBench, path: str):
    if is_missing(Path(path)):
        pytest.skip(f"this machine has no {path}")
    async with open_bench() as bench:
        told = await attack(bench, read(path))
    assert any(f"refused {name}\n" in told for name in _REFUSALS)
    assert "read " not in told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can plant files there")
@pytest.mark.parametrize("folder", ["/", "/boot", "/etc", "/opt", "/root", "/run", "/srv", "/var/lib", "/var/log"])
async def test_what_is_planted_among_the_hosts_files_is_not_read(open_bench: OpenBench, folder: str):
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="canary-") as planted:
        planted.write(CANARY)
        planted.flush()
        await anyio.Path(planted.name).chmod(0o644)
        async with open_bench() as bench:
            told = await attack(bench, read(planted.name))
            assert CANARY not in await try_every_way(bench, "read", planted.name)
    assert any(f"refused {name}\n" in told for name in _REFUSALS)
    assert "read " not in told


@pytest.mark.parametrize("where", ["home", "beside the runs", "root", "sys", "run"])
async def test_names_of_files_are_not_listed(open_bench: OpenBench, home: Path, tmp_path: Path, where: str):
    place = {"home": home.parent, "beside the runs": tmp_path, "root": Path("/"), "sys": Path("/sys")}.get(
        where, Path("/run")
    )
    if where == "beside the runs":
        (tmp_path / CANARY).touch()
    code = f"""
import glob, os, subprocess
path = {str(place)!r}
for way in (
    lambda: os.listdir(path),
    lambda: [entry.name for entry in os.scandir(path)],
    lambda: list(os.walk(path)),
    lambda: glob.glob(path + "/*") + glob.glob(path + "/.*"),
    lambda: os.listdir(os.open(path, os.O_PATH)),
    lambda: os.listdir("/proc/self/root" + path),
    lambda: os.listdir("/proc/self/cwd" + "/.." * 30 + path),
    lambda: subprocess.run(["ls", "-a", path], capture_output=True).stdout,
    lambda: subprocess.run(["find", path, "-maxdepth", "1"], capture_output=True).stdout,
    lambda: [os.listdir(os.open(path[1:], os.O_RDONLY | os.O_DIRECTORY, dir_fd=number)) for number in range(64)],
):
    try:
        print("listed", way())
    except OSError as error:
        print("refused", error.strerror)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert told.count("listed ") + told.count("refused ") == 10
    # Where they are the way to what a program may read, folders of these names stand inside; each core has a `power`.
    inside = (
        "bin",
        "dev",
        "devices",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "power",
        "proc",
        "root",
        "sbin",
        "tmp",
        "usr",
        "var",
    )
    names = {entry.name async for entry in anyio.Path(place).iterdir()} - {*inside, "runs", "work", ".pyenv"}
    assert not [name for name in names if f"'{name}'" in told or f"{name}\\n" in told or f"/{name}'" in told]


async def test_what_programs_need_of_the_system_is_read(open_bench: OpenBench):
    # But for links to programs.
    files = [path for path in SYSTEM_FILES if path.startswith("/etc/") and path != "/etc/alternatives"]
    places = ("/usr/share/fonts", "/usr/share/zoneinfo", *files)
    command = [sys.executable, PROGRAMS / "looks_at_the_system.py", *places]
    outside = json.loads((await anyio.run_process(command, env={})).stdout)
    async with open_bench() as bench:
        result = await bench.run_program("looks_at_the_system.py", args=places)
    assert result.status is Status.OK, result
    assert json.loads(result.stdout) == outside
    assert outside["hours in Paris"] == 1
    for name in ("certificates", "/usr/share/fonts", "/usr/share/zoneinfo"):
        if outside[name] in (0, [0, 0]):
            pytest.skip(f"this machine has no {name}")


async def test_where_a_link_leads_is_not_told(open_bench: OpenBench, confinement: Confinement, home: Path):
    (home / "link").symlink_to(f"/{CANARY}")
    async with open_bench() as bench:
        told = await attack(bench, f"import os\nprint(os.readlink({str(home / 'link')!r}))")
    # Landlock does not cover it; docs/safety.md says so.
    assert (CANARY in told) is (confinement.bubblewrap is None)


async def test_sizes_and_times_of_files_are_not_told(open_bench: OpenBench, confinement: Confinement, home: Path):
    (home / "token").write_text(CANARY)
    async with open_bench() as bench:
        told = await attack(bench, f"import os\nprint('SEEN', os.stat({str(home / 'token')!r}).st_size)")
    assert ("SEEN" in told) is (confinement.bubblewrap is None)


async def test_what_happens_in_a_folder_of_the_hosts_is_not_watched(open_bench: OpenBench, home: Path, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    (home / "known").touch()
    watched = [str(path) for path in (home, home / "known", home.parent, tmp_path, tmp_path / "runs", Path("/"))]
    code = f"""
import ctypes, os, select, time
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
for path in {watched}:
    print("watched", libc.inotify_add_watch(watch, path.encode(), 0xFFF), os.strerror(ctypes.get_errno()))
print("watching", flush=True)
deadline = time.monotonic() + 20
while not os.path.exists({str(output / "planted")!r}) and time.monotonic() < deadline:
    time.sleep(0.01)
print("saw", os.read(watch, 65536) if select.select([watch], [], [], 0.2)[0] else b"")
"""

    def plant(_: str, text: str) -> None:
        if "watching" in text:
            for folder in (home, tmp_path):
                (folder / CANARY).write_text("x")
            (home / "known").write_text("x")
            (output / "planted").touch()

    async with open_bench(output_path=output) as bench:
        told = await attack(bench, code, listener=plant)
    assert (output / "planted").exists()
    assert told.count("watched ") == 6
    assert CANARY not in told
    assert "known" not in told


def devices() -> list[str]:
    """The host's device nodes but those that a program has; a watchdog's ends the machine when it is opened."""
    found = [
        path for path in Path("/dev").rglob("*") if stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFCHR, stat.S_IFBLK)
    ]
    return [str(path) for path in found if str(path) not in (*DEVICES, *NAMED) and "watchdog" not in path.name]


async def test_no_device_of_the_hosts_opens(open_bench: OpenBench):
    paths = [*devices(), *NAMED]
    code = f"""
import os
for path in {paths}:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
            print("OPENED", path)
        except OSError as error:
            print("refused", path)
            print("because of", path, error.errno)
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    opened = {line.removeprefix("OPENED ") for line in told.splitlines() if line.startswith("OPENED ")}
    assert opened == set()
    assert [path for path in NAMED if told.count(f"refused {path}\n") < 3] == []
    assert told.count("refused ") + told.count("OPENED ") == 3 * len(paths)
    # A program has no terminal to open: that this one is refused shows by the reason.
    assert told.count(f"because of /dev/tty {errno.EACCES}\n") == 3


async def test_a_device_is_not_made(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    code = """
import os, tempfile
for folder in (".", os.environ["OUTPUT_PATH"], tempfile.gettempdir(), "/dev", "/dev/shm"):
    for kind in (0o20666, 0o60666):
        for major, minor in ((1, 1), (1, 11), (8, 0), (254, 0), (259, 0)):
            path = f"{folder}/node-{kind}-{major}-{minor}"
            try:
                os.mknod(path, kind, os.makedev(major, minor))
                print("MADE", path)
                os.open(path, os.O_RDONLY)
            except OSError as error:
                print("refused", error.strerror)
"""
    async with open_bench(output_path=output) as bench:
        told = await attack(bench, code)
    assert told.count("refused") == 50
    assert "MADE" not in told
    assert list(output.iterdir()) == []


async def test_the_servers_own_code_is_not_read(open_bench: OpenBench):
    code = """
import inspect, os, sys
names = [name for name in sys.modules if name.split(".")[0] in ("inside", "mcp_python_executor")]
print("modules", names)
frame = sys._getframe()
while frame:
    path = frame.f_code.co_filename
    if path.endswith("worker.py"):
        print("CODE" if open(path).read() else "")
    frame = frame.f_back
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "modules []" in told
    assert "CODE" not in told
    assert "Error" in told
