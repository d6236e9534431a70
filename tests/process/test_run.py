import os
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from mcp_python_executor.process import run

pytestmark = pytest.mark.anyio
_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def _python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


async def test_output_and_exit_status_come_back():
    completed = await run(
        _python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), environment=_ENVIRONMENT
    )
    assert completed.returncode == 3
    assert completed.stdout == b"out\n"
    assert completed.stderr == b"err\n"
    assert not completed.truncated


async def test_a_death_by_signal_is_told_as_its_negative():
    assert (await run(_python("import os; os.abort()"), environment=_ENVIRONMENT)).returncode == -6


async def test_nothing_of_our_environment_reaches_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY", "sings")
    completed = await run(_python("import os; print(dict(os.environ))"), environment={"ONLY": "this"})
    assert b"CANARY" not in completed.stdout
    assert b"ONLY" in completed.stdout


async def test_standard_input_is_empty():
    completed = await run(_python("import sys; print(repr(sys.stdin.read()))"), environment=_ENVIRONMENT)
    assert completed.stdout == b"''\n"


async def test_a_command_that_does_not_exist_is_an_oserror():
    with pytest.raises(FileNotFoundError):
        await run(["/nowhere/to/be/found"], environment=_ENVIRONMENT)


async def test_a_flood_keeps_head_and_tail_only():
    code = "import sys; print('first'); sys.stdout.write('x' * 20_000_000); print('last')"
    completed = await run(_python(code), environment=_ENVIRONMENT, kept_bytes=1000)
    assert len(completed.stdout) == 1000
    assert completed.stdout.startswith(b"first\n")
    assert completed.stdout.endswith(b"last\n")
    assert completed.truncated


async def test_lines_of_standard_error_are_told_as_they_come():
    told: list[str] = []
    code = "import sys; sys.stderr.write('one\\ntwo\\nthr'); sys.stderr.flush(); sys.stderr.write('ee\\n')"
    await run(_python(code), environment=_ENVIRONMENT, on_line=told.append)
    assert told == ["one", "two", "three"]


async def test_a_background_process_that_holds_the_pipes_delays_nothing_and_is_gone(tmp_path: Path):
    pid_file = tmp_path / "pid"
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); print('done')"
    )
    with anyio.fail_after(20):
        completed = await run(_python(code), environment=_ENVIRONMENT)
    assert completed.stdout == b"done\n"
    await _gone(int(pid_file.read_text()))


async def test_a_process_that_left_the_group_and_holds_the_pipes_delays_only_for_a_moment(tmp_path: Path):
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleep, start_new_session=True)\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid)); print('done')"
    )
    try:
        with anyio.fail_after(20):
            completed = await run(_python(code), environment=_ENVIRONMENT)
        assert completed.stdout == b"done\n"
    finally:
        os.kill(int(pid_file.read_text()), 9)
    await _gone(int(pid_file.read_text()))


async def test_cancellation_kills_the_whole_group_though_it_ignores_every_signal(tmp_path: Path):
    pid_file = tmp_path / "pid"
    code = (
        "import os, signal, time\n"
        "for number in range(1, 32):\n"
        "    if number not in (9, 19): signal.signal(number, signal.SIG_IGN)\n"
        "if not os.fork():\n"
        f"    open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"    os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r})\n"
        "time.sleep(600)"
    )

    async def cancel_when_started(scope: anyio.CancelScope) -> None:
        await _there(pid_file)
        scope.cancel()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_started, tasks.cancel_scope)
            await run(_python(code), environment=_ENVIRONMENT)
    await _gone(int(pid_file.read_text()))


async def test_cancellation_at_any_moment_of_the_start_leaves_no_child():
    for hundredth in range(30):
        with anyio.move_on_after(hundredth / 2000):
            await run(["/bin/sleep", "600"], environment=_ENVIRONMENT)


async def _there(path: Path) -> None:
    """Return when the file `path` is there."""
    with anyio.fail_after(10):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110 - another process tells nobody
            await anyio.sleep(0.01)


async def _gone(pid: int) -> None:
    """Return when process `pid` is gone, or but a zombie that waits for its reaper."""
    with anyio.fail_after(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
