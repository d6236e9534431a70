import errno
import json
import os
import re
import stat
from pathlib import Path

import pytest

from mcp_python_executor.venvs import store as store_module
from mcp_python_executor.venvs.collection import collect
from mcp_python_executor.venvs.files import exchange, remove_tree, seal
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.records import MARKER, VenvRecord, now
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import make_generation


def test_the_link_decides_what_a_name_means(store: Store):
    store.switch("lab", make_generation(store, "one"))
    store.switch("lab", make_generation(store, "two"))
    generation = store.generation("lab")
    assert generation
    assert generation.id == store.current("lab") == "two"
    assert (store.base / "lab").resolve() == generation.path


def test_a_generation_without_its_marker_is_none(store: Store):
    (store.path("half") / "bin").mkdir(parents=True)
    assert store.record("half") is None
    (store.path("half") / MARKER).write_text('{"id": "ha')
    assert store.record("half") is None


def test_one_whose_marker_is_of_the_first_format_is_understood(store: Store):
    make_generation(store, "one")
    for part in ("packages.json", MARKER):
        (store.path("one") / part).unlink()
    texts = {"id": "one", "python_version": "3.11.7", "base_prefix": "/usr", "base_python": "/bin/sh"}
    written = {**texts, "implementation": "cpython", "format": 1, "packages": [["six", "1.17.0", True]]}
    (store.path("one") / MARKER).write_text(json.dumps(written))
    record = store.record("one")
    assert record
    assert record.package_count == 1
    assert store.packages("one") == (Package("six", "1.17.0", True),)
    assert store.blueprint("one") == store.path("one")


def test_a_generation_that_went_since_it_was_read_is_none(store: Store):
    store.switch("lab", make_generation(store, "one"))
    assert store.generation("lab")
    remove_tree(store.path("one"))
    assert store.generation("lab") is None
    assert store.record("one") is None
    assert "files are gone" in store.problem("lab")


def test_one_whose_base_interpreter_is_gone_says_which_it_was(store: Store):
    store.switch("lab", make_generation(store, "one", python="/nowhere/python3"))
    assert store.generation("lab") is None
    assert "the Python '/nowhere/python3' that it was made from is gone" in store.problem("lab")


def test_one_that_lost_its_link_to_the_interpreter_says_that_files_are_gone(store: Store):
    store.switch("lab", make_generation(store, "one"))
    (store.path("one") / "bin" / "python").unlink()
    assert store.generation("lab") is None
    assert "its files are gone" in store.problem("lab")


def test_the_history_is_bounded_and_names_each_generation_once():
    record = VenvRecord("", now())
    for left in ("a", "b", "a", "c", "d", "e"):
        record = record.leaving(left)
    assert record.past("f") == ("c", "d", "e")


def test_what_is_written_ahead_of_a_switch_means_the_same_as_before_until_it_is_done():
    record = VenvRecord("", now(), ("a", "b", "c"))
    ahead = record.leaving("d")
    assert ahead.past("d") == record.past("d") == ("a", "b", "c")
    assert ahead.past("e") == ("b", "c", "d")
    assert ahead.past("c") == ("a", "b", "d"), "as after a return to c"


def test_a_record_that_cannot_be_understood_is_none(store: Store):
    for content in ("", "{", "[]", '{"description": 1}', '{"created_at": "then", "description": "", "history": []}'):
        (store.venvs / "lab.json").write_text(content)
        assert store.venv_record("lab") is None


def test_removal_of_a_tree_follows_no_link_and_minds_no_missing_right(tmp_path: Path):
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir(mode=0o755)
    (outside / "precious").touch()
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").touch()
    (tree / "link").symlink_to(outside)
    seal(tree)
    remove_tree(tree)
    assert not tree.exists()
    (tmp_path / "direct").symlink_to(outside)
    remove_tree(tmp_path / "direct")
    assert not os.path.lexists(tmp_path / "direct")
    assert (outside / "precious").exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_a_link_takes_a_folders_place_in_one_step(tmp_path: Path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to("elsewhere")
    exchange(link, folder)
    assert folder.is_symlink()
    assert link.is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(link, tmp_path / "nothing")


def _folder(store: Store, name: str) -> Path:
    (store.base / name / "bin").mkdir(parents=True)
    (store.base / name / "pyvenv.cfg").touch()
    (store.base / name / "bin" / "python").symlink_to("/bin/sh")
    return store.base / name


def test_a_link_takes_a_folders_place_where_the_two_can_not_be_exchanged(store: Store, monkeypatch: pytest.MonkeyPatch):
    def refuse(_one: Path, _other: Path) -> None:
        raise OSError(errno.EINVAL, "as network file systems do")

    monkeypatch.setattr(store_module, "exchange", refuse)
    _folder(store, "lab")
    store.replace_folder("lab", make_generation(store, "new"))
    assert store.current("lab") == "new"
    assert len(list(store.trash.iterdir())) == 1
    assert list(store.moves.iterdir()) == []


@pytest.mark.parametrize("is_moved", [False, True])
def test_who_is_killed_between_the_two_steps_leaves_an_environment_under_its_name(store: Store, is_moved: bool):
    folder = _folder(store, "lab")
    (store.moves / "lab").symlink_to(f".store/generations/{make_generation(store, 'new')}")
    if is_moved:
        folder.rename(store.trash / "plain-1")
    assert store.exists("lab")
    assert store.current("lab") == ("new" if is_moved else None)
    collect(store)
    assert store.names() == ["lab"]
    assert store.current("lab") == ("new" if is_moved else None)
    assert store.path("new").exists() is is_moved
    assert [*store.moves.iterdir(), *store.trash.iterdir()] == []


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.ENOLCK, "grants no locks; set VENVS_BASE_PATH to a place on another one"),
        (errno.EACCES, "permission denied in '.*'; check who may write there"),
    ],
)
def test_what_a_file_system_refuses_is_told_with_the_way_out(store: Store, number: int, way_out: str):
    assert re.search(way_out, store.refusal(OSError(number, os.strerror(number))))
