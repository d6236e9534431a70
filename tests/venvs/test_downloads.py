"""Interpreters that are downloaded where none on the machine fits: by real uv, from a mirror on this machine."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import pythons
from mcp_python_executor.venvs.files import remove_tree
from mcp_python_executor.venvs.uv import Confine
from tests.venvs.archives import Offer, listing
from tests.venvs.conftest import Open
from tests.venvs.invariants import all_is_tidy, each_holds_what_it_says

pytestmark = pytest.mark.anyio


async def test_a_version_that_no_interpreter_here_has_is_downloaded_and_works(opened: Open, base: Path, offer: Offer):
    told: list[str] = []
    async with opened(environment=offer.environment) as venvs:
        made = await venvs.create("lab", python_version=offer.version, listener=told.append)
        assert made.python_version == offer.version
        assert told[0] == f"downloading Python {offer.version}"
        assert [stage for stage in told if stage.startswith(f"downloading {offer.key}")]
        await venvs.install("lab", "six")
        await each_holds_what_it_says(venvs, base)
        async with venvs.lease("lab") as generation:
            assert generation.base_prefix.is_relative_to(base / ".store" / "pythons" / offer.key)
            code = "import sys; print(sys.version.split()[0], sys.base_prefix)"
            said = await anyio.run_process([generation.python, "-I", "-c", code])
            assert said.stdout.decode().split() == [offer.version, str(generation.base_prefix)]


async def test_it_is_found_the_next_time(opened: Open, offer: Offer):
    async with opened(environment=offer.environment) as venvs:
        await venvs.create("lab", python_version=f"=={offer.version}")
    async with opened(environment={**offer.environment, "UV_PYTHON_DOWNLOADS": "never"}) as venvs:
        told: list[str] = []
        made = await venvs.create("next", python_version=offer.version, listener=told.append)
        assert made.python_version == offer.version
        assert not [stage for stage in told if stage.startswith("downloading")]
    assert offer.mirror.asked == 1


async def test_its_standard_library_is_compiled(opened: Open, base: Path, offer: Offer):
    async with opened(environment=offer.environment) as venvs:
        await venvs.create("lab", python_version=offer.version)
    assert list((base / ".store" / "pythons" / offer.key).glob("cpython-*/lib/python*/__pycache__/argparse.*.pyc"))


async def test_it_stays_while_an_environment_uses_it_and_goes_with_the_last(opened: Open, base: Path, offer: Offer):
    kept = base / ".store" / "pythons" / offer.key
    async with opened(environment=offer.environment) as venvs:
        await venvs.create("one", python_version=offer.version)
        await venvs.install("one", "six")
        await venvs.tidy()
        await venvs.create("two", python_version=offer.version)
        await venvs.delete("one")
        await venvs.tidy()
        assert kept.is_dir()
        async with venvs.lease("two") as generation:
            await venvs.delete("two")
            await venvs.tidy()
            await anyio.run_process([generation.python, "-I", "-c", ""])
        await all_is_tidy(venvs, base)
        assert not kept.exists()


async def test_a_download_that_is_cancelled_half_way_leaves_nothing_that_is_found(
    opened: Open, base: Path, offer: Offer
):
    offer.mirror.may_go_on.clear()
    async with opened(environment=offer.environment) as venvs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(venvs.create, "lab", python_version=offer.version))
            assert await anyio.to_thread.run_sync(offer.mirror.half_sent.wait, 60)
            tasks.cancel_scope.cancel()
        assert list((base / ".store" / "pythons").iterdir()) == []
        assert await venvs.names() == []
        await all_is_tidy(venvs, base)
        offer.mirror.may_go_on.set()
        await venvs.create("lab", python_version=offer.version)
        await each_holds_what_it_says(venvs, base)


async def test_two_servers_that_need_the_same_download_it_once(opened: Open, offer: Offer):
    async with opened(environment=offer.environment) as one, opened(environment=offer.environment) as two:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(one.create, "one", python_version=offer.version))
            tasks.start_soon(partial(two.create, "two", python_version=offer.version))
        assert await one.names() == ["one", "two"]
    assert offer.mirror.asked == 1


async def test_a_place_that_cannot_be_reached_is_told_with_the_versions_that_are_here(opened: Open, offer: Offer):
    environment = {**offer.environment, "UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9"}
    async with opened(environment=environment) as venvs:
        expected = (
            r"no Python '.*' on this machine; there are .*; it can't be downloaded from http://127\.0\.0\.1:9: "
            "connection refused; install it, or give another version"
        )
        with pytest.raises(InvalidArgument, match=expected):
            await venvs.create("lab", python_version=offer.version)
        assert await venvs.names() == []


async def test_an_archive_that_is_not_the_one_that_uv_knows_is_refused(opened: Open, base: Path, offer: Offer):
    listing(Path(offer.environment["UV_PYTHON_DOWNLOADS_JSON_URL"]), offer.version, sha256="0" * 64)
    async with opened(environment=offer.environment) as venvs:
        with pytest.raises(InvalidArgument, match=r"it can't be downloaded.*[Hh]ash"):
            await venvs.create("lab", python_version=offer.version)
    assert list((base / ".store" / "pythons").iterdir()) == []


async def test_who_forbids_downloads_is_obeyed(opened: Open, offer: Offer):
    async with opened(environment={**offer.environment, "UV_PYTHON_DOWNLOADS": "never"}) as venvs:
        with pytest.raises(InvalidArgument, match="UV_PYTHON_DOWNLOADS=never forbids"):
            await venvs.create("lab", python_version=offer.version)
    assert offer.mirror.asked == 0


async def test_what_is_too_old_or_not_known_is_not_downloaded(opened: Open, offer: Offer):
    listing(Path(offer.environment["UV_PYTHON_DOWNLOADS_JSON_URL"]), "3.8.20")
    async with opened(environment=offer.environment) as venvs:
        for asked in (">=3.8,<3.9", "3.99"):
            with pytest.raises(InvalidArgument, match=r"there are .*; there is none to download"):
                await venvs.create("lab", python_version=asked)
    assert offer.mirror.asked == 0


async def test_it_can_come_from_a_folder_too(opened: Open, offer: Offer, archive: Path, tmp_path: Path):
    (tmp_path / "mirror" / "1").mkdir(parents=True)
    (tmp_path / "mirror" / "1" / "python.tar.gz").hardlink_to(archive)
    environment = {**offer.environment, "UV_PYTHON_INSTALL_MIRROR": f"file://{tmp_path}/mirror"}
    async with opened(environment=environment) as venvs:
        assert (await venvs.create("lab", python_version=offer.version)).python_version == offer.version


async def test_only_the_download_itself_may_write_where_interpreters_are(
    opened: Open, confine: Confine, base: Path, offer: Offer
):
    place = base / ".store" / "pythons"
    writing: list[Sequence[str]] = []

    def watch(policy: Policy, command: Sequence[str]) -> list[str]:
        open_to = [path for path in policy.write if place.is_relative_to(path) or path.is_relative_to(place)]
        if open_to and place not in policy.read:
            writing.append(command)
        return confine(policy, command)

    async with opened(confine=watch, environment=offer.environment) as venvs:
        await venvs.create("lab", python_version=offer.version)
        await venvs.install("lab", "six, docopt")
        await venvs.tidy()
    assert [command[1:3] for command in writing] == [["python", "install"]]


async def test_an_environment_whose_interpreter_was_removed_by_hand_is_repaired_with_another_download(
    opened: Open, base: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch
):
    async with opened(environment=offer.environment) as venvs:
        await venvs.create("lab", python_version=offer.version)
        await venvs.install("lab", "six")
    mine = pythons.default()
    # As on a machine where all others are of another minor version, for one of the same would take its place.
    monkeypatch.setattr(pythons, "default", lambda: replace(mine, version="3.99.0"))
    monkeypatch.setattr(pythons, "SYSTEM_BINS", ())
    await anyio.to_thread.run_sync(remove_tree, base / ".store" / "pythons" / offer.key)
    async with opened(environment=offer.environment) as venvs:
        assert "is gone; repair it in a terminal" in (await venvs.get("lab")).problem
        told: list[str] = []
        assert (await venvs.repair("lab", listener=told.append)).python_version == offer.version
        assert told[0] == f"downloading Python {offer.version}"
        await each_holds_what_it_says(venvs, base)
        await all_is_tidy(venvs, base)
    assert offer.mirror.asked == 2
