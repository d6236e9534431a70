"""In the fork: walls up, then one request, the user's program as a person would run it, and its report.

The channel is a Unix stream socket; each message on it is four bytes of length (network order) and that much JSON.
The worker sends `ready` when its walls stand, reads a request and sends one report. User code can reach the channel:
whoever reads it must take it for hostile input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import itertools
import json
import os
import resource
import signal
import socket
import struct
import sys

from . import afresh, display, failure, imports, landlock, namespaces, program, seccomp, tasks

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
"""What every program may open to write to."""

TEMPORARY = ["/tmp", "/var/tmp", "/dev/shm"]
"""Where programs have temporary files, each its own."""

# Listed, though not all that lies in it is read.
_OWN_PROC = "/proc/self/"
_MACHINE_IN_PROC = [
    f"/proc/{name}"
    for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version", "vmstat")
]
_PROGRAM = "main.py"
# Where the descriptor of its mount namespace is, until it has entered that.
_MOUNTS = 4
# Exit status of a worker that could not put up its walls, after EX_SOFTWARE of sysexits.h.
_NO_WALLS = 70
_MOST_MODULES = 200
# Queued signals and timers, which the kernel counts for all of a user: see RLIMIT_SIGPENDING in getrlimit(2).
_MOST_PENDING_SIGNALS = 1024
# Below what any core takes, so that none is written; and where the machine hands cores to a program of root's, 1 alone
# keeps the kernel from starting that (see do_coredump in its fs/coredump.c).
_NO_CORES = 1


def main(order: dict[str, Any], config: dict[str, Any], descriptors: list[int]) -> None:
    """The worker's whole life: never returns.

    `descriptors` are its standard streams, its channel, and the mount namespace it is to enter where there is one.
    """
    code = _NO_WALLS
    try:
        channel = _take_descriptors(descriptors)
        try:
            _put_up_walls(order, config)
        except Exception as error:  # noqa: BLE001 - whatever it is, no program runs
            _send(channel, {"failed": str(error) if isinstance(error, OSError) else repr(error)})
            return
        if config["packages_in_worker"]:
            _import_packages(config["preload"])
        afresh.take()
        shown = display.Shown(order["work"])
        program.rehearse(os.path.join(order["work"], _PROGRAM), shown)
        # A program that is stopped tells where it was, in place of its report: at once, and then what Python knows.
        tasks.tell_on(config["stack_signal"], channel.fileno())
        faulthandler.register(config["stack_signal"], file=channel.fileno(), all_threads=False, chain=True)
        _send(channel, {"ready": True})
        request = _receive(channel)
        if request is not None:
            code = _run(request, order, shown, _Reporter(channel))
    finally:
        os._exit(code)


def _take_descriptors(descriptors: list[int]) -> socket.socket:
    """The standard streams take their places, the channel and the rest the next ones, and nothing else stays open."""
    os.setsid()
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, len(descriptors)) for descriptor in descriptors]
    for place, descriptor in enumerate(high):
        os.dup2(descriptor, place, inheritable=place < 3)
    os.closerange(len(descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return socket.socket(fileno=3)


def _put_up_walls(order: dict[str, Any], config: dict[str, Any]) -> None:
    """Every wall between this run and the rest, in the only order that works: mounts, limits, Landlock, seccomp."""
    walls, limits = config["walls"], config["limits"]
    own = "namespaces" in walls
    if walls:
        die_first()
    if own:
        namespaces.join_mounts(_MOUNTS)
        os.close(_MOUNTS)
        namespaces.own_user()
        namespaces.drop_capabilities()
    os.environ.update(order["environment"])
    for name in ("HOME", "TMPDIR"):
        os.makedirs(os.environ[name], exist_ok=True)
    os.chdir(order["directory"])
    lower_limits(limits)
    limit(resource.RLIMIT_DATA, limits["data_bytes"])
    if not walls:
        return
    if len(os.listdir("/proc/self/task")) != 1:
        raise OSError("a thread survived the fork; Landlock would not bind it")
    namespaces.no_new_privileges()
    if "landlock" in walls:
        read = config["read"] + (["/proc"] if own else _own_part_of_proc())
        write = order["write"] + (TEMPORARY if own else [os.environ["HOME"], os.environ["TMPDIR"]])
        landlock.restrict(read, write, DEVICES, network=config["network"], look=[*config["look"], _OWN_PROC])
    if "seccomp" in walls:
        seccomp.install(config["filter"])


def _own_part_of_proc() -> list[str]:
    """Of a /proc that shows other processes too: what tells of the machine, and of the calling process.

    What tells of its network is left out, in the entries of its threads too: it is everybody's. So are links: the one
    to its root would open that. Processes and threads that it starts do not see their own part.
    """
    own = os.path.realpath("/proc/self")
    entries = [*os.scandir(own), *os.scandir(f"{own}/task/{os.getpid()}")]
    return [
        *_MACHINE_IN_PROC,
        *(entry.path for entry in entries if entry.name not in ("net", "task") and not entry.is_symlink()),
    ]


def _import_packages(modules: list[str]) -> None:
    complaints = imports.silence()
    with contextlib.suppress(ImportError):  # the program meets it again
        imports.import_ahead(modules)
    os.dup2(complaints, 2)
    os.close(complaints)


def die_first() -> None:
    """Makes this process the kernel's first victim when memory runs out: see proc_pid_oom_score_adj(5)."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def lower_limits(limits: dict[str, int]) -> None:
    """What the kernel bounds for each process, and for all of a user."""
    limit_cores()
    limit(resource.RLIMIT_SIGPENDING, _MOST_PENDING_SIGNALS)
    limit(resource.RLIMIT_FSIZE, limits["file_bytes"])
    limit(resource.RLIMIT_NOFILE, limits["open_files"])
    if limits["processes"]:
        limit(resource.RLIMIT_NPROC, limits["processes"])


