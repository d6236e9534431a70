"""`python -m mcp_python_executor` is the console script."""

import sys

from mcp_python_executor.cli import main

sys.exit(main())
