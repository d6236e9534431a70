"""What a tree of processes uses, without those that are looked at by themselves."""

import os
import subprocess
import sys

import pytest

from mcp_python_executor.limits import Limits
from mcp_python_executor.process.usage import Tree

# A process with one below it, and that with one more; each line tells one.
_NEST = """
import os, sys, time
for _ in range(2):
    if os.fork(): break
print(os.getpid(), flush=True)
time.sleep(60)
"""

# Works, waits for a line, and works again.
_BURN = """
import sys, time
for _ in range(2):
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
    print(flush=True)
    sys.stdin.readline()
"""


def test_what_the_first_process_used_before_does_not_count():
    command = [sys.executable, "-c", _BURN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        tree = Tree([process.pid], Limits())
        before = tree.activity()[1], tree.kernel_ticks
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        after, _ = tree.activity()[1], process.kill()
    assert before == (0, 0)
    assert after > 0.1


@pytest.mark.parametrize("seen", ["before it was apart", "never before"])
def test_what_is_below_a_process_apart_does_not_count(seen: str):
    with subprocess.Popen([sys.executable, "-c", _NEST], stdout=subprocess.PIPE, start_new_session=True) as nest:
        try:
            assert nest.stdout
            for _ in range(3):
                nest.stdout.readline()
            tree = Tree([os.getpid()], Limits())
            own = Tree([os.getpid()], Limits()).all_use({nest.pid}).tasks
            if seen == "before it was apart":
                assert tree.activity()[0] == own + 3
            assert [tree.all_use({nest.pid}).tasks for _ in range(2)] == [own, own]
        finally:
            os.killpg(nest.pid, 9)
