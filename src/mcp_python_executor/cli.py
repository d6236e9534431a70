"""The terminal's door: serve, run, venv list, doctor.

Imports of other floors stand in the commands, so that help and argument errors answer at once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from mcp_python_executor import settings as settings_
from mcp_python_executor.errors import ExecutorError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream

    from mcp_python_executor.execution.model import Artifact, ExecutionRequest, ExecutionResult, OutputListener
    from mcp_python_executor.sandbox.probe import Walls
    from mcp_python_executor.server.wire import Wire
    from mcp_python_executor.service import Service

PROGRAM = "mcp-python-executor"

# What shells and coreutils' timeout(1) answer.
_TIMED_OUT = 124
_SIGNALLED = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks and gives the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = options.command(options)
    except* ExecutorError as group:
        status = _tell(_leaves(group)[0])
    except* KeyboardInterrupt:
        status = _SIGNALLED + signal.SIGINT
    except* BrokenPipeError:  # whoever read our output has gone
        status = _SIGNALLED + signal.SIGPIPE
    return status


def _leaves(group: BaseExceptionGroup[ExecutorError]) -> list[ExecutorError]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _tell(error: ExecutorError) -> int:
    _note(str(error))
    return error.exit_status


def _note(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


# What can be asked


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(InvalidArgument.exit_status, f"{PROGRAM}: {message}; see {self.prog} --help\n")


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        parser.exit()


_DESCRIPTION = """\
An MCP server that runs Python code in virtual environments, behind walls.

Without a command it serves a Model Context Protocol client on standard input and output, as a host (a desktop
assistant, an editor, an agent) starts it. The commands are for you at a terminal."""

_SETTINGS_NOTE = "each is also an environment variable of the same name in upper case, which the flag overrides"


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [settings] [COMMAND ...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_serve)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog=PROGRAM, parser_class=_Parser)
    _define_run(commands.add_parser("run", help="run a program as a model's call would be run"))
    _define_venv(commands.add_parser("venv", help="look at the environments"))
    _define_doctor(commands.add_parser("doctor", help="tell which walls this machine offers and how to get the others"))
    _add_settings(parser)
    return parser


def _define_run(run: _Parser) -> None:
    run.usage = f"{PROGRAM} run [settings] [-c CODE | FILE] [--venv NAME] [args...]"
    run.description = (
        "Run a program as a model's call would be run: the same environments, limits and walls. Its output comes as "
        "it is written; standard input, unless it is a terminal, is read to its end and passed on. The exit status is "
        "the program's, 124 after a timeout, 128+N after signal N."
    )
    run.set_defaults(command=_run)
    run.add_argument("-c", dest="code", metavar="CODE", help="the program itself")
    run.add_argument("--venv", metavar="NAME", default="", help="environment to run in (default: DEFAULT_VENV_NAME)")
    run.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="FILE, args", help="a file, unless -c is given, and sys.argv[1:]"
    )
    _add_settings(run)


def _define_venv(venv: _Parser) -> None:
    actions = venv.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = actions.add_parser("list", help="list the environments")
    listing.usage = f"{PROGRAM} venv list [settings] [--json]"
    listing.set_defaults(command=_venv_list)
    listing.add_argument("--json", action="store_true", help="as JSON")
    _add_settings(listing)


def _define_doctor(doctor: _Parser) -> None:
    doctor.usage = f"{PROGRAM} doctor [settings] [--json]"
    doctor.description = (
        "Tell which walls this machine offers and how to get the others. "
        "The exit status is 1 when ISOLATION=strict cannot be met."
    )
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    _add_settings(doctor)


def _add_settings(parser: _Parser) -> None:
    group = parser.add_argument_group("settings", _SETTINGS_NOTE)
    for name, variable in settings_.VARIABLES.items():
        group.add_argument(
            variable.flag,
            dest=name,
            metavar=variable.name.rsplit("_", 1)[-1],
            # A flag may stand before the command or after it: an absent one must not hide the other.
            default=argparse.SUPPRESS,
            help=f"{variable.meaning} (default: {variable.default or 'unset'})".replace("%", "%%"),
        )


def _settings(options: argparse.Namespace) -> settings_.Settings:
    flags = {name: value for name, value in vars(options).items() if name in settings_.VARIABLES}
    return settings_.load(flags, os.environ)


# Serving


def _serve(options: argparse.Namespace) -> int:
    from mcp_python_executor.server.wire import claim_wire

    wire = claim_wire()
    if os.isatty(wire.incoming):
        _note("serving MCP on standard input and output, as a host starts it; --help tells what else it can do")
    settings = _settings(options)
    _configure_logs(settings)
    import anyio

    anyio.run(_serve_until_closed, settings, wire)
    return 0


async def _serve_until_closed(settings: settings_.Settings, wire: Wire) -> None:
    from anyio.to_thread import run_sync

    from mcp_python_executor.service import open_service

    async with open_service(settings) as service:
        # It takes 65 bare interpreter starts: meanwhile the service goes on getting ready.
        app = await run_sync(import_module, "mcp_python_executor.server.app")
        await app.serve(service, wire)


def _configure_logs(settings: settings_.Settings) -> None:
    from mcp_python_executor import logs

    logs.configure(level=settings.log_level, form=settings.log_format, file=settings.log_file)


# Running a program


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _configure_terminal_logs(settings)
    request = _request(options, settings)
    if request.script is not None:  # whoever names a file at the terminal may have it run
        roots = (*settings.script_roots, request.script.resolve().parent)
        settings = replace(settings, script_roots=roots)
    import anyio

    result = anyio.run(_execute, settings, request)
    return _exit_status(result)


def _request(options: argparse.Namespace, settings: settings_.Settings) -> ExecutionRequest:
    """What `run` was asked. `--venv` may also follow FILE directly; all after it is the program's."""
    from mcp_python_executor.execution.model import ExecutionRequest

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
        stdin=b"" if os.isatty(0) else sys.stdin.buffer.read(),
        venv_name=venv_name or settings.default_venv_name,
    )


