"""Takes memory in several processes, each well below the limit."""

import os
import time

for _ in range(8):
    if os.fork() == 0:
        block = bytearray(64 * 1024 * 1024)
        for place in range(0, len(block), 4096):
            block[place] = 1
        time.sleep(60)
        os._exit(0)
time.sleep(60)
