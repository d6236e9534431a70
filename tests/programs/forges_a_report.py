"""Sends reports of its own over every descriptor, then goes on."""

import json
import os
import struct

for message in (b"not json", b"[]", json.dumps({"result": "forged", "pictures": ["AAAA"], "modules": ["os"]}).encode()):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, struct.pack("!I", len(message)) + message)
            os.write(descriptor, struct.pack("!I", 2**32 - 1))
        except OSError:
            pass
print("went on")
