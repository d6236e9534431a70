"""Looks for what begins with its first argument wherever a program could find it: variables, processes, memory, files.

It says that it waits, and begins once the number of a process to look at beside all others is in OUTPUT_PATH/pid.
"""

import itertools
import os
import re
import subprocess
import sys
import time

secret = re.compile(re.escape(sys.argv[1]).encode() + rb"-[0-9a-f]{16}")
looked = 0


def look(where, data):
    global looked
    looked += 1
    if secret.search(data):
        print("FOUND", where)


def look_in_file(path):
    try:
        with open(path, "rb", 0) as file:
            look(path, file.read(1 << 20))
    except OSError:
        pass


def look_in_memory(process):
    try:
        with open(f"/proc/{process}/maps") as file:
            regions = [line.split()[0].split("-") for line in file if line.split()[1].startswith("r")]
        with open(f"/proc/{process}/mem", "rb", 0) as memory:
            for start, end in regions:
                try:
                    memory.seek(int(start, 16))
                    look(f"{process} {start}", memory.read(int(end, 16) - int(start, 16)))
                except (OSError, OverflowError, ValueError):
                    pass
    except OSError:
        pass


print("waiting", flush=True)
place = os.environ["OUTPUT_PATH"]
deadline = time.monotonic() + 20
while not os.path.exists(place + "/pid") and time.monotonic() < deadline:
    time.sleep(0.01)
server = int(open(place + "/pid").read())

look("os.environ", repr(dict(os.environ)).encode())
look("env", subprocess.run(["env"], capture_output=True).stdout)
look("ps", subprocess.run("ps eaxww || true", shell=True, capture_output=True).stdout)
try:
    listed = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
except OSError:
    listed = []
for pid in ["self", "thread-self", *sorted({*listed, *range(1, 64), os.getppid(), server})]:
    for name in ("environ", "cmdline", "auxv", "stat"):
        look_in_file(f"/proc/{pid}/{name}")
        look_in_file(f"/proc/{pid}/task/{pid}/{name}")
        look_in_file(f"/proc/self/root/proc/{pid}/{name}")
    look_in_memory(pid)
for top in (os.getcwd(), place, os.path.expanduser("~"), "/tmp", "/var/tmp", "/dev/shm", "/run", "/etc"):
    files = (os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
    for path in itertools.islice(filter(os.path.isfile, files), 200):  # without walls there are more
        look_in_file(path)
print("looked at", looked)