async def _execute(settings: settings_.Settings, request: ExecutionRequest) -> ExecutionResult:
    from mcp_python_executor.service import open_service

    async with _ended_by_signals(), open_service(settings) as service:
        async with _terminal() as listener:
            result = await service.execute(request, listener)
        for file in result.files:
            _note(f"wrote {await _kept(service, result, file)} ({file.size:,} bytes)")
        _report(result, service.walls)
    return result


async def _kept(service: Service, result: ExecutionResult, file: Artifact) -> str:
    """Where `file` stays: what lies elsewhere than under OUTPUT_PATH goes with the service, so it is copied."""
    import anyio

    output = service.settings.output_path
    if output and file.path.is_relative_to(output):
        return repr(str(file.path))
    name = unquote(file.uri.partition("/files/")[2], errors="surrogateescape")
    copy = anyio.Path(tempfile.gettempdir(), f"{PROGRAM}-{result.execution_id}", name)
    await copy.parent.mkdir(parents=True, exist_ok=True)
    await copy.write_bytes(await service.read_file(result.execution_id, name))
    return repr(str(copy))


@asynccontextmanager
async def _ended_by_signals() -> AsyncGenerator[None]:
    """What a terminal or a supervisor ends must leave nothing running: the body is cancelled, not killed."""
    import anyio

    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as numbers:
            async for number in numbers:
                error = ExecutorError(f"ended by {number.name}")
                error.exit_status = _SIGNALLED + number
                raise error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _terminal() -> AsyncGenerator[OutputListener]:
    """A listener that never blocks: what it is told is written in order by another thread, wholly before the end."""
    import anyio

    send, receive = anyio.create_memory_object_stream[tuple[str, str]](float("inf"))

    def listener(stream: str, text: str) -> None:
        with suppress(anyio.BrokenResourceError):  # writing failed, and the run is about to be cancelled
            send.send_nowait((stream, text))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_write_out, receive)
        with send:
            yield listener


