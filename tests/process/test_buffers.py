"""How many pipes and sockets a run holds."""

import os
import signal
import subprocess
import sys

import psutil

from mcp_python_executor.process.buffers import held

_MANY = 20
# Each takes the kernel some time to end, and holds no pipe but the two that all have in common.
_PROGRAM = f"""
import os, signal
for _ in range({_MANY}):
    if os.fork() == 0:
        devices = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
        memory = b"x" * (20 << 20)
        os.write(1, b"x")
        signal.pause()
signal.pause()
"""


def most_held_while_many_end() -> int:
    """The most that is told of processes with two pipes, from before they are killed until all have ended."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            begun = 0
            while begun < _MANY:
                begun += len(parent.stdout.read(_MANY))
            children = psutil.Process(parent.pid).children()
            pids = [child.pid for child in children]
            most = held(pids, 0)
            for child in children:
                child.kill()
            while any(child.status() != psutil.STATUS_ZOMBIE for child in children):
                most = max(most, held(pids, 0))
            return most
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_processes_that_end_hold_no_more_than_before():
    # Once the memory of one is gone, the kernel tells root alone what it has open.
    assert [most_held_while_many_end() for _ in range(3)] == [2] * 3
