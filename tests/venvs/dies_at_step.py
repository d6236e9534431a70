"""A server that does one operation and is killed at its n-th step: before a file below the base path is made, renamed
or removed, or a process started. With a step of -1 it lives. Prints `begin`, then how many steps there were.

Arguments: base path, operation, step, the bubblewrap to use or nothing, the version of Python to download, and whether
to `kill` the server or to `cancel` the operation, after which the server goes on.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.from_thread

from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import store
from mcp_python_executor.venvs.model import VenvStatus
from mcp_python_executor.venvs.operations import Venvs, open_venvs

_EVENTS = frozenset(
    ["open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "subprocess.Popen"]
)
_BASE, _OPERATION, _STEP, _WALLS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
_IS_CANCELLED = sys.argv[6] == "cancel"


class _Steps:
    """Counts what changes the base path, and ends us at the chosen one."""

    count = 0
    counting = False
    cancel: Callable[[], None] = staticmethod(lambda: None)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.counting or event not in _EVENTS or not self._changes(event, arguments):
            return
        if self.count == _STEP:
            self._end()
        self.count += 1

    def _end(self) -> None:
        if not _IS_CANCELLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if threading.current_thread() is threading.main_thread():
            self.cancel()
        else:
            anyio.from_thread.run_sync(self.cancel)

    def _changes(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_WRONLY)):
            return False
        return event == "subprocess.Popen" or any(_BASE in str(part) for part in arguments)


def _confine(policy: Policy, command: Sequence[str]) -> list[str]:
    return bubblewrap.command(Path(_WALLS), policy, command) if _WALLS else list(command)


async def _operate(venvs: Venvs) -> None:
    operations = {
        "create": lambda: venvs.create("made", description="new"),
        "install": lambda: venvs.install("lab", "iniconfig"),
        "install_new": lambda: venvs.install("made", "iniconfig"),
        "uninstall": lambda: venvs.uninstall("lab", "six"),
        "delete": lambda: venvs.delete("lab"),
        "describe": lambda: venvs.describe("lab", "changed"),
        "rollback": lambda: venvs.rollback("lab"),
        "repair": lambda: venvs.repair("lab"),
        "adopt_in_two_steps": lambda: venvs.install("lab", "iniconfig"),
        "download": lambda: venvs.create("made", python_version=sys.argv[5]),
    }
    await operations[_OPERATION]()
    await venvs.tidy()


def _refuse_to_exchange(_one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(other))


async def _main(steps: _Steps) -> None:
    if _OPERATION == "adopt_in_two_steps":  # as network file systems have it
        store.exchange = _refuse_to_exchange
    async with open_venvs(Path(_BASE), default_name="default", timeout_seconds=100, confine=_confine) as venvs:
        sys.stdout.write("begin\n")
        sys.stdout.flush()
        steps.counting = True
        with anyio.CancelScope() as scope:
            steps.cancel = scope.cancel
            await _operate(venvs)
        steps.counting = False
        if scope.cancelled_caught:  # nothing is held any more: the same server goes on
            assert not any(venv.status is VenvStatus.BUSY for venv in await venvs.list())
            await venvs.tidy()


if __name__ == "__main__":
    counter = _Steps()
    sys.addaudithook(counter.audit)
    anyio.run(_main, counter)
    sys.stdout.write(str(counter.count))
