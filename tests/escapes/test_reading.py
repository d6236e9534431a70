"""A program reads its environment, the system and its own places, and nothing else of the host's."""

import os
from pathlib import Path

import pytest

from tests.bench import OpenBench
from tests.escapes.attack import attack

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

CANARY = "canary-7f3a"


async def test_a_file_of_the_home_directory_is_not_read(open_bench: OpenBench):
    secret = Path.home() / f".canary-{os.getpid()}"
    secret.write_text(CANARY)
    try:
        async with open_bench() as bench:
            for path in (
                str(secret),
                f"/proc/self/root{secret}",
                f"/proc/1/root{secret}",
                f"/proc/1/cwd/../..{secret}",
            ):
                assert CANARY not in await attack(bench, f"print(open({path!r}).read())")
    finally:
        secret.unlink()


async def test_a_secret_beside_the_runs_is_not_read(open_bench: OpenBench, tmp_path: Path):
    (tmp_path / "secret").write_text(CANARY)
    async with open_bench() as bench:
        assert CANARY not in await attack(bench, f"print(open({str(tmp_path / 'secret')!r}).read())")


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/etc/passwd", "/etc/hosts", "/root/.bashrc", "/var/log/dpkg.log", "/proc/1/environ"]
)
async def test_what_belongs_to_the_host_is_not_read(open_bench: OpenBench, path: str):
    async with open_bench() as bench:
        told = await attack(bench, f"data = open({path!r}, 'rb').read()\nprint('LEAK' if data else 'nothing')")
    assert "LEAK" not in told


async def test_the_servers_environment_is_nowhere(open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    code = """
import os
print(dict(os.environ))
for entry in os.listdir("/proc"):
    if entry.isdigit():
        for name in ("environ", "cmdline"):
            try:
                print(open(f"/proc/{entry}/{name}").read())
            except OSError:
                pass
"""
    async with open_bench() as bench:
        told = await attack(bench, code)
    assert CANARY not in told


async def test_another_executions_directory_is_not_read(open_bench: OpenBench):
    plant = f"import os\nopen('kept.txt', 'w').write({CANARY!r})\nprint(os.getcwd())"
    async with open_bench() as bench:
        other = (await bench.run(plant)).stdout.strip()
        assert (Path(other) / "kept.txt").read_text() == CANARY
        looks = f"print(open({other + '/kept.txt'!r}).read())"
        lists = f"import os\nprint(os.listdir({str(Path(other).parent.parent)!r}))"
        assert CANARY not in await attack(bench, looks)
        assert Path(other).parent.name not in await attack(bench, lists)


async def test_a_link_to_a_secret_left_in_the_output_is_not_followed_by_the_server(
    open_bench: OpenBench, tmp_path: Path
):
    (tmp_path / "secret").write_text(CANARY)
    secret = str(tmp_path / "secret")
    code = f"""
import os
out = os.environ["OUTPUT_PATH"]
os.symlink({secret!r}, out + "/soft")
os.symlink({str(tmp_path)!r}, out + "/folder")
try:
    os.link({secret!r}, out + "/hard")
except OSError as error:
    print(error)
os.mkfifo(out + "/pipe")
open(out + "/real", "w").write("real")
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        assert [file.path.name for file in result.files] == ["real"]
        swapped = result.files[0].path
        swapped.unlink()
        swapped.symlink_to(secret)
        with pytest.raises(Exception, match="Too many levels of symbolic links"):
            bench.runner.records.file(result.execution_id, "output/real")
