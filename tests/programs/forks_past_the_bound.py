"""Forks until it is stopped, or refused: then it ends as one that is stopped."""

import os
import time

for _ in range(120):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        os.abort()
time.sleep(60)
