"""What a build is put behind, by the launcher that becomes its command."""

import json
import resource
import subprocess
import sys

from mcp_python_executor.sandbox.probe import bootstrap


def test_a_user_who_may_open_few_files_opens_no_more_in_a_build():
    config = {"walls": list[str](), "limits": {"file_bytes": 1 << 30, "open_files": 4096, "processes": 0}}
    told = subprocess.run(
        [sys.executable, *bootstrap("build"), json.dumps(config), "/bin/sh", "-c", "ulimit -n"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("256\n", "")
