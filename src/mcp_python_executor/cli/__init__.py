"""The terminal's door: serve, run, venv, doctor.

Each command has a module of its own, imported when it is asked for, so that help and argument errors answer at once.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from mcp_python_executor import settings
from mcp_python_executor.cli.terminal import PROGRAM, status_of
from mcp_python_executor.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks and gives the process's exit status."""
    options = _parser().parse_args(arguments)
    return status_of(lambda: options.command(options))


def _serve(options: argparse.Namespace) -> int:
    from mcp_python_executor.cli import serve

    return serve.serve(options)


def _run(options: argparse.Namespace) -> int:
    from mcp_python_executor.cli import run

    return run.run(options)


def _venv(options: argparse.Namespace) -> int:
    from mcp_python_executor.cli import venvs

    return getattr(venvs, options.operation)(options)


def _doctor(options: argparse.Namespace) -> int:
    from mcp_python_executor.cli import walls

    return walls.doctor(options)


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
    _define_venv(commands.add_parser("venv", help="look at the environments, and change them"))
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

    def define(name: str, operation: str, arguments: str, meaning: str) -> _Parser:
        action = actions.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        action.usage = " ".join(filter(None, (PROGRAM, "venv", name, "[settings] [--json]", arguments)))
        action.set_defaults(command=_venv, operation=operation)
        action.add_argument("--json", action="store_true", help="as JSON, the object that the tool gives")
        if arguments:
            action.add_argument("name", metavar="NAME", help="the environment; after --, where it begins with -")
        _add_settings(action)
        return action

    define("list", "listing", "", "list the environments")
    create = define("create", "create", "NAME [options]", "make an empty environment")
    create.add_argument("--description", default="", metavar="TEXT", help="what it is for")
    python = create.add_mutually_exclusive_group()
    python.add_argument("--python-version", default="", metavar="VERSION", help="such as 3.12 or '>=3.10'")
    python.add_argument("--python", default="", metavar="PATH", help="the interpreter to make it from")
    delete = define("delete", "delete", "NAME [--confirm]", "delete an environment; what runs in it goes on to its end")
    delete.add_argument("--confirm", action="store_true", help="the default environment needs this")
    describe = define("describe", "describe", "NAME TEXT", "change the description of an environment")
    describe.add_argument("description", metavar="TEXT", help="what it is for")
    for name, meaning in (
        ("install", "install packages; an environment that does not exist is made"),
        ("uninstall", "remove packages, and what only they needed"),
    ):
        change = define(name, name, "NAME PACKAGE...", meaning)
        change.add_argument("packages", nargs="+", metavar="PACKAGE", help="such as numpy or 'pandas[excel]>=2'")
    define("packages", "packages", "NAME", "list what is installed in an environment")
    define("rollback", "rollback", "NAME", "return to what an environment was before its last change")
    define("repair", "repair", "NAME", "rebuild a broken environment from what is written down of it")


def _define_doctor(doctor: _Parser) -> None:
    doctor.usage = f"{PROGRAM} doctor [settings] [--json]"
    doctor.description = (
        "Tell which walls this machine offers and how to get the others, and what holds each limit. "
        "The exit status is 1 when ISOLATION=strict cannot be met."
    )
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    _add_settings(doctor)


def _add_settings(parser: _Parser) -> None:
    group = parser.add_argument_group("settings", _SETTINGS_NOTE)
    for name, variable in settings.VARIABLES.items():
        group.add_argument(
            variable.flag,
            dest=name,
            metavar=variable.name.rsplit("_", 1)[-1],
            # A flag may stand before the command or after it: an absent one must not hide the other.
            default=argparse.SUPPRESS,
            help=f"{variable.meaning} (default: {variable.default or 'unset'})".replace("%", "%%"),
        )
