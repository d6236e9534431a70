"""What health_check tells, beside what tests/test_service.py asks of a whole service."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult, TextContent

from mcp_python_executor.server import render
from mcp_python_executor.service import open_service
from mcp_python_executor.settings import Isolation, Settings
from mcp_python_executor.venvs import plain
from mcp_python_executor.venvs.files import remove_tree
from tests.variables import LIMITS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


def text(rendered: CallToolResult) -> str:
    (content,) = rendered.content
    assert isinstance(content, TextContent)
    return content.text


async def told_limits(base: Path, **settings: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The limits that a server with `settings` tells, and their mechanisms."""
    async with open_service(Settings(venvs_base_path=base, **settings)) as service:
        limits = dict((await service.health()).limits)
    return limits, limits.pop("mechanisms")


async def test_each_limit_is_told_with_its_value_and_what_holds_it(base: Path):
    limits, mechanisms = await told_limits(
        base, max_memory_mb=100, execution_timeout_ms=2000, package_timeout_ms=7000, max_concurrent_executions=3
    )
    assert limits.keys() == LIMITS
    assert (limits["memoryMb"], limits["timeoutMs"], limits["packageTimeoutMs"]) == (100, 2000, 7000)
    assert (limits["concurrentExecutions"], limits["cpuMs"] >= 4 * 2000) == (3, True)
    assert mechanisms.keys() == limits.keys()
    assert mechanisms["memoryMb"].startswith(("watched every 50 ms over all processes", "cgroup of each execution"))
    assert mechanisms["openFiles"].startswith("rlimit of each process")
    assert "size of file systems in memory" in mechanisms["temporaryBytes"]


async def test_the_versions_of_bubblewrap_and_landlock_are_told(base: Path, told_walls: dict[str, str]):
    async with open_service(Settings(venvs_base_path=base)) as service:
        isolation = (await service.health()).isolation
    details = {wall["name"]: wall["detail"] for wall in isolation["walls"]}
    assert {name: details[name] for name in told_walls} == told_walls
    assert told_walls["landlock"] == f"ABI {isolation['landlockAbi']}"


async def test_without_isolation_temporary_files_are_on_the_disk(base: Path):
    _, mechanisms = await told_limits(base, isolation=Isolation.NONE)
    assert "on the disk" in mechanisms["temporaryBytes"]


async def test_an_environment_in_depth_is_told_with_the_generations_it_may_return_to(base: Path):
    async with open_service(Settings(venvs_base_path=base)) as service:
        for version in ("1.16.0", "1.17.0"):
            await service.venvs.install("past", f"six=={version}")
        (deep,) = (await service.health("past")).venvs
        (brief,) = [venv for venv in (await service.health()).venvs if venv["name"] == "past"]
        current, before = await service.venvs.generations("past")
        rendered = text(render.health(await service.health("past")))
    assert deep["packages"] == [{"name": "six", "version": "1.17.0", "requested": True}]
    assert [(one["id"], one["isCurrent"]) for one in deep["generations"]] == [(current.id, True), (before.id, False)]
    assert {one["packageCount"] for one in deep["generations"]} == {1}
    assert all(datetime.fromisoformat(one["madeAt"]).tzinfo for one in deep["generations"])
    assert "drift" not in deep
    assert brief.keys() == deep.keys() - {"packages", "generations"}
    assert f"Generation: {current.id} (Python " in rendered
    assert f"`mcp-python-executor venv rollback past` returns to the first: {before.id} (" in rendered


async def test_what_was_changed_by_hand_is_a_problem_of_the_environment_in_depth_alone(base: Path):
    async with open_service(Settings(venvs_base_path=base)) as service:
        await service.venvs.create("byhand")
        (packages,) = plain.site_packages(base / "byhand")
        packages.chmod(0o700)
        (packages / "mine-1.0.dist-info").mkdir()
        deep, brief = await service.health("byhand"), await service.health()
        rendered = text(render.health(deep))
    assert (deep.status, brief.status) == ("degraded", "ok")
    (problem,) = deep.problems
    assert problem.startswith("environment 'byhand': its packages were changed by hand: mine 1.0 was added; ")
    assert "`mcp-python-executor venv repair byhand`" in problem
    assert deep.venvs[0]["drift"] in problem
    assert rendered.count("changed by hand") == 1


async def test_a_broken_environment_is_told_with_what_is_wrong_and_how_to_repair_it(base: Path):
    async with open_service(Settings(venvs_base_path=base)) as service:
        await service.venvs.install("broken", "six")
        await service.venvs.install("broken", "iniconfig")
        current, before = await service.venvs.generations("broken")
        await service.venvs.tidy()
        remove_tree((base / "broken").resolve())
        health = await service.health("broken")
        rendered = text(render.health(health))
        assert health.status == "degraded"
        (problem,) = health.problems
        assert "its files are gone; repair it in a terminal with `mcp-python-executor venv repair broken`" in problem
        assert [one["id"] for one in health.venvs[0]["generations"]] == [before.id]
        assert f"Problem: {problem}" in rendered
        assert f"venv rollback broken` returns to the first: {before.id} (" in rendered
        assert current.id not in rendered
        await service.venvs.delete("broken")
