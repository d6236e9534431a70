"""`python -m benchmarks.no_results DIRECTORY ...`: the server, with all that makes results worth reading taken out.

It runs programs as ever and tells what they printed: no last value, pictures, files, or outputs to be read later. Its
processes run a copy of `inside` in the empty DIRECTORY. What follows goes to the server.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from mcp_python_executor.cli import main
from mcp_python_executor.sandbox import probe

_DISPLAY = """
class Shown:
    pictures, left_out = [], 0
    def __init__(self, directory): pass
    def listen(self): pass
    def display(self, *objects, **options): pass
    def take_figures(self): pass
    def text(self, value): return None
"""


def _take_out(directory: Path) -> None:
    """Puts what does nothing in the place of what makes results, in processes and in the server."""
    inside = directory / probe.INSIDE.name
    shutil.copytree(probe.INSIDE, inside)
    (inside / "display.py").write_text(_DISPLAY)
    probe.INSIDE = inside  # whoever imports it from now on

    from mcp_python_executor.execution.artifacts import Found
    from mcp_python_executor.execution.runner import Runner

    async def find_files(_conduct: Any) -> Found:
        return Found()

    def keep(runner: Any, conduct: Any, _found: Found) -> None:
        runner._discard(conduct.worker.leftovers)  # noqa: SLF001

    for name, replacement in (("_find_files", staticmethod(find_files)), ("_keep", keep)):
        if not hasattr(Runner, name):
            raise AttributeError(f"Runner has no {name} to be taken out")
        setattr(Runner, name, replacement)


if __name__ == "__main__":
    _take_out(Path(sys.argv.pop(1)))
    sys.exit(main())
