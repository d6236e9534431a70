"""`python -m benchmarks.staged_server FILE`: the server, which notes when a call comes to each of its stages.

Each line of FILE is a JSON object for one answer: the stages' names with the time (CLOCK_MONOTONIC) at which each was
last come to.
"""

import functools
import inspect
import json
import sys
import time
from typing import Any, TextIO

from mcp_python_executor.cli import main
from mcp_python_executor.execution.conduct import Conduct
from mcp_python_executor.execution.worker import Worker
from mcp_python_executor.service import Service


class Stages:
    """Notes when functions begin and end, and writes it down when an answer has left."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._times: dict[str, float] = {}

    def note(self, stage: str) -> None:
        """The call comes to `stage` now."""
        if stage:
            self._times[stage] = time.monotonic()

    def follow(self, owner: Any, name: str, begins: str = "", ends: str = "") -> None:
        """Has `owner`'s function `name` note its stages; what it does stays the same."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self.note(begins)
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._awaited(result, ends)
            self.note(ends)
            return result

        setattr(owner, name, noting)

    async def _awaited(self, result: Any, ends: str) -> Any:
        try:
            return await result
        finally:
            self.note(ends)
            if ends == "left":
                self._file.write(json.dumps(self._times) + "\n")


def follow(stages: Stages) -> None:
    """Notes the stages of `execute_python`, in the order of the list in `benchmarks.stages`."""
    from mcp_python_executor.server import app, stdio

    stages.follow(stdio, "parse", begins="read", ends="parsed")
    stages.follow(app._ExecutorServer, "call_tool", begins="called", ends="rendered")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    stages.follow(Service, "execute", begins="checked", ends="told")
    stages.follow(Worker, "begin", begins="forked", ends="begun")
    stages.follow(Worker, "report", ends="reported")
    stages.follow(Worker, "part", ends="exited")
    stages.follow(Conduct, "run", ends="ended")
    stages.follow(stdio, "write_line", ends="left")


if __name__ == "__main__":
    with open(sys.argv.pop(1), "w", buffering=1) as noted:
        follow(Stages(noted))
        sys.exit(main())
