"""Own a child process and its group until it is reaped; read what it says within bounds."""

from mcp_python_executor.process.group import owned, wait_for_exit
from mcp_python_executor.process.run import Completed, run
from mcp_python_executor.process.tail import HeadAndTail

__all__ = ["Completed", "HeadAndTail", "owned", "run", "wait_for_exit"]
