import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from packaging.version import Version

from mcp_python_executor.errors import InvalidArgument, PackageError, StoreError
from mcp_python_executor.sandbox.policy import Policy
from mcp_python_executor.venvs import pythons
from mcp_python_executor.venvs.locks import locked
from mcp_python_executor.venvs.model import Change, VenvStatus
from mcp_python_executor.venvs.operations import Venvs, open_venvs
from mcp_python_executor.venvs.uv import Confine
from tests.conftest import open_descriptors
from tests.venvs.archives import Offer
from tests.venvs.conftest import BUBBLEWRAP, Open, behind_bubblewrap
from tests.venvs.invariants import all_is_tidy

pytestmark = pytest.mark.anyio


def _says(python: Path, code: str) -> str:
    """What the environment's own interpreter prints: these are our own test packages, so no walls are needed."""
    return subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


async def test_a_new_environment_has_the_standard_library_and_nothing_else(venvs: Venvs, base: Path):
    made = await venvs.create("lab", description="for trying things")
    assert made.description == "for trying things"
    assert made.status is VenvStatus.READY
    assert made.package_count == 0
    assert await venvs.packages("lab") == []
    assert _says(base / "lab" / "bin" / "python", "import json, sys; print(sys.prefix)") == str(base / "lab")


async def test_environments_are_listed_by_name_and_the_default_is_marked(venvs: Venvs):
    for name in ("zeta", "default", "alpha"):
        await venvs.create(name)
    assert [(venv.name, venv.is_default) for venv in await venvs.list()] == [
        ("alpha", False),
        ("default", True),
        ("zeta", False),
    ]
    assert await venvs.names() == ["alpha", "default", "zeta"]


async def test_what_is_installed_can_be_imported_and_is_listed(venvs: Venvs, base: Path):
    report = await venvs.install("lab", "six, iniconfig")
    assert report.created
    assert [change.name for change in report.added] == ["iniconfig", "six"]
    assert _says(base / "lab" / "bin" / "python", "import six, iniconfig; print('both')") == "both"
    packages = await venvs.packages("lab")
    assert [(package.name, package.version) for package in packages] == [
        (change.name, change.version) for change in report.added
    ]
    assert all(package.requested for package in packages)
    assert (await venvs.get("lab")).package_count == 2


async def test_what_was_pulled_in_is_told_from_what_was_asked_for(venvs: Venvs):
    await venvs.install("lab", "python-dateutil==2.9.0.post0")
    assert [(package.name, package.requested) for package in await venvs.packages("lab")] == [
        ("python-dateutil", True),
        ("six", False),
    ]


async def test_what_is_there_already_is_told_and_nothing_is_done(venvs: Venvs, base: Path):
    await venvs.install("lab", ["six"])
    before = (base / "lab").readlink()
    report = await venvs.install("lab", ["SIX"])
    assert [package.name for package in report.unchanged] == ["six"]
    assert not report.added
    assert not report.created
    assert (base / "lab").readlink() == before


async def test_a_change_of_version_is_told_with_the_one_before(venvs: Venvs):
    await venvs.install("lab", "six==1.16.0")
    report = await venvs.install("lab", "six==1.17.0")
    assert report.changed == [Change("six", "1.17.0", "1.16.0")]
    assert not report.added
    assert not report.removed


async def test_other_packages_keep_their_versions_when_one_is_added(venvs: Venvs):
    await venvs.install("lab", "six==1.16.0")
    await venvs.install("lab", "six")
    await venvs.install("lab", "iniconfig")
    assert {package.name: package.version for package in await venvs.packages("lab")}["six"] == "1.16.0"


async def test_an_uninstall_takes_along_what_only_that_package_needed(venvs: Venvs):
    await venvs.install("lab", "python-dateutil==2.9.0.post0, iniconfig")
    report = await venvs.uninstall("lab", "python-dateutil")
    assert [change.name for change in report.removed] == ["python-dateutil", "six"]
    assert [package.name for package in await venvs.packages("lab")] == ["iniconfig"]


