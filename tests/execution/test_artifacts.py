import os
import socket
import stat
import time
from pathlib import Path

import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution.artifacts import find, may_hold_files
from mcp_python_executor.execution.records import Record, Records
from mcp_python_executor.limits import Limits
from mcp_python_executor.process.disk import usage
from mcp_python_executor.process.folders import prune, remove

PNG = b"\x89PNG\r\n\x1a\nrest"


def found(root: Path, since_ns: int = 0) -> list[str]:
    artifacts = find({"work": root}, root, "id", since_ns, root / "main.py").artifacts
    return [str(file.path.relative_to(root)) for file in artifacts]


def test_files_are_found_in_folders_and_links_and_pipes_are_not(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.txt").touch()
    (tmp_path / "main.py").touch()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert found(tmp_path) == ["a/b/deep.txt"]
    skipped = find({"work": tmp_path}, tmp_path, "id", 0, tmp_path / "main.py").skipped
    kinds = {"link": "a link", "loop": "a link", "pipe": "a pipe", "socket": "a socket"}
    assert sorted(skipped) == [f"{tmp_path}/{name} ({kind})" for name, kind in kinds.items()]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_device_is_told_as_skipped(tmp_path: Path):
    os.mknod(tmp_path / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    skipped = find({"work": tmp_path}, tmp_path, "id", 0, tmp_path / "main.py").skipped
    assert skipped == [f"{tmp_path}/null (a device)"]


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
    records = Records()
    files = find({"work": root}, root, "id", 0, root / "main.py").files
    records.keep("id", Record(root, files=files))
    assert records.page("id", "work/folder/x").data == b"mine"
    (root / "folder" / "x").unlink()
    (root / "folder").rmdir()
    (root / "folder").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidArgument, match=r"Not a directory|symbolic links"):
        records.page("id", "work/folder/x")


def test_small_images_are_shown(tmp_path: Path):
    (tmp_path / "small.png").write_bytes(PNG)
    (tmp_path / "large.png").write_bytes(PNG + bytes(300_000))
    (tmp_path / "no.png").write_bytes(b"<svg>")
    assert [picture.data for picture in find({"work": tmp_path}, tmp_path, "id", 0, tmp_path / "x").pictures] == [PNG]


def test_a_directory_is_removed_whatever_modes_a_program_left(tmp_path: Path):
    run = tmp_path / "run"
    (run / "a" / "b").mkdir(parents=True)
    (run / "a" / "b" / "x").touch()
    (run / "a" / "b").chmod(0)
    (run / "a").chmod(0o500)
    remove(run)
    assert not run.exists()


def test_all_but_what_is_listed_is_pruned(tmp_path: Path):
    run = tmp_path / "run"
    (run / "work" / "a" / "b").mkdir(parents=True)
    (run / "work" / "c" / "d").mkdir(parents=True)
    (run / "tmp").mkdir()
    for name in ("work/main.py", "work/a/mine", "work/a/b/other", "work/c/d/x", "tmp/x", "work/kept"):
        (run / name).touch()
    (run / "work" / "link").symlink_to(tmp_path)
    (run / "work" / "a").chmod(0o500)
    prune(run, {"work/a/mine", "work/kept"})
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*")) == [
        *("work", "work/a", "work/a/mine", "work/kept"),
    ]
    assert tmp_path.exists()


def test_a_tree_deeper_than_any_path_is_removed_and_found_too_deep(tmp_path: Path):
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
    assert usage([run], Limits()).exceeds(Limits()) == "depth"
    remove(run)
    assert not run.exists()
