"""Leaves processes behind in every way there is, each holding the program's streams and touching a file for ever."""

import os
import signal
import sys
import time


def linger():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        with open(os.environ["OUTPUT_PATH"] + "/alive", "w") as file:
            file.write(str(time.time_ns()))
        time.sleep(0.01)


if os.fork() == 0:
    linger()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        linger()
    os._exit(0)
if os.fork() == 0:
    os.setpgid(0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
while not os.path.exists(os.environ["OUTPUT_PATH"] + "/alive"):
    time.sleep(0.001)
print("leaving", flush=True)
sys.exit(0)
