"""A warm interpreter that does nothing but fork a worker for each run, and end the run.

It speaks with the server over one Unix socket of sequenced packets, JSON in each. The server sends

    {"op": "fork", "id": ..., "work": DIR, "directory": DIR, "write": [DIR, ...], "environment": {...}}
    {"op": "kill", "id": ...}

the first with four descriptors, the worker's standard streams and its channel. It is told `confined`, before a package
is imported, with the PID of what ends last of all here; `ready`; `init` and `forked`, with the PID of the run's first
process and of the worker (no supervisor's); `exited`, with the worker's wait status and usage; `ended`, when nothing of
the run is left; and `failed`. PIDs come as credentials: the kernel checks and translates them. Run as `python -S`, this
package's parent directory first on the path: what an environment's packages run at start (.pth files) waits until the
zygote is confined.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import sys

from . import figures, imports, inits, landlock, namespaces, pages, seccomp, streams, supervisor, worker

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

_MESSAGE_BYTES = 64 * 1024
_DESCRIPTORS = 4
_PAGE = 4096
_TAKEN_APART_MS = 100
# What a run sees of its own directory.
_OWN = ["work", "output"]


class _Running:
    """A worker, or the supervisor of one, at work: its PID, a descriptor of it, and the init of its namespaces."""

    def __init__(self, name: str, pid: int, init: inits.Init | None = None) -> None:
        self.name, self.pid, self.init = name, pid, init
        self.handle = os.pidfd_open(pid)

    def kill(self) -> None:
        """Its end then shows as any other, and a supervisor's is that of all below it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL if self.init else signal.SIGTERM)


