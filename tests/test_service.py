from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from mcp_python_executor.errors import (
    ExecutorError,
    InvalidArgument,
    PackageError,
    SettingsError,
    StoreError,
    WallsMissing,
)
from mcp_python_executor.execution.model import ExecutionRequest, Status
from mcp_python_executor.execution.surroundings import Surroundings
from mcp_python_executor.execution.zygotes import Zygotes
from mcp_python_executor.sandbox.probe import Wall, Walls
from mcp_python_executor.service import Service, open_environments, open_service
from mcp_python_executor.settings import Isolation, Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


@asynccontextmanager
async def opened(tmp_path: Path, **settings: Any) -> AsyncGenerator[Service]:
    async with open_service(Settings(venvs_base_path=tmp_path / "venvs", **settings)) as service:
        yield service


def request(code: str = "", venv_name: str = "default", **told: Any) -> ExecutionRequest:
    return ExecutionRequest(code=code, venv_name=venv_name, **told)


async def test_the_default_environment_is_made_and_runs_code(tmp_path: Path):
    async with opened(tmp_path) as service:
        result = await service.execute(request("6 * 7"))
        venvs = await service.venvs.list()
    assert (result.status, result.result, result.venv_name) == (Status.OK, "42", "default")
    assert [(venv.name, venv.is_default) for venv in venvs] == [("default", True)]
    assert list((tmp_path / "venvs" / ".runs").iterdir()) == []


async def test_preinstalled_packages_are_in_the_default_environment(tmp_path: Path):
    async with opened(tmp_path, preinstalled_packages="iniconfig") as service:
        result = await service.execute(request("import iniconfig; iniconfig.__name__"))
    assert result.result == "'iniconfig'"


async def test_an_unknown_environment_names_those_there_are(tmp_path: Path):
    async with opened(tmp_path) as service:
        await service.execute(request("1"))
        with pytest.raises(
            InvalidArgument, match="'defalt' does not exist; there are 'default'; did you mean 'default'"
        ):
            await service.execute(request("1", venv_name="defalt"))


async def test_an_install_shows_in_the_next_execution(tmp_path: Path):
    async with opened(tmp_path) as service:
        before = await service.execute(request("import iniconfig"))
        await service.venvs.install("default", "iniconfig")
        after = await service.execute(request("import iniconfig"))
    assert (before.status, after.status) == (Status.ERROR, Status.OK)


def generations(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "venvs" / ".store" / "generations").iterdir()}


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await anyio.sleep(0.05)


async def test_an_environment_that_is_made_again_runs_as_the_first(tmp_path: Path):
    program = request("import iniconfig, json.tool; iniconfig.__name__", venv_name="again")
    async with opened(tmp_path) as service:
        await service.execute(request("1"))
        others = generations(tmp_path)
        for _ in range(2):
            await service.venvs.install("again", "iniconfig")
            assert (await service.execute(program)).result == "'iniconfig'"
            await service.venvs.delete("again")
            await until(lambda: generations(tmp_path) == others)


async def test_an_interpreter_keeps_the_generation_that_another_server_deletes(tmp_path: Path):
    program = request("import iniconfig; iniconfig.__name__", venv_name="shared")
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        await one.venvs.install("shared", "iniconfig")
        await one.execute(program)
        before = generations(tmp_path)
        await other.venvs.delete("shared")
        await other.venvs.create("some")  # and what nobody uses is removed
        await other.venvs.install("shared", "iniconfig")
        assert generations(tmp_path) == before
        assert (await one.execute(program)).result == "'iniconfig'"


async def test_a_script_outside_the_roots_is_refused(tmp_path: Path):
    (tmp_path / "x.py").touch()
    async with opened(tmp_path, script_roots=(tmp_path / "scripts",)) as service:
        with pytest.raises(InvalidArgument, match="outside SCRIPT_ROOTS"):
            await service.execute(request(script=tmp_path / "x.py"))


async def test_a_script_runs_where_it_lies(tmp_path: Path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "x.py").write_text("import os, sys; print(os.getcwd(), sys.argv[1:])")
    async with opened(tmp_path, script_roots=(scripts,)) as service:
        result = await service.execute(request(script=scripts / "x.py", args=("a",)))
    assert result.stdout == f"{scripts} ['a']\n"


