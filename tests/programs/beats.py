"""Touches a file for ever."""

import os
import time

told = False
while True:
    with open(os.environ["OUTPUT_PATH"] + "/alive", "w") as file:
        file.write(str(time.time_ns()))
    if not told:
        print("up", flush=True)
        told = True
    time.sleep(0.01)
