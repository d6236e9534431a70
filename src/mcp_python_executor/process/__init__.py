"""Processes that are owned until they are reaped."""
