"""A small file system of its own, in namespaces of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).parent / "fills_the_disk.py"
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def _on_a_disk_of(size: str, mountpoint: Path, *command: str) -> subprocess.CompletedProcess[str]:
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, "sh", size, str(mountpoint)]
    return subprocess.run([*own, *command], capture_output=True, text=True, timeout=120, check=False)


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path):
    if _on_a_disk_of("1m", tmp_path, "true").returncode:
        pytest.skip("needs user namespaces that may mount a tmpfs")
    done = _on_a_disk_of("30m", tmp_path, sys.executable, str(_PROGRAM), str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for operation in ("large", "install", "describe", "create", "uninstall"):
        assert "the disk is full; free some space" in told[operation]
        assert "nothing was changed" in told[operation]
    assert told["packages"] == ["six"]
    assert told["names"] == ["lab"]
    assert told["leased"]