async def test_without_walls_strict_refuses_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    too_few = Walls((Wall("bubblewrap", False, "not installed", "install it: apt-get install bubblewrap"),), None, 0)

    async def probe(*_: Path) -> Walls:
        return too_few

    monkeypatch.setattr("mcp_python_executor.service.probe", probe)
    async with opened(tmp_path) as service:
        with pytest.raises(WallsMissing, match=r"bubblewrap: not installed; install it: .*ISOLATION=none"):
            await service.execute(request("1"))
        assert [venv.name for venv in await service.venvs.list()] in ([], ["default"])
        health = await service.health()
    assert health.status == "failing"
    assert "walls are missing" in health.problems[0]


@pytest.mark.parametrize("system", ["darwin", "win32", "freebsd14"])
async def test_elsewhere_than_on_linux_code_is_refused_in_one_line_and_environments_work(
    base: Path, monkeypatch: pytest.MonkeyPatch, system: str
):
    monkeypatch.setattr("mcp_python_executor.sandbox.probe.sys", SimpleNamespace(platform=system))
    async with open_service(Settings(venvs_base_path=base)) as service:
        with pytest.raises(WallsMissing) as refused:
            await service.execute(request("1"))
        await service.venvs.create(f"on-{system}")
        assert f"on-{system}" in [venv.name for venv in await service.venvs.list()]
        await service.venvs.delete(f"on-{system}")
        health = await service.health()
    assert "\n" not in str(refused.value)
    assert f"system: {system}; walls stand on Linux and in WSL 2 only; or choose ISOLATION=none " in str(refused.value)
    assert (health.status, health.isolation["strictPossible"]) == ("failing", False)


async def test_without_walls_none_runs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    async with opened(tmp_path, isolation=Isolation.NONE) as service:
        result = await service.execute(request("1"))
        health = await service.health()
    assert (result.result, result.isolation) == ("1", "none")
    assert health.isolation["mode"] == "none"


