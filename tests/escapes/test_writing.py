"""A program writes its own directory, its temporary one and OUTPUT_PATH, and changes nothing else."""

from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.sandbox.probe import Confinement
from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


async def test_the_environment_cannot_be_changed(open_bench: OpenBench, interpreter: Interpreter):
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    before = sorted(path.name for path in packages.iterdir())
    async with open_bench() as bench:
        for action in (
            f"open({str(packages / 'evil.pth')!r}, 'w').write('import os')",
            f"import os; os.rename({str(packages)!r}, {str(packages) + '2'!r})",
            f"import os; os.unlink({str(interpreter.python)!r})",
            f"import os; os.chmod({str(packages)!r}, 0o777); open({str(packages / 'x.py')!r}, 'w')",
        ):
            await attack(bench, action)
    assert sorted(path.name for path in packages.iterdir()) == before
    assert interpreter.python.exists()


async def test_modes_owners_times_and_attributes_of_host_files_stay(open_bench: OpenBench, interpreter: Interpreter):
    victim = interpreter.prefix / "pyvenv.cfg"
    before = victim.stat()
    code = f"""
import os
path = {str(victim)!r}
for change in (
    lambda: os.chmod(path, 0o777),
    lambda: os.chown(path, 1, 1),
    lambda: os.utime(path, (1, 1)),
    lambda: os.setxattr(path, "user.x", b"1"),
    lambda: os.fchmod(os.open(path, os.O_RDONLY), 0o777),
    lambda: os.utime(os.open(path, os.O_RDONLY), (1, 1)),
):
    try:
        change()
    except OSError as error:
        print(error)
"""
    async with open_bench() as bench:
        await attack(bench, code)
    after = victim.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@pytest.mark.parametrize(
    "path", ["/etc/canary", "/usr/canary", "/canary", "/proc/sys/kernel/core_pattern", "/dev/canary"]
)
async def test_the_system_cannot_be_written(open_bench: OpenBench, path: str):
    async with open_bench() as bench:
        told = await attack(bench, f"open({path!r}, 'w').write('x')\nprint('WROTE')")
    assert "WROTE" not in told
    assert not path.endswith("canary") or not await anyio.Path(path).exists()


async def test_what_is_left_in_temporary_places_is_gone_for_the_next_run(
    open_bench: OpenBench, confinement: Confinement
):
    leave = """
import os, tempfile
for place in {"/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir(), os.environ["HOME"]}:
    try:
        open(place + "/left", "x").write("x")
        print("left", place + "/left")
    except OSError as error:
        print(error)
"""
    async with open_bench() as bench:
        told = await attack(bench, leave)
        left = [line.removeprefix("left ") for line in told.splitlines() if line.startswith("left ")]
        assert len(left) == (4 if confinement.namespaces else 2)
        look = f"for path in {left}:\n    try: open(path).close(); print('FOUND', path)\n    except OSError: pass"
        assert "FOUND" not in await attack(bench, look)
    assert not [path for path in left if await anyio.Path(path).exists()]


async def test_an_executable_with_a_set_user_id_bit_is_not_left_in_the_output(
    open_bench: OpenBench, confinement: Confinement, tmp_path: Path
):
    output = tmp_path / "out"
    output.mkdir()
    code = """
import os, shutil
path = os.environ["OUTPUT_PATH"] + "/shell"
shutil.copy("/bin/sh", path)
for way in (
    lambda: os.chmod(path, 0o4755),
    lambda: os.fchmod(os.open(path, os.O_RDONLY), 0o6755),
    lambda: os.open(path + "2", os.O_CREAT | os.O_WRONLY, 0o4755),
    lambda: os.mkdir(path + "3", 0o2777),
    lambda: os.mknod(path + "4", 0o104755),
):
    try:
        way()
    except OSError as error:
        print(error)
"""
    async with open_bench(output_path=output) as bench:
        told = await attack(bench, code)
    # Where no mount keeps modes as they are, chmod answers and does nothing.
    assert told.count("Operation not permitted") == (5 if confinement.namespaces else 3)
    assert not [path for path in output.rglob("*") if path.stat().st_mode & 0o6000]


async def test_ordinary_file_tools_go_on_working(open_bench: OpenBench, confinement: Confinement):
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
        assert ("shared\n" in await attack(bench, share)) is confinement.namespaces
        assert "all fine" in await attack(bench, code)


async def test_the_hosts_devices_keep_their_modes_and_go_on_working(open_bench: OpenBench):
    names = ("null", "zero", "full", "random", "urandom", "tty")
    before = modes(names)
    code = f"""
import os
for path in [f"/dev/{{name}}" for name in {names}] + ["/dev"]:
    try:
        os.chmod(path, 0o700)
    except OSError as error:
        print(error.strerror)
open("/dev/null", "w").write("x")
print(open("/dev/zero", "rb").read(1))
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert "b'\\x00'" in told
    assert modes(names) == before


def modes(names: tuple[str, ...]) -> list[int]:
    """Of these device nodes of the host."""
    return [Path("/dev", name).stat().st_mode for name in names]


async def test_other_runs_directories_are_not_changed(open_bench: OpenBench):
    async with open_bench() as bench:
        kept = await bench.run("import os\nopen('kept', 'w').write('x')\nprint(os.getcwd())")
        other = Path(kept.stdout.strip())
        before = [place.stat() for place in (other, other.parent.parent)]
        code = f"""
import os
for place in ({str(other)!r}, {str(other.parent.parent)!r}):
    for change, *how in ((os.chmod, 0o700), (os.setxattr, "user.evil", b"1"), (os.utime, (1, 1))):
        try:
            change(place, *how)
        except OSError as error:
            print(error)
"""
        await attack(bench, code)
        after = [place.stat() for place in (other, other.parent.parent)]
    assert [status.st_mtime_ns for status in before[:1]] == [status.st_mtime_ns for status in after[:1]]
    assert [status.st_mode for status in before] == [status.st_mode for status in after]
    assert before[0].st_ctime_ns == after[0].st_ctime_ns


async def test_shared_objects_of_one_run_are_not_there_for_the_next(open_bench: OpenBench, confinement: Confinement):
    make = "import ctypes\nprint('made', ctypes.CDLL(None).shmget(77, 4096, 0o1666) >= 0)"
    find = "import ctypes\nprint('found', ctypes.CDLL(None).shmget(77, 4096, 0o666) >= 0)"
    async with open_bench() as bench:
        assert f"made {confinement.namespaces}" in await attack(bench, make)
        assert "found False" in await attack(bench, find)
    objects = await anyio.Path("/proc/sysvipc/shm").read_text()
    assert not [line for line in objects.splitlines() if line.split()[0] == "77"]
