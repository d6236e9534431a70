"""Closes every descriptor it has, its streams and the way of its report among them."""

import os

os.closerange(0, 1024)
os._exit(0)
