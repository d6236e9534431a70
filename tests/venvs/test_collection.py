import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_python_executor.venvs.collection import collect
from mcp_python_executor.venvs.files import seal
from mcp_python_executor.venvs.records import (
    GenerationRecord,
    VenvRecord,
    now,
    write_generation,
    write_packages,
    write_python,
)
from mcp_python_executor.venvs.store import Store
from tests.venvs.conftest import make_generation


def test_what_a_venv_is_linked_to_may_return_to_or_uses_is_kept_and_the_rest_goes(store: Store):
    for name in ("now", "before", "used", "old"):
        make_generation(store, name)
    store.switch("lab", "now")
    store.write_venv_record("lab", VenvRecord("", now(), ("before",)))
    lease = store.try_lease("used")
    assert lease
    collect(store)
    assert sorted(path.name for path in store.generations.iterdir()) == ["before", "now", "used"]
    lease.release()
    collect(store)
    assert sorted(path.name for path in store.generations.iterdir()) == ["before", "now"]
    assert [path.name for path in store.leases.iterdir()] == []


def test_an_ordinary_user_can_collect_what_is_sealed(store: Store):
    make_generation(store, "old")
    seal(store.path("old"))
    code = (
        "import pathlib, sys\n"
        "from mcp_python_executor.venvs.collection import collect\n"
        "from mcp_python_executor.venvs.store import Store\n"
        "collect(Store(pathlib.Path(sys.argv[1])))\n"
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
    collect(store)
    assert list(store.venvs.iterdir()) == []
    assert list(store.locks.iterdir()) == []


def test_a_workshop_in_use_is_left_alone_and_one_left_behind_goes(store: Store):
    left_behind = store.root / "tmp" / "left-behind"
    left_behind.mkdir()
    with store.workshop() as workshop:
        collect(Store(store.base))
        assert workshop.exists()
        assert not left_behind.exists()
    assert not workshop.exists()


def test_a_blueprint_stays_as_long_as_its_generation_is_named_though_that_is_gone(store: Store):
    for name in ("now", "old"):
        make_generation(store, name)
        store.path(name).rename(store.blueprints / name)
    store.switch("lab", "now")
    collect(store)
    assert [path.name for path in store.blueprints.iterdir()] == ["now"]


def _python(store: Store, key: str, *, whole: bool) -> Path:
    python = store.pythons / key / "cpython" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")
    if whole:
        write_python(store.pythons / key, python, "3.12.1", store.tmp)
    return python


def test_an_interpreter_stays_while_something_was_made_from_it_or_somebody_holds_it(store: Store):
    used, held = _python(store, "used", whole=True), _python(store, "held", whole=True)
    _python(store, "unused", whole=True)
    _python(store, "half", whole=False)
    made = store.path("made")
    made.mkdir()
    write_packages(made, [])
    write_generation(
        made, GenerationRecord("made", "3.12.1", str(used.parent.parent), str(used), "cpython", 0), store.tmp
    )
    store.switch("lab", "made")
    lease = store.try_lease("held")
    assert lease
    collect(store)
    assert sorted(path.name for path in store.pythons.iterdir()) == ["held", "used"]
    lease.release()
    store.remove("lab")
    collect(store)
    assert not held.exists()
    assert list(store.pythons.iterdir()) == []
    assert list(store.leases.iterdir()) == []


def test_what_a_killed_uv_had_half_way_goes_unless_another_one_is_at_work(store: Store):
    half = store.cache / ".tmpAbCdEf"
    half.mkdir()
    (half / "part.whl").touch()
    (store.cache / ".tmpfile").touch()
    whole = store.cache / "archive-v0"
    whole.mkdir()
    with (store.cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        collect(store)
        assert half.exists()
    collect(store)
    assert not list(store.cache.glob(".tmp*"))
    assert whole.exists()


def test_what_was_on_its_way_out_goes_though_the_same_was_made_again_since(store: Store):
    make_generation(store, "again")
    store.switch("lab", "again")
    (store.trash / "again").mkdir()
    collect(store)
    assert list(store.trash.iterdir()) == []
    assert store.path("again").exists()


def test_what_can_not_be_removed_keeps_nothing_else_and_no_lock(store: Store):
    for name in ("a", "b", "c"):
        (store.venvs / f"{name}.json").touch()
    (store.venvs / "b.json").unlink()
    (store.venvs / "b.json").mkdir()
    make_generation(store, "old")
    with pytest.raises(IsADirectoryError):
        collect(store)
    assert [path.name for path in store.venvs.iterdir()] == ["b.json"]
    assert list(store.generations.iterdir()) == []
    assert not store.is_busy("b")
