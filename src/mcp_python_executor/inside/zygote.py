"""A warm interpreter that does nothing but fork a worker for each run, and end the run.

It speaks with the server over one Unix socket of sequenced packets, JSON in each. The server sends

    {"op": "fork", "id": ..., "work": DIR, "directory": DIR, "write": [DIR, ...], "environment": {...}}
    {"op": "kill", "id": ...}

the first with four descriptors, the worker's standard streams and its channel. It is told `confined`, before a package
is imported, and `ready`; `init` and `forked`, with the PID of the run's first process and of the worker (no
supervisor's) as credentials, which the kernel checks and translates; `exited`, with the worker's wait status and usage;
`ended`, when nothing of the run is left; and `failed`. Run as `python -S`, this package's parent directory first on the
path: what an environment's packages run at start (.pth files) waits until the zygote is confined.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import sys

from . import figures, imports, landlock, namespaces, pages, seccomp, streams, supervisor, worker

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from typing import Any

_MESSAGE_BYTES = 64 * 1024
_DESCRIPTORS = 4


class _Running:
    """A worker at work: its PID, what ends its whole tree, and a descriptor that tells of its end."""

    def __init__(self, name: str, pid: int, tree: namespaces.Run | supervisor.Run) -> None:
        self.name, self.pid, self.tree = name, pid, tree
        self.ended = os.pidfd_open(pid)


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
            self._home = namespaces.enter_locked()
        else:
            supervisor.adopt_orphans()
        if not self._walls:
            return
        limits = self._config["limits"]
        worker.lower_limits({**limits, "processes": limits["processes_of_all"]})  # packages are imported here
        if not own:
            namespaces.drop_capabilities()
        namespaces.no_new_privileges()
        if "landlock" in self._walls:
            landlock.scope(network=network)
        if "seccomp" in self._walls:
            self._config["filter"] = seccomp.program(machine, network=network, mounts=own)
            seccomp.install(seccomp.program(machine, network=network, mounts=own, zygote=own))
        if own:
            self._inits = namespaces.Inits(self._home, self._config["init"])

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
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._obey():
                        return
                else:
                    self._finish(next(run for run in self._running.values() if run.ended == descriptor))

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
            self._running[order["id"]].tree.kill()  # the worker's end then shows as any other
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
        self._poll.register(run.ended, select.POLLIN)

    def _run_in_namespace(self, order: dict[str, Any], descriptors: list[int]) -> _Running:
        tree = namespaces.Run(self._home, self._inits)
        try:
            pid = os.fork()
        except OSError:
            tree.leave()
            tree.close()
            raise
        if pid == 0:
            worker.main(order, self._config, descriptors)
        tree.leave()
        self.tell({"event": "init", "id": order["id"]}, pid=tree.init)
        self.tell({"event": "forked", "id": order["id"]}, pid=pid)
        return _Running(order["id"], pid, tree)

    def _supervised_run(self, order: dict[str, Any], descriptors: list[int]) -> _Running:
        # It tells of itself: without a capability nobody sends another's PID (see SCM_CREDENTIALS in unix(7)).
        begin = functools.partial(self.tell, {"event": "init", "id": order["id"]})
        work = functools.partial(worker.main, order, self._config, descriptors)
        scoped, passed_on = "landlock" in self._walls, self._config["stack_signal"]
        tree = supervisor.Run(begin, work, scoped=scoped, passed_on=passed_on)
        return _Running(order["id"], tree.init, tree)

    def _finish(self, run: _Running) -> None:
        """The worker has ended, and the server is told; whatever it left behind ends too, and it is told again."""
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
        run.tree.close()
        self._poll.unregister(run.ended)
        os.close(run.ended)
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
        zygote.tell({"event": "confined"})
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
