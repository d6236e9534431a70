import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_python_executor.venvs.files import exchange, remove_tree, seal
from mcp_python_executor.venvs.model import Package
from mcp_python_executor.venvs.records import GenerationRecord, VenvRecord, now, write_generation
from mcp_python_executor.venvs.store import MARKER, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "venvs")


def _generation(store: Store, name: str) -> str:
    """A finished generation with nothing in it but an interpreter of sorts."""
    path = store.path(name)
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to("/bin/sh")
    record = GenerationRecord(name, "3.11.7", "/usr", "/usr/bin/python3", "cpython", (Package("six", "1.17.0", True),))
    write_generation(path / MARKER, record, path)
    return name


def test_the_link_decides_what_a_name_means(store: Store):
    store.switch("lab", _generation(store, "one"))
    store.switch("lab", _generation(store, "two"))
    generation = store.generation("lab")
    assert generation
    assert generation.id == store.current("lab") == "two"
    assert (store.base / "lab").resolve() == generation.path


def test_a_generation_without_its_marker_is_none(store: Store):
    (store.path("half") / "bin").mkdir(parents=True)
    assert store.record("half") is None
    (store.path("half") / MARKER).write_text('{"id": "ha')
    assert store.record("half") is None


def test_a_generation_that_went_since_it_was_read_is_none(store: Store):
    store.switch("lab", _generation(store, "one"))
    assert store.generation("lab")
    remove_tree(store.path("one"))
    assert store.generation("lab") is None
    assert store.record("one") is None
    assert "files are gone" in store.problem("lab")


def test_one_whose_base_interpreter_is_gone_says_which_it_was(store: Store):
    store.switch("lab", _generation(store, "one"))
    (store.path("one") / "bin" / "python").unlink()
    (store.path("one") / "bin" / "python").symlink_to("/nowhere/python")
    assert store.generation("lab") is None
    assert "'/usr/bin/python3'" in store.problem("lab")


def test_what_a_venv_is_linked_to_may_return_to_or_uses_is_kept_and_the_rest_goes(store: Store):
    for name in ("now", "before", "used", "old"):
        _generation(store, name)
    store.switch("lab", "now")
    store.write_venv_record("lab", VenvRecord("", now(), ("before",)))
    lease = store.try_lease("used")
    assert lease
    store.collect()
    assert sorted(path.name for path in store.generations.iterdir()) == ["before", "now", "used"]
    lease.release()
    store.collect()
    assert sorted(path.name for path in store.generations.iterdir()) == ["before", "now"]
    assert [path.name for path in store.leases.iterdir()] == []


def test_an_ordinary_user_can_collect_what_is_sealed(store: Store):
    _generation(store, "old")
    seal(store.path("old"))
    code = (
        "import pathlib, sys\n"
        "from mcp_python_executor.venvs.store import Store\n"
        "Store(pathlib.Path(sys.argv[1])).collect()\n"
    )
    # Root without the capability to pass over mode bits is as an ordinary user here.
    ordinary = [] if os.geteuid() else ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    subprocess.run([*ordinary, sys.executable, "-c", code, str(store.base)], check=True)
    assert list(store.generations.iterdir()) == []
    assert list((store.root / "trash").iterdir()) == []


def test_what_is_left_of_a_venv_that_is_gone_goes(store: Store):
    store.write_venv_record("gone", VenvRecord("from then", now()))
    store.touch("gone")
    (store.locks / "never-made").touch()
    store.collect()
    assert list(store.venvs.iterdir()) == []
    assert list(store.locks.iterdir()) == []


def test_a_workshop_in_use_is_left_alone_and_one_left_behind_goes(store: Store):
    left_behind = store.root / "tmp" / "left-behind"
    left_behind.mkdir()
    with store.workshop() as workshop:
        Store(store.base).collect()
        assert workshop.exists()
        assert not left_behind.exists()
    assert not workshop.exists()


def test_the_history_is_bounded_and_names_each_generation_once():
    record = VenvRecord("", now())
    for left in ("a", "b", "a", "c", "d", "e"):
        record = record.leaving(left)
    assert record.history == ("c", "d", "e")


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
