"""What health_check tells, beside what tests/test_service.py asks of a whole service."""

from pathlib import Path
from typing import Any

import pytest

from mcp_python_executor.service import open_service
from mcp_python_executor.settings import Isolation, Settings

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


async def told_limits(base: Path, **settings: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The limits that a server with `settings` tells, and their mechanisms."""
    async with open_service(Settings(venvs_base_path=base, **settings)) as service:
        limits = dict((await service.health()).limits)
    return limits, limits.pop("mechanisms")


async def test_each_limit_is_told_with_its_value_and_what_holds_it(base: Path):
    limits, mechanisms = await told_limits(
        base, max_memory_mb=100, execution_timeout_ms=2000, package_timeout_ms=7000, max_concurrent_executions=3
    )
    assert limits.keys() == {
        *("memoryMb", "timeoutMs", "cpuMs", "concurrentExecutions", "queuedExecutions", "outputBytes"),
        *("keptOutputBytes", "processes", "openFiles", "fileBytes", "diskBytes", "temporaryBytes", "packageTimeoutMs"),
    }
    assert (limits["memoryMb"], limits["timeoutMs"], limits["packageTimeoutMs"]) == (100, 2000, 7000)
    assert (limits["concurrentExecutions"], limits["cpuMs"] >= 4 * 2000) == (3, True)
    assert mechanisms.keys() == limits.keys()
    assert mechanisms["memoryMb"].startswith("watched every 50 ms over all processes")
    assert mechanisms["openFiles"].startswith("rlimit of each process")
    assert "size of file systems in memory" in mechanisms["temporaryBytes"]


async def test_without_isolation_temporary_files_are_on_the_disk(base: Path):
    _, mechanisms = await told_limits(base, isolation=Isolation.NONE)
    assert "on the disk" in mechanisms["temporaryBytes"]
