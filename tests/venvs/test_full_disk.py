"""A disk that is full, or becomes read-only: a small file system of its own, in namespaces of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = Path(__file__).parent
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def _on_a_disk_of(size: str, mountpoint: Path, *command: str) -> subprocess.CompletedProcess[str]:
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, "sh", size, str(mountpoint)]
    return subprocess.run([*own, *command], capture_output=True, text=True, timeout=120, check=False)


def _told(mountpoint: Path, program: str, size: str) -> dict[str, Any]:
    """What the server `program` prints that works on such a disk."""
    if _on_a_disk_of("1m", mountpoint, "true").returncode:
        why = "needs user namespaces that may mount a tmpfs"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    done = _on_a_disk_of(size, mountpoint, sys.executable, str(_PROGRAMS / program), str(mountpoint))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # after what was logged


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path):
    told = _told(tmp_path, "fills_the_disk.py", "30m")
    for operation in ("large", "install", "describe", "create", "uninstall"):
        assert "the disk is full; free some space" in told[operation]
        assert "nothing was changed" in told[operation]
    assert told["packages"] == ["six"]
    assert told["names"] == ["lab"]
    assert told["leased"]


def test_a_disk_that_becomes_read_only_is_told_changes_nothing_and_is_used_again_later(tmp_path: Path):
    told = _told(tmp_path, "loses_its_disk.py", "60m")
    for operation in ("install", "uninstall", "describe", "create", "rollback", "delete"):
        assert "read-only file system" in told[operation].lower(), operation
        assert "nothing was changed" in told[operation]
    assert (told["packages"], told["described"], told["names"]) == (["iniconfig", "six"], "", ["lab"])
    assert told["after"] == ["iniconfig", "packaging", "six"]