async def test_what_another_request_needs_is_not_uninstalled_and_the_chain_is_told(venvs: Venvs):
    await venvs.install("lab", "python-dateutil==2.9.0.post0, six")
    with pytest.raises(PackageError, match="python-dateutil needs six; uninstall 'python-dateutil' too"):
        await venvs.uninstall("lab", "six")
    assert len(await venvs.packages("lab")) == 2
    assert len((await venvs.uninstall("lab", "six, python-dateutil")).removed) == 2


async def test_uninstalling_what_is_not_there_names_what_is(venvs: Venvs):
    await venvs.install("lab", "six")
    with pytest.raises(InvalidArgument, match="'numpy' is not installed in venv 'lab'; installed: six"):
        await venvs.uninstall("lab", "numpy")


async def test_what_a_marker_keeps_out_is_not_installed_and_can_be_taken_back(venvs: Venvs):
    assert not (await venvs.install("lab", "six; sys_platform == 'win32'")).added
    assert not (await venvs.uninstall("lab", "six")).removed
    with pytest.raises(InvalidArgument, match="'six' is not installed"):
        await venvs.uninstall("lab", "six")


@pytest.mark.skipif(BUBBLEWRAP is None, reason="needs bubblewrap to cut the network off")
async def test_an_uninstall_needs_no_network(opened: Open):
    async with opened() as venvs:
        await venvs.install("lab", "six, iniconfig")

    def cut_off(policy: Policy, command: Sequence[str]) -> list[str]:
        return behind_bubblewrap(replace(policy, network=False), command)

    async with opened(confine=cut_off) as venvs:
        await venvs.uninstall("lab", "six")
        assert [package.name for package in await venvs.packages("lab")] == ["iniconfig"]


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ("no-such-package-of-anybody-xyz", "'no-such-package-of-anybody-xyz' does not exist on the index"),
        ("six==99", "no version fits 'six==99'"),
        (["packaging<20", "packaging>=24"], "the requirements conflict: .*packaging"),
        ("pywin32>=306", "'pywin32' has no wheel for this Python and platform"),
    ],
)
async def test_an_install_that_fails_says_why_in_a_line_and_changes_nothing(
    venvs: Venvs, base: Path, packages: str, reason: str
):
    await venvs.install("lab", "iniconfig")
    before = (base / "lab").readlink()
    with pytest.raises(PackageError, match=reason) as caught:
        await venvs.install("lab", packages)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert (base / "lab").readlink() == before
    assert await venvs.names() == ["lab"]


async def test_a_failed_first_install_leaves_no_environment(venvs: Venvs):
    with pytest.raises(PackageError):
        await venvs.install("lab", "no-such-package-of-anybody-xyz")
    assert await venvs.names() == []


async def test_an_index_that_cannot_be_reached_is_told_with_its_address(opened: Open):
    async with opened(environment={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}) as venvs:
        with pytest.raises(
            PackageError, match=r"index at http://127\.0\.0\.1:9\S* can't be reached: connection refused"
        ):
            await venvs.install("lab", "click")


async def test_an_unknown_environment_is_told_with_those_there_are_and_the_closest(venvs: Venvs):
    with pytest.raises(InvalidArgument, match="venv 'lab' does not exist; there is none; create it with create_venv"):
        await venvs.get("lab")
    await venvs.create("science")
    await venvs.create("web")
    expected = "venv 'sience' does not exist; there are 'science', 'web'; did you mean 'science'"
    for operation in (
        venvs.get("sience"),
        venvs.packages("sience"),
        venvs.delete("sience"),
        venvs.uninstall("sience", "x"),
    ):
        with pytest.raises(InvalidArgument, match=expected):
            await operation


@pytest.mark.parametrize("name", ["../x", "", ".store", "a/b", "nul"])
async def test_a_bad_name_is_refused_by_each_operation_with_the_rule(venvs: Venvs, name: str):
    operations = [
        venvs.create(name),
        venvs.install(name, "six"),
        venvs.get(name),
        venvs.delete(name),
        venvs.describe(name, "x"),
        venvs.packages(name),
    ]
    for operation in operations:
        with pytest.raises(InvalidArgument, match="1 to 64 letters"):
            await operation


async def test_a_name_that_is_taken_is_refused(venvs: Venvs, base: Path):
    await venvs.create("lab")
    with pytest.raises(InvalidArgument, match="exists already"):
        await venvs.create("lab")
    (base / "notes").write_text("mine")
    with pytest.raises(InvalidArgument, match="taken by something else"):
        await venvs.install("notes", "six")


