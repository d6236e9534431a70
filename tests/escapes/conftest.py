"""Each attack is tried behind every set of walls that `strict` accepts, or with one wall taken down.

`pytest tests/escapes --without-wall=NAME` takes one wall down where all stand: exactly the cases of that wall in
`WITHOUT` must fail then, which is how we know that each wall is there. Those in `UNDECIDED` may.
"""

import ctypes
import os
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mcp_python_executor.sandbox.probe import Confinement, Walls, choose_confinement
from tests.bench import OpenBench
from tests.conftest import SEED
from tests.escapes.attack import CANARY
from tests.escapes.table import UNDECIDED, WITHOUT

_libc = ctypes.CDLL(None, use_errno=True)

# A run without --long tries one in so many of the cases behind all walls, and of those behind fewer.
_ONE_IN, _ONE_IN_FEWER = 4, 14
# Root's run and an ordinary user's take different ones: together they cover twice as many.
_SHARE = 0 if os.getuid() == 0 else 1
_ALL_WALLS = "all walls"
# As the table in `choose_confinement` has them: what is missing.
_MISSING = {_ALL_WALLS: (), "no namespaces": ("namespaces",), "no bubblewrap": ("bubblewrap", "namespaces")}
if os.getuid() == 0:
    del _MISSING["no bubblewrap"]  # refused to root


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "confinement" in metafunc.fixturenames:
        only = metafunc.config.getoption("--without-wall")
        metafunc.parametrize("confinement", [_ALL_WALLS] if only else list(_MISSING), indirect=True)


def _is_tried_behind_walls(item: pytest.Function) -> bool:
    return item.path.is_relative_to(Path(__file__).parent) and "confinement" in item.fixturenames


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if isinstance(item, pytest.Function) and _is_tried_behind_walls(item)]
    wall = config.getoption("--without-wall")
    if wall:
        config.hook.pytest_deselected(items=[item for item in items if item not in here])
        items[:] = here
        for item in here:
            name = re.sub(rf"\[{_ALL_WALLS}\]|{_ALL_WALLS}-|-{_ALL_WALLS}", "", f"{item.path.name}::{item.name}")
            if name in WITHOUT[wall]:
                item.add_marker(pytest.mark.xfail(strict=True, reason=f"without {wall}"))
            elif name in UNDECIDED[wall]:
                item.add_marker(pytest.mark.xfail(strict=False, reason="not refused in our words"))
    elif not config.getoption("--long"):
        kept: set[pytest.Item] = set()
        for all_walls, one_in in ((True, _ONE_IN), (False, _ONE_IN_FEWER)):
            cases = [item for item in here if (item.callspec.params["confinement"] == _ALL_WALLS) is all_walls]
            shuffled = random.Random(SEED).sample(cases, len(cases))  # noqa: S311 - nothing secret
            kept.update(shuffled[_SHARE::one_in])
        dropped: set[pytest.Item] = {item for item in here if item not in kept}
        dropped.update(item for item in items if item.path.name == "test_table.py")  # whole suites each
        config.hook.pytest_deselected(items=list(dropped))
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def confinement(request: pytest.FixtureRequest, walls: Walls) -> Confinement:
    """The walls that the case counts on."""
    stand = walls.confinement
    assert stand, walls.missing
    assert stand.namespaces, "this machine can't try every set of walls"
    missing: tuple[str, ...] = _MISSING[request.param]
    fewer = choose_confinement(
        None if "bubblewrap" in missing else stand.bubblewrap,
        namespaces="namespaces" not in missing,
        landlock=True,
        scopes=walls.scopes,
        seccomp=True,
        unprivileged=stand.unprivileged,
    )
    return fewer or pytest.skip(f"the kernel's Landlock is too old: ABI {walls.landlock_abi}")


@pytest.fixture
def standing(confinement: Confinement, request: pytest.FixtureRequest) -> Confinement:
    """What stands of `confinement`: all of it, or what is left with one wall taken down."""
    taken = request.config.getoption("--without-wall")
    left = {name: getattr(confinement, name) for name in confinement.names if name != taken}
    return Confinement(**left, unprivileged=confinement.unprivileged)


@pytest.fixture
def open_bench(open_bench: OpenBench, standing: Confinement) -> OpenBench:
    """As tests/bench.py has it, behind what is standing."""
    return partial(open_bench, confinement=standing)


@pytest.fixture
def key() -> Iterator[None]:
    """A canary in this process's keyrings, which its children inherit."""
    add_key, keyctl, revoke, session, user = 248, 250, 3, -3, -4
    found = [
        _libc.syscall(add_key, b"user", b"canary-key", CANARY.encode(), len(CANARY), where) for where in (session, user)
    ]
    if not [key for key in found if key > 0]:
        pytest.skip("the kernel has no keyrings")
    yield
    for each in found:
        _libc.syscall(keyctl, revoke, each)
