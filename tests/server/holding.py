"""A program that shows from outside whether any of its processes lives: the kernel keeps a lock for it till then."""

import fcntl
from pathlib import Path

_CODE = """
import fcntl, os, signal, subprocess, sys
lock = open(os.environ['OUTPUT_PATH'] + '/lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], pass_fds=[lock.fileno()])
print('held', flush=True)
signal.pause()
"""

HOLDING = {"code": _CODE}
"""Arguments of execute_python: prints `held` and then stays, with a child that outlives it, until killed."""


def is_held(output_path: Path) -> bool:
    """Whether a process of the program lives, or of what it started."""
    with open(output_path / "lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
