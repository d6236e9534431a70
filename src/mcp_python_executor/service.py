"""The engine: one async context manager that wires the floors below."""