async def test_a_description_stays_when_packages_change(venvs: Venvs):
    await venvs.create("lab", description="old")
    assert (await venvs.describe("lab", "new, with 'quotes' and\nlines")).description.startswith("new, with")
    await venvs.install("lab", "six")
    assert (await venvs.get("lab")).description == "new, with 'quotes' and\nlines"


async def test_what_one_server_describes_and_installs_another_one_sees_and_keeps(opened: Open):
    async with opened() as one, opened() as other:
        await one.create("lab")
        await other.describe("lab", "for models")
        assert (await one.get("lab")).description == "for models"
        await one.install("lab", "six")
        assert (await other.get("lab")).description == "for models"
        assert [package.name for package in await other.packages("lab")] == ["six"]
        await other.delete("lab")
        assert await one.names() == []


async def test_the_default_environment_is_deleted_only_when_that_is_confirmed(venvs: Venvs):
    await venvs.create("default")
    with pytest.raises(InvalidArgument, match="confirm: true"):
        await venvs.delete("default")
    assert await venvs.delete("default", confirm=True)
    assert await venvs.names() == []


async def test_one_that_is_gone_is_told_as_deleted_though_its_record_can_not_be_removed(venvs: Venvs, base: Path):
    await venvs.create("lab")
    record = base / ".store" / "venvs" / "lab.json"
    record.unlink()
    record.mkdir()
    assert await venvs.delete("lab")
    assert await venvs.names() == []
    record.rmdir()


async def test_what_runs_keeps_its_environment_whatever_is_done_meanwhile(venvs: Venvs, base: Path):
    await venvs.install("lab", "six==1.16.0")
    async with venvs.lease("lab") as generation:
        await venvs.install("lab", "six==1.17.0")
        async with venvs.lease("lab") as later:
            assert later.id != generation.id
        await venvs.delete("lab")
        await venvs.tidy()
        assert _says(generation.python, "import six; print(six.__version__)") == "1.16.0"
    await all_is_tidy(venvs, base)
    assert not generation.path.exists()


async def test_the_last_use_is_noted_by_a_lease(venvs: Venvs):
    await venvs.create("lab")
    assert (await venvs.get("lab")).last_used_at is None
    async with venvs.lease("lab"):
        pass
    used = (await venvs.get("lab")).last_used_at
    assert used
    assert used >= (await venvs.get("lab")).created_at.replace(microsecond=0)


async def test_the_same_content_is_stored_once(venvs: Venvs, base: Path):
    await venvs.install("one", "six, iniconfig")
    await venvs.install("two", "iniconfig")
    await venvs.install("two", "six")
    assert (base / "one").readlink() == (base / "two").readlink()


async def test_files_are_shared_with_the_cache(venvs: Venvs, base: Path):
    await venvs.install("lab", "six")
    (module,) = (base / "lab").glob("lib/python*/site-packages/six.py")
    assert module.stat().st_nlink > 1


async def test_an_environment_is_busy_while_it_is_changed_and_others_are_not(venvs: Venvs):
    await venvs.create("lab")
    await venvs.create("other")
    seen: list[VenvStatus] = []

    async with anyio.create_task_group() as tasks:
        reached = anyio.Event()
        tasks.start_soon(lambda: venvs.install("lab", "six", listener=lambda _: reached.set()))
        await reached.wait()
        seen += [venv.status for venv in await venvs.list()]
    assert seen == [VenvStatus.BUSY, VenvStatus.READY]
    assert (await venvs.get("lab")).status is VenvStatus.READY


async def test_operations_on_one_name_by_two_servers_come_one_after_the_other(opened: Open):
    async with opened() as one, opened() as two:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.install, "lab", "six")
            tasks.start_soon(two.install, "lab", "iniconfig")
            tasks.start_soon(two.install, "other", "six, iniconfig")
        for name in ("lab", "other"):
            assert [package.name for package in await one.packages(name)] == ["iniconfig", "six"]


async def test_stages_are_told_for_progress(venvs: Venvs):
    told: list[str] = []
    await venvs.install("lab", "six", listener=told.append)
    assert told[0] == "resolving"
    assert told[-1] == "switching"


