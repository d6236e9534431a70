"""Logs on standard error or in a file: an event name and keys, one line each, as JSON or text."""

import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from mcp_python_executor.errors import SettingsError

# structlog imports rich wherever it finds it, for lines in colour that we don't write: some 20 ms of each start.
if _hidden := "rich" not in sys.modules:
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType] - as importlib has it where a module is missing
import structlog

if _hidden:
    del sys.modules["rich"]

_STANDARD_ERROR = 2
_WAITING_LINES = 1000
_LAST_SECONDS = 0.5


def configure(*, level: str, form: str, file: Path | None) -> None:
    """Sends the logs of this process, those of libraries included, to `file` or standard error.

    `level` is a name of the logging module in any case; `form` is `json` or `text`. Call it before anything that
    configures logging itself: the first configuration stays.

    Raises:
        SettingsError: `file` can't be opened.
    """
    handler = _Unhurried(_open(file))
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
    """Hands events to a thread, which makes lines of them while the answer leaves.

    A reader of standard error who reads no more stops nobody: once too many lines wait for him, further ones are
    dropped. At the end he has a moment to read the rest.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        # Not sys.stderr: a thread that waits with that one's lock held aborts the interpreter when it ends.
        self._descriptor = descriptor
        self._waiting: Queue[logging.LogRecord | None] = Queue(_WAITING_LINES)
        self._writer = Thread(target=self._write, name="logs", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self._waiting.put_nowait(record)

    def _write(self) -> None:
        while record := self._waiting.get():
            try:
                data = f"{self.format(record)}\n".encode(errors="backslashreplace")
            except Exception:  # noqa: BLE001 - what cannot be told must not end whoever tells it
                self.handleError(record)
                continue
            with suppress(OSError):  # the disk is full, or the reader is gone
                while data:
                    data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Writes what waits, as far as it goes; logging calls this when the interpreter ends."""
        with suppress(Full):
            self._waiting.put_nowait(None)
        self._writer.join(_LAST_SECONDS)
        if self._descriptor != _STANDARD_ERROR and not self._writer.is_alive():
            os.close(self._descriptor)
            self._descriptor = _STANDARD_ERROR
        super().close()


def _open(file: Path | None) -> int:
    if file is None:
        return _STANDARD_ERROR
    try:
        return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"LOG_FILE={str(file)!r} can't be opened: {error.strerror}; name a writable file"
        ) from error
