"""A server in a process of its own: one that is to be killed, or to have a terminal, cannot be the test itself."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from mcp_python_executor.execution.engine import Engine
from mcp_python_executor.execution.model import ExecutionRequest, Interpreter
from mcp_python_executor.execution.runner import Runner
from mcp_python_executor.execution.surroundings import surroundings
from mcp_python_executor.execution.zygotes import open_zygotes
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.sandbox.probe import Confinement
from mcp_python_executor.settings import Settings

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Order:
    """What it runs: `code` behind `confinement`, with its files in `directory`."""

    confinement: Confinement
    interpreter: Interpreter
    directory: Path
    code: str

    @property
    def output(self) -> Path:
        """The program's OUTPUT_PATH."""
        return self.directory / "out"


@contextmanager
def server(
    order: Order, prepare: Callable[[], None] | None = None, *, environment: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """A server that runs `order`, passes its output on, and then tells its status; `prepare` is called in it first.

    It is started with `environment` beside ours.
    """
    order.output.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        preexec_fn=prepare,
    )
    with process:
        try:
            assert process.stdin is not None
            pickle.dump(order, process.stdin)
            process.stdin.close()
            yield process
        finally:
            process.kill()


def _tell(_: str, text: str) -> None:
    os.write(1, text.encode())


async def serve(order: Order) -> None:
    """The server's whole life."""
    # The memory is not what counts here, and with one wall taken down that of others is taken for it.
    engine = Engine(order.confinement, order.directory / "runs", Limits(memory_bytes=1024 * 1024 * MEBIBYTE))
    settings = Settings(venvs_base_path=order.directory / "venvs", output_path=order.output)
    around = surroundings(settings, order.interpreter, None, os.environ)
    async with anyio.create_task_group() as tasks, open_zygotes(engine) as zygotes:
        request = ExecutionRequest(code=order.code, venv_name="default")
        result = await Runner(zygotes, tasks).execute(request, around, _tell)
        _tell("", f"status {result.status}\n")


if __name__ == "__main__":
    # By its own name, which is what the classes of an order are pickled by.
    from tests.escapes import apart

    anyio.run(apart.serve, pickle.load(sys.stdin.buffer))  # noqa: S301 - the test wrote it