async def test_who_waits_for_another_operation_hears_of_it(venvs: Venvs, base: Path):
    told: list[str] = []
    async with anyio.create_task_group() as tasks, locked(base / ".store" / "locks" / "lab"):
        tasks.start_soon(partial(venvs.install, "lab", "six", listener=told.append))
        await anyio.wait_all_tasks_blocked()
        assert told == ["waiting for another operation on it"]
    assert told[-1] == "switching"


async def test_time_that_runs_out_is_told_with_its_setting_and_changes_nothing(opened: Open):
    async with opened(timeout_seconds=0.02) as venvs:
        with pytest.raises(PackageError, match=r"not done within 0\.02 s.*PACKAGE_TIMEOUT_MS"):
            await venvs.install("lab", "six")
        assert await venvs.names() == []


async def test_who_waits_in_vain_for_another_operation_is_told_what_it_waited_for(opened: Open, base: Path):
    async with opened(timeout_seconds=0.02) as venvs, locked(base / ".store" / "locks" / "lab"):
        with pytest.raises(PackageError, match=r"another operation on it was not done within 0\.02 s.*PACKAGE_TIMEOUT"):
            await venvs.install("lab", "six")


async def test_the_default_environment_is_ensured_once(venvs: Venvs, base: Path):
    await venvs.ensure("default", ["six"])
    before = (base / "default").readlink()
    await venvs.ensure("default", ["iniconfig"])
    assert (base / "default").readlink() == before
    await venvs.ensure("empty", [])
    assert await venvs.packages("empty") == []


async def test_an_interpreter_that_is_too_old_is_refused_though_a_person_names_it(
    venvs: Venvs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pythons, "OLDEST", Version("3.99"))
    with pytest.raises(InvalidArgument, match=r"which is too old; the oldest supported is 3\.99"):
        await venvs.create("lab", python=pythons.default().python)
    assert await venvs.names() == []


@pytest.mark.parametrize("place", [".pyenv/versions/x", ".local/share/uv/python/x"])
async def test_another_python_is_found_by_version(
    venvs: Venvs, base: Path, offer: Offer, archive: Path, tmp_path: Path, place: str
):
    # In the home directory, as the offer has set it.
    await anyio.run_process(["tar", "-xf", archive, "-C", tmp_path])
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / "python").rename(tmp_path / place)
    made = await venvs.create("new", python_version=offer.version)
    assert made.python_version == offer.version
    assert (base / "new" / "bin" / "python").resolve().is_relative_to(tmp_path / place)
    assert offer.mirror.asked == 0
    await venvs.install("new", "six")
    assert (
        _says(base / "new" / "bin" / "python", "import six, sys; print(sys.version.split()[0])") == made.python_version
    )


async def test_an_environment_whose_files_are_gone_is_listed_as_broken_with_the_way_out(venvs: Venvs, base: Path):
    await venvs.create("lab")
    (base / "link").symlink_to(".store/generations/py311-gone")
    (base / "link").replace(base / "lab")
    (listed,) = await venvs.list()
    assert listed.status is VenvStatus.BROKEN
    assert "files are gone" in listed.problem
    with pytest.raises(StoreError, match=r"broken.*delete it with delete_venv"):
        async with venvs.lease("lab"):
            pass
    with pytest.raises(StoreError, match="broken"):
        await venvs.install("lab", "six")
    await venvs.delete("lab")
    assert await venvs.names() == []


async def test_a_base_path_that_cannot_be_used_is_told_with_its_setting(tmp_path: Path, confine: Confine):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="VENVS_BASE_PATH"):
        async with open_venvs(tmp_path / "file", default_name="default", timeout_seconds=1, confine=confine):
            pass


async def test_what_is_raised_while_they_are_open_comes_out_as_it_is(opened: Open):
    with pytest.raises(ZeroDivisionError):
        async with opened():
            raise ZeroDivisionError


async def test_a_lease_leaves_no_descriptor_open(venvs: Venvs):
    await venvs.create("lab")
    for _ in range(50):
        async with venvs.lease("lab"):
            pass
    held = [what for what in open_descriptors().values() if "/leases/" in what]
    assert len(held) <= 1, "what follows a creation may hold one for a moment longer"