async def _write_out(pieces: MemoryObjectReceiveStream[tuple[str, str]]) -> None:
    import anyio.to_thread

    with pieces:
        async for first in pieces:
            waiting = [first, *(pieces.receive_nowait() for _ in range(pieces.statistics().current_buffer_used))]
            for stream, together in itertools.groupby(waiting, key=itemgetter(0)):
                data = "".join(text for _, text in together).encode("utf-8", "surrogateescape")
                await anyio.to_thread.run_sync(_write, 1 if stream == "stdout" else 2, data, abandon_on_cancel=True)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _report(result: ExecutionResult, walls: Walls) -> None:
    """What the program's own output does not tell, on standard error; a last expression's value on standard output."""
    if result.result is not None:
        print(result.result, flush=True)
    if result.error is not None:
        print(result.error.traceback.rstrip(), file=sys.stderr)
        if result.error.hint:
            _note(result.error.hint)
    if result.limit is not None:
        way_out = f"; raise it with {result.limit.setting}" if result.limit.setting else ""
        _note(f"hit the limit {result.limit.name}={result.limit.value:g}{way_out}")
    if result.isolation == settings_.Isolation.NONE:
        behind = "without walls"
    else:
        behind = "behind " + ", ".join(wall.name for wall in walls.walls if wall.stands)
    _note(f"{result.status} in {result.duration_seconds * 1000:.0f} ms, venv {result.venv_name!r}, {behind}")


def _exit_status(result: ExecutionResult) -> int:
    from mcp_python_executor.execution.model import Status

    if result.status is Status.TIMEOUT:
        return _TIMED_OUT
    if result.signal:
        return _SIGNALLED + signal.Signals[result.signal]
    if result.exit_code is not None:
        return result.exit_code & 0xFF
    return 0 if result.status is Status.OK else _SIGNALLED + signal.SIGKILL


def _configure_terminal_logs(settings: settings_.Settings) -> None:
    """A person wants warnings in words, unless they asked for more."""
    from mcp_python_executor import logs

    asked = settings.log_file is not None or settings.log_level != settings_.LogLevel.INFO
    logs.configure(
        level=settings.log_level if asked else settings_.LogLevel.WARNING,
        form=settings.log_format if asked else settings_.LogFormat.TEXT,
        file=settings.log_file,
    )


# Looking


def _venv_list(options: argparse.Namespace) -> int:
    settings = _settings(options)
    _configure_terminal_logs(settings)
    import anyio

    venvs = anyio.run(_list_venvs, settings)
    if options.json:
        print(json.dumps(venvs, indent=2))
        return 0
    rows = [("NAME", "PYTHON", "PACKAGES", "LAST USED", "STATUS", "DESCRIPTION")]
    rows += [_row(venv) for venv in venvs]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(venv: dict[str, Any]) -> tuple[str, ...]:
    name = f"{venv['name']} (default)" if venv["isDefault"] else venv["name"]
    used = venv["lastUsedAt"] or "never"
    status = f"{venv['status']}: {venv['problem']}" if "problem" in venv else venv["status"]
    return name, venv["pythonVersion"], str(venv["packageCount"]), used[:16], status, venv["description"]


async def _list_venvs(settings: settings_.Settings) -> list[dict[str, Any]]:
    from mcp_python_executor.service import open_service

    async with open_service(settings) as service:
        await service.wait_for_default(settings.default_venv_name)
        return (await service.health()).venvs


def _doctor(options: argparse.Namespace) -> int:
    settings = _settings(options)
    import anyio

    from mcp_python_executor.sandbox.probe import probe

    walls = anyio.run(probe)
    if options.json:
        report = {"strict": walls.strict, "walls": [asdict(wall) for wall in walls.walls]}
        print(json.dumps(report, indent=2))
    else:
        for wall in walls.walls:
            print(f"{'ok     ' if wall.stands else 'MISSING'}  {wall.name}: {wall.detail}")
            if not wall.stands:
                print(f"         {wall.remedy}")
        print()
        print(_verdict(walls, settings))
    return 0 if walls.strict else 1


def _verdict(walls: Walls, settings: settings_.Settings) -> str:
    if walls.strict:
        return "This machine offers all the walls that ISOLATION=strict needs."
    refuses = settings.isolation == settings_.Isolation.STRICT
    return (
        "ISOLATION=strict cannot be met: "
        + ("programs are refused until the walls above stand. " if refuses else "")
        + "ISOLATION=none (--isolation none) runs programs as plain processes, with all your rights: "
        "only for code that you have read."
    )
