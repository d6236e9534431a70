"""What a worker does before its walls stand."""

import subprocess
import sys

import pytest

from mcp_python_executor.sandbox.probe import INSIDE

# Each descriptor leads to a pipe of its own, in which its place is written by whoever has it afterwards.
_PLACES = f"""
import os, socket, sys
sys.path[0] = {str(INSIDE.parent)!r}
from inside import worker
first, told = int(sys.argv[1]), os.dup(1)
reading = []
for place in range(3):
    read, write = os.pipe()
    reading.append(read)
    os.dup2(write, first + place)
ours, theirs = socket.socketpair()
os.dup2(theirs.fileno(), first + 3)
if os.fork() == 0:
    channel = worker._take_descriptors(list(range(first, first + 4)))
    for place in range(3):
        os.write(place, b"%d" % place)
    channel.send(b"3")
    os._exit(0)
os.wait()
os.write(told, b"".join(os.read(read, 9) for read in reading) + ours.recv(9))
"""


@pytest.mark.parametrize("first", [50, 97, 98, 99, 100, 101])
def test_each_descriptor_takes_its_place_whatever_its_number(first: int):
    command = [sys.executable, "-c", _PLACES, str(first)]
    assert subprocess.run(command, check=True, capture_output=True, timeout=20).stdout == b"0123"
