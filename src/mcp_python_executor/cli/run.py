"""Running a program from the terminal as a model's call would be run."""

import argparse
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
from pathlib import Path
from urllib.parse import unquote

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from mcp_python_executor.cli.terminal import PROGRAM, SIGNALLED, note, open_terminal, say, write
from mcp_python_executor.errors import ExecutorError, InvalidArgument
from mcp_python_executor.execution.model import Artifact, ExecutionRequest, ExecutionResult, OutputListener, Status
from mcp_python_executor.execution.records import MOST_PAGE_BYTES
from mcp_python_executor.sandbox.probe import Confinement
from mcp_python_executor.service import Service, open_service
from mcp_python_executor.settings import Settings

# As coreutils' timeout(1) answers.
_TIMED_OUT = 124


def run(options: argparse.Namespace) -> int:
    """Runs what was asked for; the exit status is the program's."""
    settings = open_terminal(options)
    request = _request(options, settings)
    if request.script is not None:  # whoever names a file at the terminal may have it run
        roots = (*settings.script_roots, request.script.resolve().parent)
        settings = settings.model_copy(update={"script_roots": roots})
    return _exit_status(anyio.run(_execute, settings, request))


def _request(options: argparse.Namespace, settings: Settings) -> ExecutionRequest:
    """What `run` was asked. `--venv` may also follow FILE directly; all after it is the program's."""
    code, script, venv_name, words = options.code, None, options.venv, list[str](options.program)
    if code is None:
        if not words:
            raise InvalidArgument("nothing to run; give a program with -c CODE, or a file")
        script = Path(words.pop(0)).absolute()
        if len(words) > 1 and words[0] == "--venv":
            venv_name, words = words[1], words[2:]
        if not script.is_file():
            raise InvalidArgument(f"{str(script)!r} is not a file; give a program with -c CODE, or a file")
    return ExecutionRequest(
        code=code or "",
        script=script,
        args=tuple(words[1:] if words[:1] == ["--"] else words),
        stdin=b"" if os.isatty(0) else _read_standard_input(),
        venv_name=venv_name or settings.default_venv_name,
    )


def _read_standard_input() -> bytes:
    with open(0, "rb", closefd=False) as stream:
        return stream.read()


async def _execute(settings: Settings, request: ExecutionRequest) -> ExecutionResult:
    async with _ended_by_signals(), open_service(settings) as service:
        async with _terminal() as listener:
            result = await service.execute(request, listener)
        for file in result.files:
            note(f"wrote {await _kept(service, result, file)} ({file.size:,} bytes)")
        _report(result, service.confinement)
    return result


async def _kept(service: Service, result: ExecutionResult, file: Artifact) -> str:
    """Where `file` stays: what lies elsewhere than under OUTPUT_PATH goes with the service, so it is copied."""
    output = service.settings.output_path
    if output and file.path.is_relative_to(output):
        return repr(str(file.path))
    name = unquote(file.uri.partition("/files/")[2], errors="surrogateescape")
    copy = anyio.Path(tempfile.gettempdir(), f"{PROGRAM}-{result.execution_id}", name)
    await copy.parent.mkdir(parents=True, exist_ok=True)
    async with await copy.open("wb") as out:
        offset: int | None = 0
        while offset is not None:
            page = await service.read(result.execution_id, name, offset, MOST_PAGE_BYTES)
            await out.write(page.data)
            offset = page.next_offset
    return repr(str(copy))


@asynccontextmanager
async def _ended_by_signals() -> AsyncGenerator[None]:
    """What a terminal or a supervisor ends must leave nothing running: the body is cancelled, not killed."""

    async def watch() -> None:
        # SIGINT too: asyncio's own answer to it cancels once, and a library in between can take that for its own.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as numbers:
            async for number in numbers:
                error = ExecutorError(f"ended by {number.name}")
                error.exit_status = SIGNALLED + number
                raise error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _terminal() -> AsyncGenerator[OutputListener]:
    """A listener that never blocks: what it is told is written in order by another thread, wholly before the end."""
    send, receive = anyio.create_memory_object_stream[tuple[str, str]](float("inf"))

    def listener(stream: str, text: str) -> None:
        with suppress(anyio.BrokenResourceError):  # writing failed, and the run is about to be cancelled
            send.send_nowait((stream, text))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_write_out, receive)
        with send:
            yield listener


async def _write_out(pieces: MemoryObjectReceiveStream[tuple[str, str]]) -> None:
    with pieces:
        async for first in pieces:
            waiting = [first, *(pieces.receive_nowait() for _ in range(pieces.statistics().current_buffer_used))]
            for stream, together in itertools.groupby(waiting, key=itemgetter(0)):
                text = "".join(piece for _, piece in together)
                await anyio.to_thread.run_sync(write, 1 if stream == "stdout" else 2, text, abandon_on_cancel=True)


def _report(result: ExecutionResult, confinement: Confinement) -> None:
    """What the program's own output does not tell, on standard error; a last expression's value on standard output."""
    if result.result is not None:
        say(result.result)
    if result.error is not None:
        write(2, result.error.traceback.rstrip() + "\n")
        if result.error.hint:
            note(result.error.hint)
    if result.limit is not None:
        way_out = f"; raise it with {result.limit.setting}" if result.limit.setting else ""
        note(f"hit the limit {result.limit.name}={result.limit.value:g}{way_out}")
    behind = f"behind {', '.join(confinement.names)}" if confinement.strict else "without walls"
    note(f"{result.status} in {result.duration_seconds * 1000:.0f} ms, venv {result.venv_name!r}, {behind}")


def _exit_status(result: ExecutionResult) -> int:
    if result.status is Status.TIMEOUT:
        return _TIMED_OUT
    if result.signal in signal.Signals.__members__:
        return SIGNALLED + signal.Signals[result.signal]
    if result.signal:  # one without a name: 'signal 35'
        return SIGNALLED + int(result.signal.split()[-1])
    if result.exit_code is not None:
        return result.exit_code & 0xFF
    return 0 if result.status is Status.OK else SIGNALLED + signal.SIGKILL
