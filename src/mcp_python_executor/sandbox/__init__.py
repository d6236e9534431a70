"""The outer wall, seen from the host."""
