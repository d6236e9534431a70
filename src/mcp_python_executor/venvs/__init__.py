"""Virtual environments on disk; knows nothing of executions."""
