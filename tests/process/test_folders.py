import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from mcp_python_executor.process import folders
from mcp_python_executor.process.folders import prune, remove

# Has a folder and a link change places, over and over, for a second.
SWAPS = """
import ctypes, os, sys, time
from contextlib import suppress

os.chdir(sys.argv[1])
libc, end = ctypes.CDLL(None), time.monotonic() + 1
swaps = 0
while time.monotonic() < end:
    with suppress(OSError):
        os.mkdir("run/one")
    with suppress(OSError):
        os.symlink("../outside", "run/other")
    for _ in range(20):
        swaps += libc.renameat2(-100, b"run/one", -100, b"run/other", 2) == 0  # RENAME_EXCHANGE
print(swaps)
"""


def test_no_mode_is_changed_through_a_link_that_was_a_folder(tmp_path: Path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir(mode=0o755)
    with subprocess.Popen([sys.executable, "-c", SWAPS, str(tmp_path)], stdout=subprocess.PIPE) as swapping:
        while swapping.poll() is None:
            run.mkdir(exist_ok=True)
            with suppress(OSError):
                remove(run)
        said, _ = swapping.communicate()
    assert int(said) > 100
    assert outside.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("remove_all", [remove, partial(prune, kept=())])
def test_a_folder_that_is_filled_all_the_while_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove_all: Callable[[Path], None]
):
    numbers = iter(range(1000))
    unlink = os.unlink

    def unlink_and_fill(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        for number in islice(numbers, 1):
            (tmp_path / "run" / str(number)).touch()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    with monkeypatch.context() as patched:
        patched.setattr(folders, "_MOST_ROUNDS", 20, raising=False)
        patched.setattr(os, "unlink", unlink_and_fill)
        with pytest.raises(OSError, match="filled"):
            remove_all(tmp_path / "run")
    assert len(list(numbers)) > 900
