import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.process.disk import Disk, usage
from mcp_python_executor.process.usage import Tree

LIMITS = Limits(disk_bytes=16 * MEBIBYTE)  # and 1024 files


def test_every_file_counts_wherever_it_lies_and_however_many_there_are(tmp_path: Path):
    limits = Limits()
    place = tmp_path.joinpath("run", *"abcdefghijklmnopqrstuvwxyz", "__pycache__")
    place.mkdir(parents=True)
    for number in range(11_000):
        (tmp_path / "run" / str(number)).touch()
    before = usage([tmp_path / "run"], limits)
    (place / "large").write_bytes(bytes(MEBIBYTE))
    after = usage([tmp_path / "run"], limits)
    assert (before.files, after.files) == (11_028, 11_029)
    assert after.bytes - before.bytes == MEBIBYTE


def test_a_look_ends_at_a_bound(tmp_path: Path):
    for number in range(2000):
        (tmp_path / str(number)).touch()
    found = usage([tmp_path], LIMITS)
    assert (found.files, found.exceeds(LIMITS)) == (1025, "files")


def test_a_file_of_several_names_holds_its_bytes_once(tmp_path: Path):
    (tmp_path / "one").write_bytes(bytes(MEBIBYTE))
    for number in range(30):
        os.link(tmp_path / "one", tmp_path / str(number))
    found = usage([tmp_path], LIMITS)
    assert (found.files, found.exceeds(LIMITS)) == (32, "")
    assert found.bytes < 2 * MEBIBYTE


def test_no_link_is_followed(tmp_path: Path):
    (tmp_path / "else").mkdir()
    for number in range(20):
        (tmp_path / "else" / str(number)).touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "else")
    (tmp_path / "linked").symlink_to(tmp_path / "run")
    assert usage([tmp_path / "run"], LIMITS).files == 2
    assert usage([tmp_path / "linked"], LIMITS).files == 1


@pytest.mark.parametrize("mode", [0, 0o300, 0o400])
def test_a_folder_into_which_nobody_may_look_hides_nothing(tmp_path: Path, mode: int):
    folder = tmp_path / "run" / "folder"
    (folder / "below").mkdir(parents=True)
    for place in (folder / "below", folder, folder.parent):
        place.chmod(mode)
    assert usage([tmp_path / "run"], LIMITS).files == 3


def _never(_: Path) -> bool:
    return False


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where nobody else takes or gives back much meanwhile, taken for a disk."""
    monkeypatch.setattr("mcp_python_executor.process.disk._is_in_memory", _never)
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_what_is_new_in_a_shared_directory_counts_and_what_is_old_does_not(shared: Path):
    for number in range(2000):
        (shared / f"old-{number}").touch()
    time.sleep(0.02)  # past the tick of the clock that stamps files
    disk = Disk([], shared, Tree([], LIMITS), LIMITS, set())
    disk.tree.kernel_ticks = 10
    assert disk.exceeds() == ""
    for number in range(1000):
        (shared / f"new-{number}").touch()
    assert disk.exceeds() == ""
    for number in range(100):
        (shared / f"newer-{number}").touch()
    assert disk.exceeds() == "files"


class _Wrote(Tree):
    """Processes that wrote so many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__([], LIMITS)
        self._written_bytes = size


def test_bytes_in_a_shared_directory_are_a_runs_that_wrote_as_many(shared: Path):
    together: set[Disk] = set()
    writer, walker = (Disk([], shared, _Wrote(size), LIMITS, together) for size in (12 * MEBIBYTE, 4 * MEBIBYTE))
    together.update((writer, walker))
    writer.tree.kernel_ticks, walker.tree.kernel_ticks = 10, 20
    assert (writer.exceeds(), walker.exceeds()) == ("", "")
    (shared / "large").write_bytes(bytes(20 * MEBIBYTE))
    assert (walker.exceeds(), writer.exceeds(), walker.exceeds()) == ("", "disk", "")


def test_files_in_a_shared_directory_are_the_runs_that_works_most_in_the_kernel(shared: Path):
    together: set[Disk] = set()
    busy, idle = (Disk([], shared, Tree([], LIMITS), LIMITS, together) for _ in range(2))
    together.update((busy, idle))
    busy.tree.kernel_ticks, idle.tree.kernel_ticks = 20, 10
    assert (busy.exceeds(), idle.exceeds()) == ("", "")
    for number in range(1100):
        (shared / str(number)).touch()
    assert (idle.exceeds(), busy.exceeds(), idle.exceeds()) == ("", "files", "")
