"""The engine: one async context manager that wires the floors below, in the order in which a start can fail."""

import os
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from mcp_python_executor import health
from mcp_python_executor.errors import ExecutorError, InvalidArgument, SettingsError, WallsMissing
from mcp_python_executor.execution import scripts
from mcp_python_executor.execution.cgroups import open_cgroups
from mcp_python_executor.execution.engine import Engine
from mcp_python_executor.execution.model import ExecutionRequest, ExecutionResult, Interpreter, OutputListener
from mcp_python_executor.execution.records import PAGE_BYTES, Page
from mcp_python_executor.execution.runner import Runner
from mcp_python_executor.execution.runs import open_runs
from mcp_python_executor.execution.surroundings import Surroundings, surroundings
from mcp_python_executor.execution.zygotes import Zygotes, open_zygotes
from mcp_python_executor.health import Health
from mcp_python_executor.sandbox import bubblewrap, landlock
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.sandbox.probe import Confinement, Walls, probe
from mcp_python_executor.settings import Isolation, Settings
from mcp_python_executor.venvs import requirements
from mcp_python_executor.venvs.model import Generation, venv_name
from mcp_python_executor.venvs.operations import Venvs, open_venvs

log = structlog.get_logger()


class Service:
    """Everything that tools and commands ask for. Make it with `open_service`."""

    def __init__(self, settings: Settings, walls: Walls, venvs: Venvs, zygotes: Zygotes, runner: Runner) -> None:
        self.settings, self.walls, self.venvs = settings, walls, venvs
        self._zygotes, self._runner = zygotes, runner
        self.confinement = zygotes.engine.confinement
        self._started = time.monotonic()
        # Those of the latest environment that ran inline code: the next call is likely to be for the same.
        self._inline: dict[Generation, Surroundings] = {}
        # By environment: the generation that was asked for last.
        self._used: dict[str, Generation] = {}
        self._default_made = anyio.Event()
        self._default_failure: ExecutorError | None = None

    async def execute(self, request: ExecutionRequest, listener: OutputListener | None = None) -> ExecutionResult:
        """Runs a program in the environment that the request names; `listener` hears its output as it comes.

        Raises:
            InvalidArgument: no such environment, or a script that may not be run.
            WallsMissing: this machine lacks walls that ISOLATION=strict asks for.
            ExecutorError: it could not be run.
        """
        self._check_walls()
        script = None
        if request.script is not None:
            script = await anyio.to_thread.run_sync(scripts.check, request.script, self.settings.script_roots)
        await self.wait_for_default(request.venv_name)
        async with self.venvs.lease(request.venv_name) as generation:
            self._used[request.venv_name] = generation
            return await self._runner.execute(request, await self._surroundings(generation, script), listener)

    def _check_walls(self) -> None:
        if self.settings.isolation is Isolation.STRICT and not self.walls.strict:
            raise WallsMissing(
                f"code does not run here, for ISOLATION=strict needs more walls: {self.walls.missing}; or choose "
                "ISOLATION=none (--isolation none), which runs code as a plain process with all your rights"
            )

    async def _surroundings(self, generation: Generation, script: Path | None) -> Surroundings:
        interpreter = Interpreter(
            generation.id, generation.python, generation.path, generation.base_prefix, generation.python_version
        )
        if script is None:
            if generation not in self._inline:
                self._inline[generation] = surroundings(self.settings, interpreter, None, os.environ)
            return self._inline[generation]
        return await anyio.to_thread.run_sync(surroundings, self.settings, interpreter, script, os.environ)

    async def wait_for_default(self, venv_name: str) -> None:
        """Returns once the default environment is there, if `venv_name` is that one; others are not waited for.

        Raises:
            ExecutorError: it could not be made.
        """
        if venv_name == self.settings.default_venv_name:
            if not self._default_made.is_set():
                await self._default_made.wait()
            if self._default_failure is not None and venv_name not in await self.venvs.names():
                raise self._default_failure

    async def ensure_default(self, packages: Sequence[str]) -> None:
        """Makes the default environment where it is missing, and warms its interpreter for the first call."""
        name = self.settings.default_venv_name
        try:
            await self.venvs.ensure(name, list(packages))
        except ExecutorError as error:
            log.warning("default_venv_failed", venv=name, reason=str(error))
            self._default_failure = error
        finally:
            self._default_made.set()
        if self._default_failure is None and (self.walls.strict or self.settings.isolation is Isolation.NONE):
            await self._warm(name)

    def change_with(self, generations: Collection[str], tasks: TaskGroup) -> None:
        """Lets go of all but `generations`; an environment that ran code, and has changed, is warmed again."""
        self._zygotes.let_go(generations)
        self._inline = {generation: of for generation, of in self._inline.items() if generation.id in generations}
        for name in [name for name, generation in self._used.items() if generation.id not in generations]:
            del self._used[name]
            tasks.start_soon(self._warm, name)

    async def _warm(self, name: str) -> None:
        try:
            async with self.venvs.lease(name) as generation:
                self._used[name] = generation
                await self._zygotes.warm(await self._surroundings(generation, None))
        except InvalidArgument:
            return  # it was deleted
        except ExecutorError as error:
            log.warning("zygote_not_warmed", venv=name, reason=str(error))

    async def health(self, venv_name: str = "") -> Health:
        """The state of the server, and of one or all environments.

        Raises:
            InvalidArgument: no such environment.
        """
        if venv_name == self.settings.default_venv_name:
            await self._default_made.wait()
        return await health.examine(
            self.settings,
            self.walls,
            self.venvs,
            self._runner,
            cgroups=self._zygotes.engine.cgroups,
            uptime_seconds=time.monotonic() - self._started,
            default_failure=str(self._default_failure or ""),
            venv_name=venv_name,
        )

    async def read(self, execution_id: str, source: str, offset: int = 0, limit: int = PAGE_BYTES) -> Page:
        """A page of an earlier execution's `stdout` or `stderr`, or of a file that its result lists; sizes in bytes.

        Raises:
            InvalidArgument: nothing of that name is kept, or it ends before `offset`.
        """
        return await anyio.to_thread.run_sync(self._runner.records.page, execution_id, source, offset, limit)


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncGenerator[Service]:
    """The engine for `settings`; everything it started is gone when the context ends.

    Raises:
        ExecutorError: of the class for its cause; the start stops there.
    """
    _check_default_name(settings.default_venv_name)
    packages = _preinstalled(settings)
    _make_output_path(settings.output_path)
    walls = await probe(*filter(None, (settings.venvs_base_path, settings.output_path)))
    log.info("walls", strict=walls.strict, isolation=settings.isolation, missing=walls.missing)
    async with open_environments(settings, walls) as venvs:
        with open_cgroups() as cgroups, open_runs(settings.venvs_base_path / ".runs") as runs:
            engine = Engine(_confinement(settings, walls), runs, settings.limits, cgroups, venvs.hold, venvs.learned)
            async with anyio.create_task_group() as tasks, open_zygotes(engine) as zygotes:
                runner = Runner(zygotes, tasks)
                service = Service(settings, walls, venvs, zygotes, runner)
                venvs.tell_before_collection(partial(service.change_with, tasks=tasks))
                tasks.start_soon(runner.expire)
                tasks.start_soon(service.ensure_default, packages)
                try:
                    yield service
                finally:
                    tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_environments(settings: Settings, walls: Walls) -> AsyncGenerator[Venvs]:
    """The environments alone, without what runs code in them.

    Raises:
        StoreError: VENVS_BASE_PATH can't be used.
    """

    def confine(policy: Policy, argv: Sequence[str]) -> list[str]:
        if walls.bubblewrap is not None:
            return bubblewrap.command(walls.bubblewrap, policy, argv, unprivileged=walls.unprivileged)
        return landlock.command(policy, argv) if _confinement(settings, walls).strict else list(argv)

    confinement = walls.confinement if walls.bubblewrap else None
    async with open_venvs(
        settings.venvs_base_path,
        default_name=settings.default_venv_name,
        timeout_seconds=settings.package_timeout_ms / 1000,
        confine=confine,
        may_build=confinement is not None or settings.isolation is Isolation.NONE,
        build_walls=[name for name in confinement.names if name in ("landlock", "seccomp")] if confinement else [],
    ) as venvs:
        yield venvs


def _confinement(settings: Settings, walls: Walls) -> Confinement:
    """What runs are put behind. Where `strict` can't be met there are none: it refuses before one begins."""
    strict = settings.isolation is Isolation.STRICT
    return walls.confinement if strict and walls.confinement else Confinement()


def _check_default_name(name: str) -> None:
    try:
        venv_name(name)
    except ExecutorError as error:
        raise SettingsError(f"DEFAULT_VENV_NAME={name!r}: {error}") from error


def _preinstalled(settings: Settings) -> list[str]:
    if not settings.preinstalled_packages:
        return []
    try:
        return [str(requirement) for requirement in requirements.parse(settings.preinstalled_packages)]
    except ExecutorError as error:
        raise SettingsError(f"PREINSTALLED_PACKAGES={settings.preinstalled_packages!r}: {error}") from error


def _make_output_path(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"OUTPUT_PATH={str(path)!r} can't be made: {error.strerror}; name a writable folder"
        ) from error
