"""Which bound a program was refused by, as its own failure tells: hostile input, which no status depends on."""

import errno
import re

from mcp_python_executor.execution.report import ReportedError

# What the kernel answers at an rlimit (see getrlimit(2)), at the end of a tmpfs and of memory.
_BOUNDS = {
    errno.EMFILE: "open_files",
    errno.EFBIG: "file_size",
    errno.ENOSPC: "temporary",
    errno.ENOMEM: "memory",
}
# Of all that may be tried again, only a process that could not be started is about a bound.
_STARTS_A_PROCESS = re.compile("fork|spawn")


def bound(error: ReportedError | None, signal: str) -> str:
    """The name of the bound, or nothing; for a program that `error` or `signal` ended.

    `temporary` is for any file system that is full.
    """
    if error is None:
        return "file_size" if signal == "SIGXFSZ" else ""
    if error.errno == errno.EAGAIN and _STARTS_A_PROCESS.search(error.whole):
        return "processes"
    if error.type == "RuntimeError" and error.message.startswith("can't start new thread"):
        return "processes"
    if error.type.endswith("MemoryError"):  # numpy has one of its own
        return "memory"
    return _BOUNDS.get(error.errno or 0, "")