def limit_cores() -> None:
    """No crash leaves the memory of the calling process anywhere."""
    limit(resource.RLIMIT_CORE, _NO_CORES)


def limit(kind: int, value: int) -> None:
    """Lower a bound of the kernel's, or leave it where it is lower by now."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    channel.sendall(struct.pack("!I", len(data)) + data)


def _receive(channel: socket.socket) -> dict[str, Any] | None:
    """The request, or None when the server has gone without one."""
    header = _exactly(channel, 4)
    data = header and _exactly(channel, struct.unpack("!I", header)[0])
    return json.loads(data) if data else None


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


class _Reporter:
    """Who alone reports on `channel`: the process that made this, as long as the program left the channel open."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._process = channel, os.getpid()
        self._identity = os.fstat(channel.fileno())

    def send(self, report: dict[str, Any]) -> None:
        """Sends `report`; where it can't, the program's error goes to standard error, as any interpreter's does."""
        if os.getpid() == self._process:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._channel.fileno()), self._identity):
                    _send(self._channel, report)
                    return
        if "error" in report:
            with contextlib.suppress(OSError):
                os.write(2, report["error"]["traceback"].encode())


def _run(request: dict[str, Any], order: dict[str, Any], shown: display.Shown, reporter: _Reporter) -> int:
    """Runs the program to the end of its interpreter, reports, and gives its exit status."""
    before = len(sys.modules)
    path = request["script"] or os.path.join(order["work"], _PROGRAM)
    code = request["code"] if not request["script"] else None
    report: dict[str, Any] = {}
    try:
        status = program.run(path, code, request["args"], shown, report)
        program.end_interpreter()
    except BaseException as error:  # noqa: BLE001 - whatever ends a program is what its report tells
        status = 1
        report["error"] = failure.describe(error, path)
        with contextlib.suppress(BaseException):  # what was drawn before it failed
            shown.take_figures()
    status = program.flush(status)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the report is next: no handler of the program runs any more
    report.update(pictures=shown.pictures, pictures_left_out=shown.left_out)
    report["modules"] = _newest_modules(len(sys.modules) - before)
    report.update(status=status, **_usage())
    reporter.send(report)
    return status


def _usage() -> dict[str, float]:
    """Seconds of processor time and bytes of memory at their most, of this process and the children it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "cpu": sum(usage.ru_utime + usage.ru_stime for usage in both),
        "peak": max(usage.ru_maxrss for usage in both) * 1024,
    }


def _newest_modules(count: int) -> list[str]:
    """Top-level names of the latest `count` imports; a look at the others would copy their pages: many, with pandas."""
    newest = itertools.islice(reversed(sys.modules), max(0, count))
    return sorted({name.split(".")[0] for name in newest})[:_MOST_MODULES]
