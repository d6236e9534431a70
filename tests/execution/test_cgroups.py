"""Cgroups of version 2: what is not delegated is left alone, and in a leaf the kernel itself holds a run's bounds.

The latter needs a delegated cgroup that holds this process alone. Where there is none a virtual machine has one, which
takes minutes: with --long.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution import conduct
from mcp_python_executor.execution.cgroups import open_cgroups
from mcp_python_executor.execution.model import Status
from mcp_python_executor.limits import MEBIBYTE, LimitHit, Limits
from mcp_python_executor.sandbox import probe
from mcp_python_executor.sandbox.probe import Confinement
from mcp_python_executor.service import open_service
from mcp_python_executor.settings import Settings
from tests import virtual_machine
from tests.bench import OpenBench, make_interpreter

anyio_cases = pytest.mark.anyio
in_leaf = pytest.mark.usefixtures("own")

MEMORY_MB = 64
LIMITS = Limits(memory_bytes=MEMORY_MB * MEBIBYTE, processes=60)
EXCEEDED = (Status.MEMORY_EXCEEDED, LimitHit("memory", MEMORY_MB, "MAX_MEMORY_MB"))
# Twice what it takes on a machine that is busy with ten other things.
_MACHINE_SECONDS = 1200

V1 = "25 20 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def told(directory: Path, membership: str, mounts: str) -> Path:
    """A directory like a process's in /proc."""
    directory.mkdir()
    (directory / "cgroup").write_text(membership)
    (directory / "mountinfo").write_text(mounts)
    return directory


def everything(directory: Path) -> dict[str, str]:
    """All files below `directory` with their content."""
    return {str(path): path.read_text() if path.is_file() else "" for path in sorted(directory.rglob("*"))}


# What is not delegated