class Zygote:
    """Forks workers on request until its server's end of `control` is closed."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._walls = config["walls"]
        self._running: dict[str, _Running] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def confine(self) -> None:
        """Puts the walls around this process, single-threaded, before the first import of a package."""
        own = "namespaces" in self._walls
        network, machine = self._config["network"], os.uname().machine
        if own:
            namespaces.enter_locked()
            self._runs = os.path.realpath(self._config["runs"])
            self._keep = {path: os.path.realpath(path) for path in self._config["keep"]}
            self._inits = inits.Inits(self._make_mounts, self._config["usual_runs"])
        else:
            supervisor.adopt_orphans()
        if not self._walls:
            return
        limits = self._config["limits"]
        worker.lower_limits({**limits, "processes": limits["processes_of_all"]})  # packages are imported here
        if own:
            namespaces.keep_entering()
        else:
            namespaces.drop_capabilities()
        namespaces.no_new_privileges()
        if "landlock" in self._walls:
            landlock.scope(network=network)
        if "seccomp" in self._walls:
            self._config["filter"] = seccomp.program(machine, network=network, mounts=own)
            seccomp.install(seccomp.program(machine, network=network, mounts=own, zygote=own))

    def _make_mounts(self) -> namespaces.Mounts:
        size: int = self._config["limits"]["temporary_bytes"] // len(worker.TEMPORARY)
        sizes: dict[str, int] = dict.fromkeys(worker.TEMPORARY, size)
        sizes[self._runs] = _PAGE  # no program makes anything there, or sees the directories of others
        return namespaces.Mounts(sizes, self._keep, self._runs, _OWN)

    def warm_up(self) -> None:
        """Imports what programs here usually import."""
        os.close(imports.silence())  # for good; until here, complaints go to the server
        imports.import_ahead(self._config["preload"], self._config["preload_bytes"])
        figures.rehearse()
        gc.collect()
        gc.freeze()
        pages.gather()

    def serve(self) -> None:
        """Forks and ends runs until the server is gone."""
        self.tell({"event": "ready"})
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll()]
            for descriptor in ready:
                if descriptor != self._control.fileno():
                    self._finish(descriptor)
            if self._control.fileno() in ready and not self._obey():  # last, for it may end a run too
                return

    def _obey(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, _DESCRIPTORS)
        if not message:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        order = json.loads(message)
        if order["op"] == "fork":
            self._fork(order, descriptors)
        elif order["id"] in self._running:
            self._running[order["id"]].kill()
        return True

    def _fork(self, order: dict[str, Any], descriptors: list[int]) -> None:
        try:
            own = "namespaces" in self._walls
            run = self._run_in_namespace(order, descriptors) if own else self._supervised_run(order, descriptors)
        except OSError as error:
            self.tell({"event": "failed", "id": order["id"], "reason": str(error)})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._running[run.name] = run
        self._poll.register(run.handle, select.POLLIN)

    def _run_in_namespace(self, order: dict[str, Any], descriptors: list[int]) -> _Running:
        if self._inits.are_in_use():
            self._await_an_end()
        init = self._inits.begin(order["id"])
        try:
            try:
                pid = os.fork()
                if pid == 0:
                    worker.main(order, self._config, [*descriptors, init.mounts])
            finally:
                self._inits.leave()
            run = _Running(order["id"], pid, init)
        except OSError:
            self._inits.end_run(init)
            raise
        self.tell({"event": "init", "id": order["id"]}, pid=init.pid)
        self.tell({"event": "forked", "id": order["id"]}, pid=pid)
        return run

    def _supervised_run(self, order: dict[str, Any], descriptors: list[int]) -> _Running:
        # It tells of itself: without a capability nobody sends another's PID (see SCM_CREDENTIALS in unix(7)).
        begin = functools.partial(self.tell, {"event": "init", "id": order["id"]})
        work = functools.partial(worker.main, order, self._config, descriptors)
        scoped, passed_on = "landlock" in self._walls, self._config["stack_signal"]
        return _Running(order["id"], supervisor.start(begin, work, scoped=scoped, passed_on=passed_on))

    def _await_an_end(self) -> None:
        """Of a worker that the kernel still takes apart, while the server knows that its program has ended."""
        ends = select.poll()
        for each in self._running.values():
            ends.register(each.handle, select.POLLIN)
        for descriptor, _ in ends.poll(_TAKEN_APART_MS):
            self._finish(descriptor)

    def _finish(self, handle: int) -> None:
        """A worker has ended, and the server is told; whatever it left behind ends too, and it is told again."""
        run = next(each for each in self._running.values() if each.handle == handle)
        _, status, usage = os.wait4(run.pid, 0)
        self.tell(
            {
                "event": "exited",
                "id": run.name,
                "status": status,
                "cpu": usage.ru_utime + usage.ru_stime,
                "peak": usage.ru_maxrss * 1024,
            }
        )
        if run.init:
            self._inits.end_run(run.init)
        self._poll.unregister(run.handle)
        os.close(run.handle)
        del self._running[run.name]
        self.tell({"event": "ended", "id": run.name})

    def tell(self, event: dict[str, Any], pid: int = 0) -> None:
        """Sends the server an event, with `pid` or the caller's own as credentials."""
        credentials = struct.pack("iII", pid or os.getpid(), os.getuid(), os.getgid())
        try:
            self._control.sendmsg(
                [json.dumps(event).encode()], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
            )
        except OSError:
            os._exit(1)  # the server is gone, and everything here goes with it


def main() -> None:
    """The zygote's whole life. Its arguments: the control socket's descriptor, and a JSON object of settings."""
    control = socket.socket(fileno=int(sys.argv.pop(1)))
    control.set_inheritable(False)
    config = json.loads(sys.argv.pop(1))
    del sys.path[0]  # where this package lies: no program sees it
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):  # a host under nohup has them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    zygote = Zygote(control, config)
    try:
        zygote.confine()
        zygote.tell({"event": "confined"}, pid=os.getppid() if "namespaces" in config["walls"] else 0)
        streams.build()
        if not config["packages_in_worker"]:
            zygote.warm_up()
    except (OSError, ImportError) as error:
        module = isinstance(error, ImportError) and error.name
        zygote.tell({"event": "failed", "id": "", "reason": str(error), "module": module or ""})
        sys.exit(1)
    for name in [name for name in sys.modules if name.split(".")[0] == __package__]:
        del sys.modules[name]
    zygote.serve()
