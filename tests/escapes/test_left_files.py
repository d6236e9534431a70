"""What a program leaves in its directories leads the server to nothing but the program's own regular files."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.model import ExecutionResult
from mcp_python_executor.server import render
from tests.bench import Bench, OpenBench
from tests.conftest import open_descriptors
from tests.escapes.attack import CANARY, attack, state

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside, in a folder of its own."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret").write_text(CANARY)
    return tmp_path / "private" / "secret"


def contents(bench: Bench, result: ExecutionResult) -> dict[str, bytes]:
    """What the server gives of each file that it lists, by the name that it goes by."""
    names = [unquote(file.uri.partition("/files/")[2], errors="surrogateescape") for file in result.files]
    return {name: bench.runner.records.page(result.execution_id, name).data for name in names}


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o300, 0])
async def test_a_folder_that_nobody_may_look_into_costs_no_result(open_bench: OpenBench, mode: int):
    code = f"""
import os
for place in (".", os.environ["OUTPUT_PATH"]):
    os.makedirs(place + "/closed/folder")
    open(place + "/closed/file", "w").close()
    os.chmod(place + "/closed", {mode})
    open(place + "/seen", "w").close()
"attack-ran-to-its-end"
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        assert result.result == "'attack-ran-to-its-end'"
        assert {name.partition("/")[2] for name in contents(bench, result)} >= {"seen"}


async def test_links_and_special_files_are_not_listed(open_bench: OpenBench, secret: Path):
    code = f"""
import os
secret = {str(secret)!r}
def leave(make, name):
    try:
        make(name)
        print("left", name)
    except OSError as error:
        print("refused", name, error.strerror)
for place in (".", os.environ["OUTPUT_PATH"]):
    os.chdir(place)
    os.makedirs("deep/er")
    for folder in ("", "deep/", "deep/er/"):
        leave(lambda name: os.symlink(secret, name), folder + "file link")
        leave(lambda name: os.symlink(os.path.relpath(secret), name), folder + "relative link")
        leave(lambda name: os.symlink(os.path.dirname(secret), name), folder + "folder link")
        leave(lambda name: os.symlink("/proc/self/root" + secret, name), folder + "link through a process")
        leave(lambda name: os.symlink(".", name), folder + "loop")
        leave(lambda name: os.symlink(name, name), folder + "itself")
        leave(lambda name: os.symlink("real", name), folder + "link to its own")
        leave(lambda name: os.link(secret, name), folder + "hard link")
        leave(lambda name: os.link("/etc/ld.so.cache", name), folder + "hard link of the system's")
        leave(lambda name: os.link(os.__file__, name), folder + "hard link of the library's")
        leave(lambda name: os.mkfifo(name), folder + "pipe")
        leave(lambda name: os.mknod(name, 0o20666, os.makedev(1, 5)), folder + "device")
        leave(lambda name: os.mknod(name, 0o60666, os.makedev(254, 0)), folder + "disk")
        leave(lambda name: os.mknod(name, 0o140666), folder + "socket")
        open(folder + "real", "w").write("real")
print("attack-ran-to-its-end")
"""
    async with open_bench() as bench:
        with anyio.fail_after(20):
            result = await bench.run(code)
            given = contents(bench, result)
    assert "attack-ran-to-its-end" in result.stdout
    assert result.stdout.count("left ") >= 6 * 7
    assert set(given.values()) == {b"real"}
    assert sorted(given) == sorted(
        f"{root}/{folder}real" for root in ("work", "output") for folder in ("", "deep/", "deep/er/")
    )


# How a listed file, `victim` at `folder/victim`, is replaced before it is read.
SWAPS = {
    "a link": "os.unlink(victim); os.symlink(SECRET, victim)",
    "a link in one step": "os.symlink(SECRET, 'new'); os.rename('new', victim)",
    "a link to a link": "os.symlink(SECRET, 'one'); os.unlink(victim); os.symlink('../one', victim)",
    "a folder's link": "os.rename('folder', 'old'); os.symlink(os.path.dirname(SECRET), 'folder')",
    "a folder above": "os.rename('folder', 'old'); os.symlink('../' * 9 + os.path.dirname(SECRET), 'folder')",
    "a pipe": "os.unlink(victim); os.mkfifo(victim)",
    "a device": "os.unlink(victim); os.mknod(victim, 0o20666, os.makedev(1, 5))",
    "a hard link": "os.unlink(victim); os.link(SECRET, victim)",
    "nothing": "os.unlink(victim)",
    "a file of no size": "os.truncate(victim, 1 << 29)",
}


