"""What every test gets: leaks are failures, long suites are sampled, and uv's downloads are shared."""

import ctypes
import gc
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio
import hypothesis
import pytest

from mcp_python_executor.sandbox.probe import Walls, probe
from mcp_python_executor.settings import VARIABLES

pytest_plugins = ["tests.bench"]

T = TypeVar("T")

# Decides which cases a sample has: the same each time.
SEED = 20260729


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run every case of the long suites, not a sample")
    parser.addoption("--update-texts", action="store_true", help="write anew what tests/server/test_texts.py expects")
    parser.addoption(
        "--without-wall",
        choices=["bubblewrap", "namespaces", "landlock", "seccomp"],
        help="take one wall down in tests/escapes: exactly its cases of tests/escapes/table.py must fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    for variable in VARIABLES.values():  # the settings of whoever runs the tests are not those of the tests
        os.environ.pop(variable.name, None)
    # The same examples each time, and no verdict by the clock.
    hypothesis.settings.register_profile(
        "project", derandomize=True, deadline=None, max_examples=1000 if config.getoption("--long") else 100
    )
    hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def sample(request: pytest.FixtureRequest) -> Callable[[Sequence[T], int], list[T]]:
    """`sample(cases, k)`: the same `k` of `cases` each time, in their order; with --long all of them."""

    def choose(cases: Sequence[T], k: int) -> list[T]:
        if request.config.getoption("--long") or k >= len(cases):
            return list(cases)
        chosen = random.Random(SEED).sample(range(len(cases)), k)  # noqa: S311 - nothing secret
        return [cases[index] for index in sorted(chosen)]

    return choose


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The product runs on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VENVS_BASE_PATH for all tests that only need some environments: what one made or downloaded, the next finds."""
    return tmp_path_factory.mktemp("venvs")


@pytest.fixture(scope="session")
def walls() -> Walls:
    """The walls of this machine. What needs them is skipped where they are too few, and never in CI."""
    found = anyio.run(probe)
    if not found.strict:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(found.missing)
    return found


@pytest.fixture
def told_walls() -> dict[str, str]:
    """What is to be told of bubblewrap and Landlock here: as they say it themselves, not as the product asks them."""
    program = shutil.which("bwrap") or pytest.skip("bubblewrap is missing")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    create_ruleset, ask_for_version = 444, 1  # landlock_create_ruleset(2)
    abi = ctypes.CDLL(None).syscall(create_ruleset, None, ctypes.c_size_t(0), ask_for_version)
    assert abi > 0
    return {"bubblewrap": version, "landlock": f"ABI {abi}"}


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fails a test that leaves a descriptor open or a child process, one that ended and was not waited for included."""
    descriptors, children = open_descriptors(), child_processes()
    yield
    if open_descriptors().keys() - descriptors.keys():
        gc.collect()  # what only a reference cycle still holds is not leaked
    left = {number: what for number, what in open_descriptors().items() if number not in descriptors}
    assert not left, f"descriptors left open: {left}"
    left = {pid: what for pid, what in child_processes().items() if pid not in children}
    assert not left, f"child processes left: {left}"


def open_descriptors() -> dict[int, str]:
    """This process's open descriptors and what each is open on."""
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the directory's own descriptor is among them, and closed by now
            found[int(entry.name)] = str(entry.readlink())
    return found


def child_processes() -> dict[int, str]:
    """This process's children with their names, ended ones included that nobody has waited for."""
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that ended meanwhile; its children are another's now
            for pid in (task / "children").read_text().split():
                found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found
