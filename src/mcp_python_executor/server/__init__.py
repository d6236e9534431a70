"""The Model Context Protocol: the only importer of `mcp`."""
