"""Sends a whole report of its own, says in it that all went well, and never ends."""

import json
import os
import struct

message = json.dumps({"result": "forged"}).encode()
for descriptor in range(3, 64):
    try:
        os.write(descriptor, struct.pack("!I", len(message)) + message)
    except OSError:
        pass
while True:
    pass
