"""How an attack is run: to its end, with everything it said; and what is seen of its victim from outside."""

import array
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcp_python_executor.execution.model import ExecutionResult
from tests.bench import PROGRAMS, Bench

CANARY = "canary-7f3a"
EVERY_WAY = (PROGRAMS / "tries_every_way.py").read_text()

_DONE = "attack-ran-to-its-end"
# FS_IOC_GETFLAGS, FS_IOC_GETVERSION
_FLAGS, _VERSION = 0x80086601, 0x80087601


async def attack(bench: Bench, code: str, **request: Any) -> str:
    """What attacking code said on any way out. Its exceptions are its own output; it must reach its end."""
    # By name: a traceback shows the source of this program, and is not to be taken for what the attack found.
    program = f"attack = {code!r}\nimport traceback\ntry:\n    exec(attack)\nexcept BaseException:\n"
    return _told(await bench.run(f"{program}    traceback.print_exc()\nprint({_DONE!r})", **request))


async def try_every_way(bench: Bench, thing: str, path: Path | str, **request: Any) -> str:
    """What was told by trying to `read`, `write`, `change` or `ioctl` the file at `path` in every way there is."""
    return _told(await bench.run(EVERY_WAY, args=(thing, str(path)), **request))


def _told(result: ExecutionResult) -> str:
    assert _DONE in result.stdout, result
    return f"{result.stdout}\n{result.stderr}\n{result.error}\n{result.result}"


def state(path: Path) -> dict[str, object]:
    """All that can be seen from outside of `path` and what lies below it: contents, owners, times, attributes."""
    return {str(each): _state(each) for each in [path, *sorted(path.rglob("*"))]}


def _state(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    seen: list[object] = [status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size]
    seen += [status.st_mtime_ns, status.st_ctime_ns]
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return tuple(seen)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for request in (_FLAGS, _VERSION):
            answer = array.array("l", [0])
            with suppress(OSError):  # not every file system has them
                fcntl.ioctl(descriptor, request, answer)
            seen.append(answer.tolist())
    finally:
        os.close(descriptor)
    seen += [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
    return (*seen, path.read_bytes() if path.is_file() else b"")


# Some 230 MB of the kernel's, in nine processes.
HOLD_FILTERS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
allow = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 255, 127]))
program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
for _ in range(9):
    if os.fork() == 0:
        while libc.prctl(22, 2, program, 0, 0) == 0: pass
        time.sleep(60)
"""
