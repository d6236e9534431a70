import os
import time
from pathlib import Path

import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.artifacts import Record, Records, disk_usage, find, may_hold_files, remove


def found(root: Path, since_ns: int = 0) -> list[str]:
    files = find({"work": root}, Record(root), "id", since_ns, root / "main.py")
    return [str(file.path.relative_to(root)) for file in files]


def test_files_are_found_in_folders_and_links_and_pipes_are_not(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.txt").touch()
    (tmp_path / "main.py").touch()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == ["a/b/deep.txt"]


def test_files_from_before_are_not_found(tmp_path: Path):
    (tmp_path / "old").touch()
    assert found(tmp_path, time.time_ns() + 1_000_000_000) == []


def test_no_more_files_are_told_than_a_result_can_carry(tmp_path: Path):
    for number in range(300):
        (tmp_path / str(number)).touch()
    assert len(found(tmp_path)) == 200


def test_a_directory_with_the_program_alone_holds_no_files(tmp_path: Path):
    (tmp_path / "main.py").touch()
    assert not may_hold_files(tmp_path)
    (tmp_path / "other").touch()
    assert may_hold_files(tmp_path)


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").write_text("secret")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "x").write_text("mine")
    records, record = Records(), Record(root)
    find({"work": root}, record, "id", 0, root / "main.py")
    records.keep("id", record)
    assert records.file("id", "work/folder/x") == b"mine"
    (root / "folder" / "x").unlink()
    (root / "folder").rmdir()
    (root / "folder").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidArgument, match=r"Not a directory|symbolic links"):
        records.file("id", "work/folder/x")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "work/../../x", "", "work"])
def test_only_listed_names_are_read(tmp_path: Path, name: str):
    records = Records()
    records.keep("id", Record(tmp_path))
    with pytest.raises(InvalidArgument, match="lists no file"):
        records.file("id", name)


def test_the_oldest_executions_are_let_go(tmp_path: Path):
    records = Records()
    dropped = [path for number in range(150) for path in records.keep(str(number), Record(tmp_path / str(number)))]
    assert dropped == [tmp_path / str(number) for number in range(50)]
    with pytest.raises(InvalidArgument, match="no execution '0' is kept"):
        records.stream("0", "stdout")


def test_a_directory_is_removed_whatever_modes_a_program_left(tmp_path: Path):
    run = tmp_path / "run"
    (run / "a" / "b").mkdir(parents=True)
    (run / "a" / "b" / "x").touch()
    (run / "a" / "b").chmod(0)
    (run / "a").chmod(0o500)
    remove(run)
    assert not run.exists()


def test_a_tree_deeper_than_any_path_is_removed_and_looked_at_to_a_bound(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    place = os.open(run, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    (run / "d" / "x").write_bytes(b"x" * 8192)
    assert found(run) == ["d/x"]
    assert 8192 <= disk_usage([run]) < 16384
    remove(run)
    assert not run.exists()