@pytest.mark.parametrize("swap", SWAPS)
async def test_a_file_replaced_after_it_was_listed_gives_nothing_else(
    open_bench: OpenBench, tmp_path: Path, secret: Path, swap: str
):
    output = tmp_path / "out"
    output.mkdir()
    make = "import os\nos.chdir(os.environ['OUTPUT_PATH'])\nos.mkdir('folder')\nopen('folder/secret', 'w').write('own')"
    replace = f"import os\nos.chdir(os.environ['OUTPUT_PATH'])\nSECRET, victim = {str(secret)!r}, 'folder/secret'\n"
    async with open_bench(output_path=output) as bench:
        result = await bench.run(make)
        assert contents(bench, result) == {"output/folder/secret": b"own"}
        await attack(bench, replace + SWAPS[swap])
        try:
            given = contents(bench, result)
        except InvalidArgument:
            return
    assert set("".join(map(bytes.decode, given.values()))) <= {"\0", *"own"}


async def test_a_folder_in_the_place_of_a_listed_file_holds_nothing_open(open_bench: OpenBench, tmp_path: Path):
    output = tmp_path / "out"
    output.mkdir()
    victim = "import os\nvictim = os.environ['OUTPUT_PATH'] + '/victim'\n"
    async with open_bench(output_path=output) as bench:
        result = await bench.run(victim + "open(victim, 'w').write('own')")
        await attack(bench, victim + "os.unlink(victim); os.mkdir(victim)")
        before = open_descriptors()
        with pytest.raises(InvalidArgument):
            contents(bench, result)
        left = [number for number in open_descriptors() if number not in before]
        for number in left:
            os.close(number)
        assert left == []


async def test_a_file_that_is_swapped_all_the_time_gives_nothing_else(
    open_bench: OpenBench, tmp_path: Path, secret: Path
):
    output = tmp_path / "out"
    (output / "folder").mkdir(parents=True)
    swap = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(os.environ["OUTPUT_PATH"])
os.symlink({str(secret)!r}, "file link")
os.symlink({str(secret.parent)!r}, "folder link")
print("swapping", flush=True)
while not os.path.exists("enough"):
    libc.renameat2(-100, b"folder", -100, b"folder link", 2)
    libc.renameat2(-100, b"folder/secret", -100, b"file link", 2)
"""
    reads = 0
    swapping = anyio.Event()
    async with open_bench(output_path=output) as bench, anyio.create_task_group() as tasks:
        plant = "import os\nopen(os.environ['OUTPUT_PATH'] + '/folder/secret', 'w').write('own')"
        result = await bench.run(plant)

        def hear(_: str, __: str) -> None:
            swapping.set()

        tasks.start_soon(partial(bench.run, swap, listener=hear))
        await swapping.wait()
        for _ in range(3000):
            try:
                assert contents(bench, result) == {"output/folder/secret": b"own"}
                reads += 1
            except InvalidArgument:
                pass
        for _ in range(5):
            listed = await bench.run("import os\nopen(os.environ['OUTPUT_PATH'] + '/mine', 'w').write('own')")
            # What is a link by now was a file when it was looked at, of three bytes.
            assert {file.size for file in listed.files} == {3}
            with suppress(InvalidArgument):
                assert set(contents(bench, listed).values()) == {b"own"}
        (output / "enough").touch()
    assert reads


NAMES = [
    *("new\nline", "\n", "carriage\rreturn", "tab\t", "nul-like\\0", "escape\x1b[2J", "quote'\"`", "per%cent%2e%2e%2f"),
    *(
        "..%2f..%2fsecret",
        "..data",
        "...",
        "-rf",
        "~",
        "$(id)",
        "<script>",
        "a" * 255,
        "\u202egpj.exe",
        "café",
        "\u2028",
    ),
    *("\udcff\udcfe", "\udce9t\udce9", "CON", "?query#fragment", " ", "main.py\n"),
]


async def test_files_of_any_name_are_listed_and_given_as_they_are(open_bench: OpenBench):
    code = f"""
