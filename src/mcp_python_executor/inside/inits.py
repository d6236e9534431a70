"""The inits of runs' PID namespaces, their first processes: each serves one run after another.

Packages run in a zygote, so it may neither mount nor make such namespaces. It has both made here, out of its reach: by
processes that it can't trace, the first of which, PID 1 of its own namespace, it can't even stop. It asks that one by
`+`, over a socket of sequenced packets, and gets the socket of a new init, or is told why there is none. The init tells
there of its PID, with its PID and mount namespaces, or why it has none. Then the zygote sends it

    the name of a run's directory; the answer is `+` when everything is mounted for the run, or why that failed
    `-` when a run that could begin is over; the answer is `+` when no process of it is left

and in the end there is one more `+`, when nothing is mounted any more. So the file systems in memory where programs
have temporary files are always where the server finds and counts them: below an init, none of which ends before the
zygote does. Only inits and PID 1 send descriptors, and they may have more open than any run: the kernel counts those
that are on their way for all of a user (see ETOOMANYREFS in unix(7)).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket

from . import namespaces

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable

_MESSAGE_BYTES = 4096
_DONE, _OVER = b"+", b"-"
# What an init that could not begin says by its sign of life.
_NOT_BEGUN = b"-"
# The PID of a zygote, which is the first child of the first process of its namespace.
_ZYGOTE = 2
# An ended run's mounts are gone sooner, but for what somebody still has open there.
_UNMOUNTED_MS = 50


class Init:
    """A PID namespace and mounts, for one run at a time: `pid` is the first process there, and `mounts` a descriptor.

    The program is another process: an init ignores its own default signals, so it could not even kill itself.
    """

    def __init__(self, control: socket.socket) -> None:
        """Waits for what is told at the other end of `control`.

        Raises:
            OSError: the kernel refused one.
        """
        self._control = control
        told, (self._pids, self.mounts) = _received(control, 2)
        self.pid = int(told)
        self._handle = os.pidfd_open(self.pid)

    def prepare(self, name: str) -> None:
        """Has everything mounted for the run `name`.

        Raises:
            OSError: the kernel refused.
        """
        self._control.send(name.encode())
        answer = self._control.recv(_MESSAGE_BYTES)
        if answer != _DONE:
            raise OSError(answer.decode() or "the first process of a run ended")

    def enter(self) -> None:
        """The caller's next children are processes of the run.

        Raises:
            OSError: the kernel refused.
        """
        namespaces.join_pids(self._pids)

    def end_run(self) -> None:
        """Ends every process of a run whose worker has been waited for. When it returns, none is left."""
        with contextlib.suppress(OSError):
            self._control.send(_OVER)
            if self._control.recv(1):
                return
        ended = select.poll()  # somebody killed it, and with it the kernel ends all others
        ended.register(self._handle, select.POLLIN)
        ended.poll()

    def fileno(self) -> int:
        """Where it can be read once that nothing is mounted any more for a run that has ended, or could not begin."""
        return self._control.fileno()

    def is_free(self) -> bool:
        """Whether another run can have it: to be asked once after each, where it can be read."""
        return bool(self._control.recv(1))


class Inits:
    """Gives each run a PID namespace and mounts of its own, which it has to itself until its end."""

    def __init__(self, make_mounts: Callable[[], namespaces.Mounts], usual: int) -> None:
        """The caller, PID 1 of its namespace, goes on as a child of it, and never as itself.

        `make_mounts` is called in each first process. So many as are `usual` will do, while each run is ended before
        another one takes its place; there are never more than twice as many.
        """
        self._maker, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespaces.let_in(others=False)
        zygote = os.fork()
        if zygote:
            _make_inits(asked, zygote, make_mounts, 2 * usual)
        namespaces.let_in(others=True)
        asked.close()
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._idle: list[Init] = []
        self._made, self._usual = 0, usual

    def begin(self, name: str) -> Init:
        """Has one serve the run `name`, of which the caller's next children are processes, until it calls `leave`.

        Raises:
            OSError: the kernel refused one.
        """
        init = self._free() or self._new()
        try:
            init.prepare(name)
        except OSError:
            self._idle.append(init)
            raise
        try:
            init.enter()
        except OSError:
            self.end_run(init)
            raise
        return init

    def _free(self) -> Init | None:
        """One that another run had, if any is ready for the next one or is about to be."""
        events = select.poll()
        for init in self._idle:
            events.register(init, select.POLLIN)
        ready = [descriptor for descriptor, _ in events.poll(_UNMOUNTED_MS)] if self._idle else []
        for init in [init for init in self._idle if init.fileno() in ready]:
            self._idle.remove(init)
            if init.is_free():
                return init
        return None

    def _new(self) -> Init:
        self._maker.send(_DONE)
        _, (control,) = _received(self._maker, 1)
        init = Init(socket.socket(fileno=control))
        self._made += 1
        return init

    def are_in_use(self) -> bool:
        """Whether there are as many as usual and none is idle: a run is about to end, and another one can have its."""
        return not self._idle and self._made >= self._usual

    def leave(self) -> None:
        """The caller's next children are in its own PID namespace again."""
        namespaces.join_pids(self._home)

    def end_run(self, init: Init) -> None:
        """Ends every process of a run whose worker has been waited for. When it returns, none is left."""
        init.end_run()
        self._idle.append(init)


