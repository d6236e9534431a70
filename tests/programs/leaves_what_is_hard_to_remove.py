"""Leaves folders that are deep, closed or full, and entries that are no files."""

import os

os.mkdir("full")
for number in range(300):
    os.symlink("/etc/passwd", f"full/{number}")
os.mkfifo("full/pipe")
os.mkdir("closed")
os.mkdir("closed/within")
top = os.getcwd()
for _ in range(50):
    os.mkdir("deeper-and-deeper")
    os.chdir("deeper-and-deeper")
os.chdir(top)
for path in ("closed/within", "closed", "full", "."):
    os.chmod(path, 0)
print("left")