import os
for number, name in enumerate({[os.fsencode(name) for name in NAMES]}):
    with open(os.fsencode(os.environ["OUTPUT_PATH"]) + b"/" + name, "w") as file:
        file.write(str(number))
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        given = contents(bench, result)
    assert result.error is None
    assert given == {f"output/{name}": str(number).encode() for number, name in enumerate(NAMES)}
    told = render.execution(result).model_dump_json()
    assert "\n" not in told
    assert len({file.uri for file in result.files}) == len(NAMES)
    assert not [file.uri for file in result.files if ".." in file.uri.split("/") or not file.uri.isascii()]


@pytest.mark.parametrize(
    "name",
    [
        *("../secret", "output/../../secret", "output/../../../../private/secret", "/etc/passwd", "output//etc/passwd"),
        *("", ".", "output", "output/", "work/main.py", "output/%2e%2e/secret", "output/real/../real", "output/\0"),
    ],
)
@pytest.mark.usefixtures("secret")
async def test_a_name_that_was_not_listed_gives_nothing(open_bench: OpenBench, name: str):
    async with open_bench() as bench:
        result = await bench.run("import os\nopen(os.environ['OUTPUT_PATH'] + '/real', 'w').write('real')")
        assert contents(bench, result) == {"output/real": b"real"}
        with pytest.raises(InvalidArgument):
            bench.runner.records.page(result.execution_id, name)


async def test_a_programs_directories_are_not_replaced(open_bench: OpenBench, secret: Path):
    code = f"""
import os
secret = {str(secret)!r}
run = os.path.dirname(os.getcwd())
for name in ("work", "output", "home", "tmp", "stdout", "stderr"):
    path = run + "/" + name
    for way in (
        lambda: os.rename(path, path + "-moved"),
        lambda: os.rmdir(path),
        lambda: os.unlink(path),
        lambda: os.symlink(secret, path),
        lambda: os.symlink(os.path.dirname(secret), path + "-link"),
        lambda: os.rename("link", path),
        lambda: os.link(secret, path),
        lambda: open(path, "x"),
    ):
        try:
            way()
            print("DONE", name)
        except OSError as error:
            print("refused")
os.unlink("main.py")
os.symlink(secret, "main.py")
print("x" * 100_000)
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        whole = bench.zygotes.engine.runs / f"{result.execution_id}.stdout"
        assert not whole.is_symlink()
        told = whole.read_text()
        directory = next(bench.zygotes.engine.runs.glob(f"*/{result.execution_id}"))
        assert {path.name for path in directory.iterdir()} - {"home", "tmp"} == {"output", "work"}
        assert contents(bench, result) == {}
    # Where runs lie below /tmp, a program has a /tmp of its own around its directory, and may do there what it likes.
    assert told.count("refused") + told.count("DONE") == 48


async def test_removing_what_a_program_left_removes_nothing_else(open_bench: OpenBench, secret: Path, tmp_path: Path):
    code = f"""
import os
secret = {str(secret)!r}
os.makedirs("a/b/c")
for folder in ("", "a/", "a/b/", "a/b/c/"):
    os.symlink(os.path.dirname(secret), folder + "folder")
    os.symlink(secret, folder + "file")
    os.symlink("/", folder + "root")
    os.symlink("../" * 20, folder + "above")
os.chmod("a", 0)
print("attack-ran-to-its-end")
"""
    before = state(secret.parent)
    runs = tmp_path / "runs"
    async with open_bench() as bench:
        result = await bench.run(code)
        assert (result.files, "ran-to-its-end" in result.stdout) == ([], True)
        with anyio.fail_after(10):
            while list(runs.glob(f"*/{result.execution_id}")):  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
    assert state(secret.parent) == before
