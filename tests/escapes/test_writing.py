"""A program writes its own directory, its temporary one and OUTPUT_PATH, and changes nothing else."""

from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import Interpreter
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


async def test_what_is_left_in_temporary_places_is_gone_for_the_next_run(open_bench: OpenBench):
    leave = "for p in ('/tmp/left', '/dev/shm/left', '/var/tmp/left'):\n    open(p, 'w').write('x'); print('left', p)"
    look = "import os\nprint([p for p in ('/tmp/left', '/dev/shm/left', '/var/tmp/left') if os.path.exists(p)])"
    async with open_bench() as bench:
        assert (await attack(bench, leave)).count("left /") == 3
        assert "[]" in await attack(bench, look)


async def test_an_executable_with_a_set_user_id_bit_is_not_left_in_the_output(open_bench: OpenBench, tmp_path: Path):
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
        assert (await attack(bench, code)).count("Operation not permitted") == 5
    assert not [path for path in output.rglob("*") if path.stat().st_mode & 0o6000]


async def test_ordinary_file_tools_go_on_working(open_bench: OpenBench):
    code = """
import os, shutil, sqlite3, tarfile, tempfile, zipfile
open("a", "w").write("x")
shutil.copy("a", "b"); shutil.copy2("a", "c"); shutil.copytree(".", "/tmp/tree"); os.chmod("a", 0o600); os.utime("a")
with tempfile.NamedTemporaryFile() as f, tempfile.TemporaryDirectory() as d: pass
with zipfile.ZipFile("z.zip", "w") as z: z.write("a")
zipfile.ZipFile("z.zip").extractall("/tmp/z")
with tarfile.open("t.tar", "w") as t: t.add("a")
tarfile.open("t.tar").extractall("/tmp/t")
db = sqlite3.connect("d.db"); db.execute("create table t (x)"); db.execute("insert into t values (1)"); db.commit()
import multiprocessing.shared_memory as m
s = m.SharedMemory(create=True, size=100); s.close(); s.unlink()
print("all fine")
"""
    async with open_bench() as bench:
        assert "all fine" in await attack(bench, code)
