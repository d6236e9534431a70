"""Counters of executions by how they ended, and their latencies."""

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field

from mcp_python_executor.execution.model import ExecutionResult

# Percentiles are of the latest executions, so that they tell of today.
_WINDOW = 1000


@dataclass(slots=True)
class Metrics:
    """What was executed since the start. Times in seconds, memory in bytes."""

    totals: Counter[str] = field(default_factory=Counter[str])
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    peak_memory_bytes: int = 0

    def record(self, result: ExecutionResult) -> None:
        """Counts one ended execution."""
        self.totals[result.status] += 1
        self.latencies.append(result.duration_seconds)
        self.peak_memory_bytes = max(self.peak_memory_bytes, result.peak_memory_bytes)

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99 of the latest durations in seconds; empty before there are two."""
        if len(self.latencies) < 2:
            return {}
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