@pytest.mark.parametrize(("isolation", "reads"), [(Isolation.STRICT, False), (Isolation.NONE, True)])
async def test_without_bubblewrap_uv_reads_and_writes_what_is_its_own(
    tmp_path: Path, walls: Walls, monkeypatch: pytest.MonkeyPatch, isolation: Isolation, *, reads: bool
):
    if not walls.scopes:
        pytest.skip(f"the kernel's Landlock is too old: ABI {walls.landlock_abi}")
    uv, secret, venvs_path = tmp_path / "uv", tmp_path / "secret", tmp_path / "venvs"
    secret.write_text("canary")
    uv.write_text(f"#!/bin/sh\necho written > {tmp_path}/written\necho error: to tell: $(cat {secret}) >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr("mcp_python_executor.venvs.uv.find_uv_bin", lambda: uv)
    without = replace(walls, bubblewrap=None, unprivileged=False)
    async with open_environments(Settings(venvs_base_path=venvs_path, isolation=isolation), without) as venvs:
        with pytest.raises(PackageError, match="to tell") as failed:
            await venvs.create("lab")
    assert ("canary" in str(failed.value)) is reads
    assert (tmp_path / "written").exists() is reads


async def test_health_tells_what_was_executed(tmp_path: Path):
    async with opened(tmp_path) as service:
        await service.execute(request("1"))
        await service.execute(request("1/0"))
        health = await service.health()
        deep = await service.health("default")
        with pytest.raises(InvalidArgument, match="does not exist"):
            await service.health("missing")
    assert (health.status, health.problems) == ("ok", [])
    assert health.executions["totals"] == {"ok": 1, "error": 1}
    assert set(health.executions["latencyMs"]) == {"p50", "p95", "p99"}
    assert [wall["name"] for wall in health.isolation["walls"]] == [
        *("bubblewrap", "namespaces", "mounts", "landlock", "seccomp", "processes")
    ]
    assert deep.venvs[0]["packages"] == []


async def test_a_cut_output_is_read_whole(tmp_path: Path):
    async with opened(tmp_path, max_output_bytes=256) as service:
        result = await service.execute(request("print('x' * 1000)"))
        assert (await service.read(result.execution_id, "stdout")).data == b"x" * 1000 + b"\n"
        assert (await service.read(result.execution_id, "stderr")).data == b""
        with pytest.raises(InvalidArgument, match="offset=2000 is past the end of 'stdout', which has 1001 bytes"):
            await service.read(result.execution_id, "stdout", 2000)


@pytest.mark.parametrize(
    ("settings", "kind", "reason"),
    [
        ({"default_venv_name": "../x"}, SettingsError, "DEFAULT_VENV_NAME='../x'"),
        ({"preinstalled_packages": "-r x"}, SettingsError, "PREINSTALLED_PACKAGES"),
        ({"output_path": Path("/proc/x")}, SettingsError, "OUTPUT_PATH"),
        ({"venvs_base_path": Path("/proc/x")}, StoreError, "VENVS_BASE_PATH"),
    ],
)
async def test_a_start_that_fails_says_where(
    tmp_path: Path, settings: dict[str, Any], kind: type[ExecutorError], reason: str
):
    given: dict[str, Any] = {"venvs_base_path": tmp_path / "venvs", **settings}
    chosen = Settings(**given)
    with pytest.raises(kind, match=reason):
        async with open_service(chosen):
            pass


@pytest.mark.parametrize("below", ["", "below"])
async def test_files_are_listed_where_the_output_path_is_a_link_or_lies_below_one(tmp_path: Path, below: str):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    flags = {"output_path": str(tmp_path / "link" / below), "venvs_base_path": str(tmp_path / "venvs")}
    async with open_service(load(flags)) as service:
        result = await service.execute(request("import os; open(os.environ['OUTPUT_PATH'] + '/file', 'w').write('x')"))
    assert [file.path for file in result.files] == [tmp_path / "real" / below / "file"]


async def test_the_next_server_starts_with_what_programs_imported(tmp_path: Path):
    loads = request("import sys; 'color' + 'sys' in sys.modules, 'ya' + 'ml' in sys.modules  # yaml")
    async with opened(tmp_path, preinstalled_packages="pyyaml") as service:
        await service.execute(request("import colorsys, yaml"))
    async with opened(tmp_path) as service:
        await service.wait_for_default("default")
        await warmed(service, loads)
        await service.venvs.install("default", "iniconfig")
        await warmed(service, loads)  # what was learned before the change is known after it
        await service.venvs.install("other", "iniconfig")
        assert (await service.execute(replace(loads, venv_name="other"))).result == "(False, False)"


async def test_an_environment_that_ran_code_is_warm_again_after_its_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    warm, warmed_again = Zygotes.warm, list[Path]()

    async def noted(self: Zygotes, surroundings: Surroundings) -> None:
        await warm(self, surroundings)
        warmed_again.append(surroundings.interpreter.prefix)

    async with opened(tmp_path) as service:
        await service.venvs.install("one", "pyyaml")
        await service.execute(request("1", venv_name="one"))
        await service.execute(request("1"))
        monkeypatch.setattr(Zygotes, "warm", noted)
        await service.venvs.install("one", "iniconfig")
        await until(lambda: bool(warmed_again))
        assert (await service.execute(request("import iniconfig, sys; sys.prefix", venv_name="one"))).result == repr(
            str(warmed_again[0])
        )


async def warmed(service: Service, loads: ExecutionRequest) -> None:
    """Returns when a program finds its modules imported ahead."""
    with anyio.fail_after(60):
        while (await service.execute(loads)).result != "(True, True)":  # noqa: ASYNC110 - it has no event of its own
            await anyio.sleep(0.05)


async def test_what_was_learned_goes_with_the_last_environment_it_is_of(tmp_path: Path):
    learned = tmp_path / "venvs" / ".store" / "learned"
    async with opened(tmp_path) as service:
        await service.venvs.install("some", "iniconfig")
        await service.execute(request("import colorsys", venv_name="some"))
        await until(lambda: any("colorsys" in file.read_text() for file in learned.glob("*.json")))
        await service.venvs.delete("some", confirm=True)
        await until(lambda: not any("colorsys" in file.read_text() for file in learned.glob("*.json")))
