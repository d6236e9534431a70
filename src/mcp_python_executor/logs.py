"""Logs on standard error or in a file: an event name and keys, one line each, as JSON or text."""

import atexit
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import TextIO

import structlog

from mcp_python_executor.errors import SettingsError

_WAITING_LINES = 1000
_LAST_SECONDS = 0.5


def configure(*, level: str, form: str, file: Path | None) -> None:
    """Sends the logs of this process, those of libraries included, to `file` or standard error.

    `level` is a name of the logging module in any case; `form` is `json` or `text`. Call it before anything that
    configures logging itself: the first configuration stays.

    Raises:
        SettingsError: `file` can't be opened.
    """
    handler = _Unhurried(_stream(file))
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last = structlog.processors.JSONRenderer() if form == "json" else _text
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _text(_logger: object, _method: str, event: structlog.types.EventDict) -> str:
    """A line like `2026-11-24T14:44:24Z info server tool_called tool=list_venvs`, an exception's traceback below it."""
    head = [_word(event.pop(key)) for key in ("timestamp", "level", "logger", "event")]
    traceback = event.pop("exception", "")
    line = " ".join(head + [f"{key}={_word(value)}" for key, value in event.items()])
    return f"{line}\n{traceback}".rstrip()


def _word(value: object) -> str:
    """`value` on one line, quoted where it would not be read as one word."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text)


class _Unhurried(logging.Handler):
    """Hands lines to a thread: a reader of standard error who reads no more must not stop the server.

    Once too many lines wait for him, further ones are dropped. At exit he has a moment to read the rest.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Queue[str] = Queue(_WAITING_LINES)
        self._writer = Thread(target=self._write, name="logs", daemon=True)
        self._writer.start()
        atexit.register(self._finish)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - what cannot be told must not end whoever tells it
            self.handleError(record)
            return
        with suppress(Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        while line := self._lines.get():
            with suppress(OSError, ValueError):  # the disk is full, or the reader is gone
                self._stream.write(line + "\n")
                self._stream.flush()

    def _finish(self) -> None:
        with suppress(Full):
            self._lines.put_nowait("")
        self._writer.join(_LAST_SECONDS)


def _stream(file: Path | None) -> TextIO:
    if file is None:
        return sys.stderr
    try:
        return file.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SettingsError(
            f"LOG_FILE={str(file)!r} can't be opened: {error.strerror}; name a writable file"
        ) from error