def _received(control: socket.socket, count: int) -> tuple[str, list[int]]:
    """A message and as many descriptors as are expected with it; without them it tells why there are none."""
    message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, count)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if len(descriptors) != count:
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError(f"no run can have a PID namespace: {message.decode() or 'what makes them ended'}")
    return message.decode(), descriptors


def _make_inits(asked: socket.socket, zygote: int, make_mounts: Callable[[], namespaces.Mounts], most: int) -> None:
    """Never returns: ends with the zygote, or with any of the inits, and then all end.

    An init that somebody killed may have left a file system that somebody holds, where nobody would find it.
    """
    try:
        _keep_alone(asked.fileno())
        asked.setblocking(False)  # who does not read its answers is not waited for
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the first process of a namespace ignores
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel waits for orphans: see wait(2)
        events = select.poll()
        maker = _Maker(asked, events, make_mounts, most)
        for descriptor in (asked.fileno(), os.pidfd_open(zygote)):
            events.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in events.poll():
                if descriptor == asked.fileno():
                    if not asked.recv(1):
                        return
                    maker.answer()
                elif descriptor in maker.signs:
                    if os.read(descriptor, 1) != _NOT_BEGUN:
                        return
                    maker.forget(descriptor)
                else:
                    return
    finally:
        os._exit(1)


class _Maker:
    """Makes inits. `signs` are their signs of life, among `events`: each a pipe that ends as soon as its init does.

    Waiting for one would not do: the kernel first takes apart what is in its namespace, and somebody may hold that up.
    """

    def __init__(
        self, asked: socket.socket, events: select.poll, make_mounts: Callable[[], namespaces.Mounts], most: int
    ) -> None:
        self._asked, self._events, self._make_mounts, self._most = asked, events, make_mounts, most
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.signs: set[int] = set()
        # The zygote's end of the socket of one that could not be handed over.
        self._left: socket.socket | None = None

    def answer(self) -> None:
        """Answers with a new one, or why there is none.

        Raises:
            OSError: nobody reads the answers.
        """
        if self._left is None and len(self.signs) >= self._most:
            self._asked.send(b"all of them are in use, by runs or by what is left of runs")
            return
        try:
            self._left = self._left or self._make()
            socket.send_fds(self._asked, [_DONE], [self._left.fileno()])
            self._left.close()
            self._left = None
        except OSError as error:
            self._asked.send(str(error).encode())

    def forget(self, sign: int) -> None:
        """Its init has told that it could not begin."""
        self.signs.remove(sign)
        self._events.unregister(sign)
        os.close(sign)

    def _make(self) -> socket.socket:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sign, alive = os.pipe()
        try:
            namespaces.own_pids()
            try:
                if os.fork() == 0:
                    _serve_runs(theirs, alive, self._make_mounts)
            finally:
                namespaces.join_pids(self._home)
        except OSError:
            os.close(sign)
            raise
        finally:
            theirs.close()
            os.close(alive)
        self.signs.add(sign)
        self._events.register(sign, select.POLLIN)
        return control


def _keep_alone(*kept: int) -> None:
    """Closes all other descriptors."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the one by which they were listed
                os.close(descriptor)


def _serve_runs(control: socket.socket, alive: int, make_mounts: Callable[[], namespaces.Mounts]) -> None:
    """Never returns: ends when `control` does. While it can serve it has `alive` open, and writes nothing there."""
    try:
        _keep_alone(control.fileno(), alive)
        try:
            mounts = _begin(control, make_mounts)
        except OSError as error:
            os.write(alive, _NOT_BEGUN)
            _tell(control, str(error).encode())
            return
        while name := _hear(control):
            _serve_run(control, mounts, name.decode())
    finally:
        os._exit(0)


def _begin(control: socket.socket, make_mounts: Callable[[], namespaces.Mounts]) -> namespaces.Mounts:
    with open("/proc/self/status") as file:
        numbers = next(line for line in file if line.startswith("NSpid:")).split()
    mounts = make_mounts()
    own = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("pid", "mnt")]
    _number_from_the_first()
    socket.send_fds(control, [numbers[-2].encode()], own)  # by its number for the zygote
    for descriptor in own:
        os.close(descriptor)
    return mounts


def _serve_run(control: socket.socket, mounts: namespaces.Mounts, name: str) -> None:
    """To its end, even where nobody hears of that any more."""
    try:
        mounts.mount(name)
        answer = _DONE
    except OSError as error:
        answer = str(error).encode()
    _tell(control, answer)
    if answer == _DONE:
        _hear(control)
        _end_others()
        _tell(control, _DONE)
    mounts.unmount()
    _number_from_the_first()
    _tell(control, _DONE)


def _hear(control: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return control.recv(_MESSAGE_BYTES)
    return b""


def _tell(control: socket.socket, message: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        control.send(message)


def _end_others() -> None:
    """Ends all other processes of the PID namespace: a kill of everybody reaches those too that fork at that moment."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # there are none any more
        while True:
            os.waitpid(-1, 0)


def _number_from_the_first() -> None:
    """The next process's number tells nobody how many there were: see proc_sys_kernel(5).

    Nor is it the zygote's, of which it is a fork: some modules tell a fork by its number.
    """
    # Not there without the kernel's CONFIG_CHECKPOINT_RESTORE.
    with contextlib.suppress(FileNotFoundError), open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(_ZYGOTE))
