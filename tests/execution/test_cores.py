"""A machine that pipes cores to a program of root's: it is not started for what crashes behind walls."""

import os
import platform
import sys
from pathlib import Path

import pytest

from tests import virtual_machine

_MACHINE_SECONDS = 600
# The kernel starts it as root, and waits for it when the crashed process ends.
_PIPES_CORES = """
printf '#!/bin/sh\\ncat > /dev/null\\necho "handled $1" >> /tmp/handled\\n' > /handler
chmod 755 /handler
echo 4 > /proc/sys/kernel/core_pipe_limit
echo '|/handler %c' > /proc/sys/kernel/core_pattern
"""
_CRASHES = """
import os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for process in (os.fork(), 0):
    if process == 0: os.kill(os.getpid(), signal.SIGSEGV)
    print("crashed", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


def test_no_program_is_given_the_memory_of_one_that_crashed_in_a_virtual_machine(tmp_path: Path):
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine")
    if lacking := virtual_machine.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {lacking}")
    behind_walls = Path(sys.executable).with_name("mcp-python-executor")
    # The first crash shows that the handler is started for others.
    script = f'{sys.executable} -c "$1"; {behind_walls} run -c "$1"; echo "ended $?"; cat /tmp/handled'
    reads = [Path(sys.prefix), Path(sys.base_prefix)]
    _, printed = virtual_machine.run(
        ["sh", "-c", script, "sh", _CRASHES], tmp_path, reads=reads, seconds=_MACHINE_SECONDS, setup=_PIPES_CORES
    )
    assert printed.count("crashed -11\n") == 2, printed
    assert "ended 139\n" in printed, printed
    # Of a process and its child.
    assert printed.count("handled 0\n") == 2, printed
    assert printed.count("handled ") == 2, printed
