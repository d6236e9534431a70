"""An install that ends half-way, by its caller or by the clock: what came whole until then is not downloaded again."""

from collections.abc import Generator
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import PackageError
from mcp_python_executor.venvs.operations import Venvs
from tests.venvs.conftest import Open
from tests.venvs.index import Index, open_index
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio

_BOTH = ["quick", "slow"]


@pytest.fixture
def index(tmp_path: Path) -> Generator[Index]:
    """One of whose two packages comes at once, the other half."""
    with open_index(tmp_path / "index", *_BOTH, held="slow") as index:
        yield index


@pytest.fixture
def from_index(opened: Open, index: Index) -> Open:
    return partial(opened, environment={"UV_DEFAULT_INDEX": index.url})


def _is_kept(base: Path) -> bool:
    # What points to it is written after it.
    return bool(list((base / ".store" / "cache").glob("wheels-v*/**/quick/*.http")))


async def _until_half_is_there(index: Index, base: Path) -> None:
    assert await anyio.to_thread.run_sync(index.half_sent.wait, 60)
    with anyio.fail_after(60):
        while not _is_kept(base):  # noqa: ASYNC110 - uv tells nobody
            await anyio.sleep(0.01)


async def _goes_on(venvs: Venvs, base: Path, index: Index) -> None:
    """The next call makes do with what is there, and leaves nothing of the one before."""
    asked = index.asked["quick"]
    index.may_go_on.set()
    await venvs.install("lab", _BOTH)
    assert index.asked["quick"] == asked
    await each_holds_what_it_says(venvs, base)
    await all_is_tidy(venvs, base)


async def test_a_cancelled_install_keeps_what_came_whole(from_index: Open, base: Path, index: Index):
    async with from_index() as venvs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(venvs.install, "lab", _BOTH)
            await _until_half_is_there(index, base)
            tasks.cancel_scope.cancel()
        assert await venvs.names() == []
        await all_is_tidy(venvs, base)
        await _goes_on(venvs, base, index)


async def test_an_install_that_loses_the_network_half_way_says_so_and_keeps_what_came_whole(
    opened: Open, base: Path, index: Index
):
    index.is_lost = True
    async with opened(environment={"UV_DEFAULT_INDEX": index.url, "UV_HTTP_RETRIES": "0"}) as venvs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_fails, venvs)
            await _until_half_is_there(index, base)
            index.may_go_on.set()
        assert await venvs.names() == []
        await all_is_tidy(venvs, base)
        index.is_lost = False
        await _goes_on(venvs, base, index)


async def _fails(venvs: Venvs) -> None:
    with pytest.raises(PackageError, match=r"the package index can't be reached: end of file.*; check the network"):
        await venvs.install("lab", _BOTH)


async def test_an_install_whose_time_runs_out_keeps_what_came_whole(from_index: Open, base: Path, index: Index):
    for attempt in count():  # a machine may be too busy for the first of them to come that far
        async with from_index(timeout_seconds=2**attempt) as venvs:
            with pytest.raises(PackageError, match="what was downloaded is kept, so call again"):
                await venvs.install("lab", _BOTH)
        if _is_kept(base):
            break
    async with from_index() as venvs:
        assert await venvs.names() == []
        await _goes_on(venvs, base, index)
