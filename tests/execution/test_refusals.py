import errno

import pytest

from mcp_python_executor.execution.refusals import bound
from mcp_python_executor.execution.report import ReportedError


def error(kind: str = "OSError", number: int | None = None, message: str = "m", whole: str = "t") -> ReportedError:
    return ReportedError(type=kind, message=message, traceback="t", whole=whole, errno=number)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (error(number=errno.EMFILE), "open_files"),
        (error(number=errno.EFBIG), "file_size"),
        (error(number=errno.ENOSPC), "temporary"),
        (error(number=errno.ENOMEM), "memory"),
        (error("MemoryError"), "memory"),
        (error("_ArrayMemoryError", message="Unable to allocate 74.5 GiB"), "memory"),
        (error("RuntimeError", message="can't start new thread"), "processes"),
        (error("BlockingIOError", errno.EAGAIN, whole="    pid = os.fork()\n"), "processes"),
        (error("BlockingIOError", errno.EAGAIN, whole="in _execute_child\n    _fork_exec(\n"), "processes"),
        (error("BlockingIOError", errno.EAGAIN, whole="    os.posix_spawn('/bin/true', [], {})\n"), "processes"),
        (error("BlockingIOError", errno.EAGAIN, whole="    os.read(fd, 1)\n"), ""),
        (error("RuntimeError", message="no"), ""),
        (error("PermissionError", errno.EACCES), ""),
        (error("ValueError"), ""),
    ],
)
def test_an_error_tells_the_bound_that_it_comes_from(told: ReportedError, name: str):
    assert bound(told, "") == name


def test_a_signal_tells_a_bound_where_there_is_one_of_its_own():
    assert bound(None, "SIGXFSZ") == "file_size"
    assert bound(None, "SIGSEGV") == ""
    assert bound(None, "") == ""
