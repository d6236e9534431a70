"""What /proc tells of processes, as numbers and names; nothing where one has ended. See proc(5)."""

import os
import re

# Places in what `stat` gives; PF_EXITING of the kernel's sched.h.
_FLAGS, _THREADS, _MEMORY, _STATUS = 6, 17, 20, 49
_EXITING = 4
_FIELD = re.compile(rb"^(\w+):\s+(\d+)", re.MULTILINE)


def read(path: str) -> bytes:
    """A file below /proc."""
    try:
        with open(f"/proc/{path}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def parsed(text: bytes) -> dict[bytes, int]:
    """The numbers of a file with one field a line, by their names."""
    return {name: int(value) for name, value in _FIELD.findall(text)}


def fields(path: str) -> dict[bytes, int]:
    """The numbers of a file below /proc with one field a line, by their names."""
    return parsed(read(path))


def threads(pid: int) -> list[str]:
    """A process's threads, by their numbers."""
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - hundreds of names, of which no path is needed
    except OSError:
        return []


def stat(pid: int) -> list[bytes]:
    """The fields of proc_pid_stat(5) from the third on: they follow the name, which may hold anything."""
    return read(f"{pid}/stat").rpartition(b")")[2].split()


def is_first(pid: int) -> bool:
    """Whether a process is the first one of a PID namespace: see NSpid in proc_pid_status(5)."""
    numbers = read(f"{pid}/status").partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return numbers[-1:] == [b"1"]


def parting_status(pid: int) -> int | None:
    """The wait status of a process that the kernel takes apart: no code of it runs any more. None of any other.

    Its memory is gone, its other threads too, and its status stands (see the kernel's do_exit); where we may not know
    that, it is 0.
    """
    told = stat(pid)
    if len(told) <= _STATUS or told[_MEMORY] != b"0" or told[_THREADS] != b"1" or not int(told[_FLAGS]) & _EXITING:
        return None
    return int(told[_STATUS])


def children(pid: int, thread: int | str) -> list[int]:
    """The children of one of a process's threads."""
    return list(map(int, read(f"{pid}/task/{thread}/children").split()))
