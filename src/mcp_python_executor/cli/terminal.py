"""What all commands share: how they speak, how they end, what they read of their options."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from mcp_python_executor.errors import ExecutorError
from mcp_python_executor.settings import VARIABLES, LogFormat, LogLevel, Settings, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

PROGRAM = "mcp-python-executor"

# What a shell answers for a command that ended by a signal, the signal's number added.
SIGNALLED = 128


def status_of(command: Callable[[], int]) -> int:
    """The exit status of `command`; a failure that was foreseen is told in one line."""
    try:
        status = command()
    except* ExecutorError as group:
        error = _first(group)
        note(str(error))
        status = error.exit_status
    except* KeyboardInterrupt:
        status = SIGNALLED + signal.SIGINT
    except* BrokenPipeError:  # whoever read our output has gone
        status = SIGNALLED + signal.SIGPIPE
    return status


def _first(group: BaseExceptionGroup[ExecutorError]) -> ExecutorError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def note(line: str) -> None:
    """Tells the person something, on standard error, whoever reads that."""
    with suppress(OSError):
        print(f"{PROGRAM}: {harmless(line)}", file=sys.stderr, flush=True)


def harmless(text: str) -> str:
    """`text` as one line that does nothing to a terminal: a model or a package wrote it, and may have meant to."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split()))


def say(text: str) -> None:
    """Gives what was asked for, on standard output."""
    write(1, f"{text}\n")


def write(descriptor: int, text: str) -> None:
    """Writes all of `text` to a standard stream, waiting while its reader is slow.

    Raises:
        BrokenPipeError: nobody reads it any more.
        ExecutorError: it can't be written.
    """
    data = text.encode("utf-8", "backslashreplace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever started us shares the stream and made it so
            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ExecutorError(f"output can't be written: {error.strerror}") from error


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the flags, the environment and the defaults give.

    Raises:
        SettingsError: one has a bad value.
    """
    return load({name: value for name, value in vars(options).items() if name in VARIABLES})


def open_terminal(options: argparse.Namespace) -> Settings:
    """Settings, streams and logs for a person's command: logs are warnings in words, unless they asked for more.

    Raises:
        SettingsError: a setting has a bad value.
    """
    from mcp_python_executor import logs

    _fill_closed_streams()
    settings = settings_of(options)
    asked = settings.log_file is not None or settings.log_level != LogLevel.INFO
    logs.configure(
        level=settings.log_level if asked else LogLevel.WARNING,
        form=settings.log_format if asked else LogFormat.TEXT,
        file=settings.log_file,
    )
    return settings


def _fill_closed_streams() -> None:
    """A closed standard stream would be the next file that is opened, and output would be written there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
