"""Writes a line to every descriptor it can, as if it spoke a protocol."""

import os

for descriptor in range(256):
    try:
        os.write(descriptor, b'{"jsonrpc": "2.0", "id": 1, "result": {"forged": true}}\n')
    except OSError:
        pass
