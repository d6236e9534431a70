import os
import subprocess
import sys

from mcp_python_executor.venvs.collection import collect
from mcp_python_executor.venvs.files import seal
from mcp_python_executor.venvs.records import VenvRecord, now
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
