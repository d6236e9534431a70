import re
import subprocess
import sys
from pathlib import Path

import pytest

import mcp_python_executor

PROGRAM = """
import re, sys
sys.path.insert(0, {parent!r})
from inside import pages
heap = bytearray(b"heap") * (4 << 20)
def huge():
    with open("/proc/self/smaps_rollup") as told:
        return int(re.search(r"AnonHugePages: +(\\d+)", told.read())[1])
before = huge()
pages.gather()
print(huge() - before, heap == b"heap" * (4 << 20))
"""


def test_what_is_gathered_lies_in_huge_pages_and_is_the_same():
    version = re.match(r"(\d+)\.(\d+)", Path("/proc/sys/kernel/osrelease").read_text())
    if not version or tuple(map(int, version.groups())) < (6, 1):
        pytest.skip("the kernel gathers nothing: MADV_COLLAPSE is of Linux 6.1")
    program = PROGRAM.format(parent=str(Path(mcp_python_executor.__file__).parent))
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    kibibytes, same = done.stdout.split()
    assert int(kibibytes) >= 8 * 1024
    assert same == "True"
