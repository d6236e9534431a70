import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.venvs.locks import is_locked, lock_directory, locked, try_lock


def test_one_holds_it_alone_or_several_share_it(tmp_path: Path):
    path = tmp_path / "lock"
    alone = try_lock(path)
    assert alone
    assert try_lock(path) is None
    assert try_lock(path, shared=True) is None
    alone.release()
    shared = [try_lock(path, shared=True), try_lock(path, shared=True)]
    assert try_lock(path) is None
    for lock in shared:
        assert lock
        lock.release()


@pytest.mark.anyio
async def test_who_waits_goes_on_when_it_is_released(tmp_path: Path):
    path, order = tmp_path / "lock", list[str]()

    async def wait() -> None:
        async with locked(path):
            order.append("second")

    async with anyio.create_task_group() as tasks, locked(path):
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        order.append("first")
    assert order == ["first", "second"]


def test_a_lock_whose_file_was_removed_locks_nothing(tmp_path: Path):
    path = tmp_path / "lock"
    old = try_lock(path)
    assert old
    path.unlink()
    new = try_lock(path)
    assert new
    assert try_lock(path) is None
    old.release()
    new.release()


@pytest.mark.anyio
async def test_asking_whether_it_is_locked_makes_no_file(tmp_path: Path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    async with locked(path):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from mcp_python_executor.venvs.locks import try_lock\n"
        "lock = try_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert try_lock(path) is None
        holder.kill()
        holder.wait()
    lock = try_lock(path)
    assert lock
    lock.release()


def test_a_child_that_was_given_the_lock_keeps_it_after_us(tmp_path: Path):
    path = tmp_path / "lock"
    lock = try_lock(path)
    assert lock
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,)) as child:
        lock.release()
        assert is_locked(path)
        child.kill()
        child.wait()
    assert not is_locked(path)


def test_a_directory_is_locked_once_and_never_when_it_is_gone(tmp_path: Path):
    path = tmp_path / "workshop"
    path.mkdir()
    lock = lock_directory(path)
    assert lock
    assert lock_directory(path) is None
    lock.release()
    path.rmdir()
    assert lock_directory(path) is None
