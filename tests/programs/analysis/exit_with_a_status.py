import sys

print("checked 3 files, 1 is broken", file=sys.stderr)
sys.exit(3)
