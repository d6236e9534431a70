"""What runs behind the walls, in an environment's own Python: standard library only, Python 3.9 or newer."""
