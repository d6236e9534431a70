"""An MCP server that runs Python code safely and fast, in virtual environments that never break."""