@pytest.mark.parametrize(
    ("membership", "mounts", "missing"),
    [
        pytest.param("4:memory:/a\n", V1, "no cgroups of version 2", id="version 1"),
        pytest.param("", "", "no cgroups of version 2", id="no cgroups"),
        pytest.param("4:memory:/a\n0::/\n", V1, "'/' is not mounted", id="version 2 not mounted"),
        pytest.param(
            "0::/../b\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "is not mounted", id="of another namespace"
        ),
        pytest.param(
            "0::/b\n", "1 2 0:1 /a {place} rw - cgroup2 c rw\n", "is not mounted", id="beside what is mounted"
        ),
        pytest.param("0::/\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "no controller memory", id="hybrid"),
        pytest.param("0::/gone\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "No such file", id="gone"),
        pytest.param("0::/a/in/it\n", "1 2 0:1 /a {place} rw - cgroup2 c rw\n", "no controller pids", id="one missing"),
        pytest.param(
            "0::/shared\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "other processes than the server", id="shared"
        ),
        pytest.param("0::/used\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "other cgroups: theirs", id="used"),
        pytest.param("0::/fails\n", "1 2 0:1 / {place} rw - cgroup2 c rw\n", "No such file", id="moving fails"),
    ],
)
def test_what_is_not_delegated_is_left_as_it_was(tmp_path: Path, membership: str, mounts: str, missing: str):
    place = tmp_path / "a cgroup file system"
    own = str(os.getpid())
    for name, controllers, members in (
        ("", "hugetlb", own),
        ("in/it", "cpu memory", own),
        ("shared", "memory pids", f"{own}\n{os.getppid()}"),
        ("used", "memory pids", own),
        ("used/theirs", "", ""),
        ("fails", "memory pids", own),
    ):
        (place / name).mkdir(parents=True)
        (place / name / "cgroup.controllers").write_text(controllers + "\n")
        (place / name / "cgroup.procs").write_text(members + "\n")
    before = everything(place)
    escaped = str(place).replace(" ", "\\040")
    with open_cgroups(told(tmp_path / "told", membership, mounts.format(place=escaped))) as cgroups:
        assert not cgroups.delegated
        assert missing in cgroups.missing, cgroups.missing
        assert cgroups.leaf("name", [os.getpid()], LIMITS) is None
    changed = {path: text for path, text in everything(place).items() if before.get(path) != text}
    # Only our own number, written where it was.
    assert changed in ({}, {str(place / "fails" / "cgroup.procs"): own + "\n"}), changed
    assert everything(place).keys() == before.keys()


# What is delegated


@pytest.fixture(scope="module")
def confinement() -> Confinement:
    """That of this machine, which may be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "_SECONDS", 120)
        walls = anyio.run(probe.probe)
    return walls.confinement or pytest.skip(walls.missing)


@pytest.fixture
def own() -> Iterator[Path]:
    """This process's own cgroup, delegated and as it was afterwards."""
    own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip().removeprefix("0::/")
    yield own
    assert state(own) == ([str(os.getpid())], [], [])


def state(own: Path) -> tuple[list[str], list[str], list[str]]:
    """Processes, controllers given to children, children."""
    return (
        (own / "cgroup.procs").read_text().split(),
        (own / "cgroup.subtree_control").read_text().split(),
        sorted(path.name for path in own.iterdir() if path.is_dir()),
    )


def leaves(own: Path) -> list[Path]:
    """Those of runs."""
    return list(own.glob("run-*"))


def members(leaf: Path) -> int:
    """How many processes are in it."""
    try:
        return len((leaf / "cgroup.procs").read_text().split())
    except OSError:  # it is gone
        return 0


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the kernel ends a run."""
    monkeypatch.setattr(conduct, "LOOK_SECONDS", 3600)


@contextmanager
def sleeper(cgroup: Path) -> Generator[subprocess.Popen[bytes]]:
    """Somebody else's process in `cgroup`."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        (cgroup / "cgroup.procs").write_text(str(process.pid))
        try:
            yield process
        finally:
            process.kill()


def test_a_server_is_alone_in_a_leaf_and_goes_back(own: Path):
    with open_cgroups() as cgroups:
        assert cgroups.delegated
        assert state(own) == ([], ["memory", "pids"], ["server"])
        assert (own / "server" / "cgroup.procs").read_text().split() == [str(os.getpid())]


def test_a_cgroup_that_holds_somebody_elses_process_is_left_alone(own: Path):
    with sleeper(own) as process:
        with open_cgroups() as cgroups:
            assert "other processes" in cgroups.missing
            assert sorted(state(own)[0]) == sorted([str(os.getpid()), str(process.pid)])
            assert state(own)[1:] == ([], [])
        assert process.poll() is None


def test_the_cgroup_of_a_server_that_lives_is_left_alone(own: Path):
    for name in ("server", "run-1"):
        (own / name).mkdir()
    with sleeper(own / "server") as server, sleeper(own / "run-1") as run:
        with open_cgroups() as cgroups:
            assert not cgroups.delegated
        assert state(own) == ([str(os.getpid())], [], ["run-1", "server"])
        assert (server.poll(), run.poll()) == (None, None)
    for name in ("server", "run-1"):
        (own / name).rmdir()


def test_what_a_dead_server_left_is_removed(own: Path):
    for name in ("server", "run-1", "run-2"):
        (own / name).mkdir()
    with sleeper(own / "run-1") as process, open_cgroups() as cgroups:
        assert cgroups.delegated
        assert process.wait(60) != 0
        assert state(own)[2] == ["server"]


@in_leaf
@anyio_cases
@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("block = b'x' * (100 << 20)", id="one process"),
        pytest.param(
            "for _ in range(10):\n    if os.fork() == 0:\n        block = b'x' * (10 << 20)\n        time.sleep(60)",
            id="many processes",
        ),
        pytest.param(
            "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1", id="shared memory"
        ),
        pytest.param(
            "for place in ('/tmp', '/var/tmp', '/dev/shm'): open(f'{place}/block', 'wb').write(bytes(40 << 20))",
            id="temporary files",
        ),
        pytest.param(
            "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'block = bytes(1) * (100 << 20)'])",
            id="another program",
        ),
    ],
)
async def test_the_kernel_ends_a_run_past_its_memory_as_a_whole(
    open_bench: OpenBench, confinement: Confinement, code: str
):
    async with open_bench(confinement=confinement, limits=LIMITS) as bench:
        result = await bench.run("import os, time\n" + code + "\ntime.sleep(60)")
        after = await bench.run("print(1)")
    assert (result.status, result.limit) == EXCEEDED, result
    assert result.peak_memory_bytes > 0.9 * LIMITS.memory_bytes
    assert (after.status, after.stdout) == (Status.OK, "1\n"), after


@in_leaf
@anyio_cases
async def test_without_walls_a_cgroup_ends_a_run_as_well(open_bench: OpenBench):
    async with open_bench(isolation="none", limits=LIMITS) as bench:
        result = await bench.run("block = b'x' * (100 << 20)")
    assert (result.status, result.limit) == EXCEEDED, result


@in_leaf
@anyio_cases
async def test_a_map_that_is_never_touched_and_files_that_are_read_cost_nothing(
    open_bench: OpenBench, confinement: Confinement
):
    code = f"""
import mmap
m = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
with open("block", "wb") as file:
    for _ in range({MEMORY_MB // 2}): file.write(bytes(1 << 20))
try:
    bytearray(10**13)
except MemoryError:
    print("went on")
"""
    async with open_bench(confinement=confinement, limits=LIMITS) as bench:
        result = await bench.run(code)
    assert (result.status, result.stdout, result.limit) == (Status.OK, "went on\n", None), result


@in_leaf
@anyio_cases
@pytest.mark.usefixtures("unwatched")
async def test_what_was_imported_ahead_is_not_charged(open_bench: OpenBench, confinement: Confinement, tmp_path: Path):
    interpreter = make_interpreter(tmp_path / "environment")
    packages = next(interpreter.prefix.glob("lib/python*/site-packages"))
    (packages / "yaml.py").write_text(f"block = b'x' * ({MEMORY_MB + 16} << 20)\n")
    async with open_bench(confinement=confinement, limits=LIMITS, within=interpreter) as bench:
        bench.zygotes.learn(bench.surroundings, ["yaml"])
        with anyio.fail_after(60):
            while "yaml" not in bench.zygotes.warmed(bench.surroundings):  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
        little = await bench.run("import yaml\nprint(sum(yaml.block[::4096]) > 0)")
        much = await bench.run(f"import yaml\nmine = bytearray(yaml.block[:{MEMORY_MB} << 20])")
    assert (little.status, little.stdout) == (Status.OK, "True\n"), little
    assert (much.status, much.limit) == EXCEEDED, much


@in_leaf
@anyio_cases
@pytest.mark.usefixtures("unwatched")
async def test_the_kernel_refuses_processes_past_the_limit(open_bench: OpenBench, confinement: Confinement):
    code = """
import os, time
for number in range(100):
    print(number, flush=True)
    if os.fork() == 0:
        time.sleep(60)
"""
    async with open_bench(confinement=confinement, limits=LIMITS) as bench:
        result = await bench.run(code)
    assert (result.status, result.limit) == (Status.ERROR, LimitHit("processes", LIMITS.processes)), result
    # The program is one itself; the first process of its namespace is in no leaf.
    assert result.stdout.split()[-1] == str(LIMITS.processes - 1)


@in_leaf
@anyio_cases
async def test_a_fork_bomb_that_goes_on_is_ended(open_bench: OpenBench, confinement: Confinement):
    async with open_bench(confinement=confinement, limits=LIMITS) as bench:
        result = await bench.run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
        after = await bench.run("print(1)")
    assert (result.status, result.limit) == (Status.KILLED, LimitHit("processes", LIMITS.processes)), result
    assert after.stdout == "1\n", after


@in_leaf
@anyio_cases
async def test_a_runs_leaf_goes_with_it_however_it_ends(open_bench: OpenBench, confinement: Confinement, own: Path):
    async with open_bench(confinement=confinement, limits=LIMITS) as bench:
        assert (await bench.run("print(1)")).stdout == "1\n"
        late = await bench.run("import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)", timeout_seconds=0.5)
        assert late.status is Status.TIMEOUT
        with anyio.move_on_after(1):
            await bench.run("import time\ntime.sleep(60)")
        with anyio.fail_after(60):
            while [members(leaf) for leaf in leaves(own)] != [1]:  # noqa: ASYNC110 - the spare's; nobody tells of it
                await anyio.sleep(0.01)


@in_leaf
@anyio_cases
async def test_what_holds_memory_and_processes_is_told(tmp_path: Path):
    async with open_service(Settings(venvs_base_path=tmp_path / "venvs")) as service:
        mechanisms = (await service.health()).limits["mechanisms"]
    assert mechanisms["memoryMb"].startswith("cgroup of each execution")
    assert mechanisms["processes"].startswith("cgroup of each execution")


# In a virtual machine

INSIDE = [
    sys.executable,
    "-m",
    "pytest",
    "-p",
    "no:cacheprovider",
    "--color=no",
    "-k",
    "not virtual_machine",
    "--tb=short",
    "-v",
]


def test_all_of_it_holds_in_a_virtual_machine(tmp_path: Path):
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine")
    if lacking := virtual_machine.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {lacking}")
    command = [*INSIDE, str(Path(__file__))]
    listed = subprocess.run([*command, "--collect-only", "-q"], capture_output=True, text=True, check=True).stdout
    (every,) = re.findall(r"\d+/(\d+) tests collected", listed)
    reads = [Path(sys.prefix), Path(sys.base_prefix)]
    status, printed = virtual_machine.run(command, tmp_path, reads=reads, seconds=_MACHINE_SECONDS)
    print(printed)  # noqa: T201 - for -s
    assert status == 0, printed
    assert re.search(rf"^=+ {int(every) - 1} passed, 1 deselected in ", printed, re.MULTILINE), printed
