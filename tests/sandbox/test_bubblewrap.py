from pathlib import Path

from mcp_python_executor.sandbox import bubblewrap
from mcp_python_executor.sandbox.policy import Policy, interpreter_paths
from mcp_python_executor.sandbox.unprivileged import launcher, staged

BWRAP = Path("/usr/bin/bwrap")


def test_a_place_below_another_is_bound_after_it():
    policy = Policy(read=(Path("/a/b/c"), Path("/a")), write=(Path("/a/b"),), hide=(Path("/a/b/c/d"),))
    command = bubblewrap.command(BWRAP, policy, ["true"])
    places = [command.index(path) for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d")]
    assert command[-8:-4] == ["--remount-ro", "/a/b/c/d", "--remount-ro", "/"]
    assert places == sorted(places)
    assert command[places[1] - 1] == "--bind"
    assert command[places[2] - 1] == "--ro-bind"
    assert command[places[3] - 1] == "--tmpfs"


def test_no_value_of_the_environment_stands_on_the_command_line():
    command = bubblewrap.command(BWRAP, Policy(environment=(("API_KEY", "canary"),)), ["true"])
    assert "canary" not in " ".join(command)


def test_the_network_is_shared_only_where_the_policy_says_so():
    assert "--share-net" not in bubblewrap.command(BWRAP, Policy(), ["true"])
    assert "--share-net" in bubblewrap.command(BWRAP, Policy(network=True), ["true"])


def test_the_program_stands_after_the_last_option():
    command = bubblewrap.command(BWRAP, Policy(), ["--die-with-parent", "x"])
    assert command[-3:] == ["--", "--die-with-parent", "x"]


def test_for_an_unprivileged_user_places_are_bound_from_where_they_are_staged():
    read, write = Path("/a"), Path("/b")
    command = bubblewrap.command(BWRAP, Policy(read=(read,), write=(write,)), ["true"], unprivileged=True)
    sources = staged([read, write])
    assert command[: len(launcher([read, write]))] == launcher([read, write])
    for option, place in (("--ro-bind", read), ("--bind", write)):
        where = command.index(sources[place])
        assert command[where - 1 : where + 2] == [option, sources[place], str(place)]
    assert command[command.index("/usr") - 1 :][:3] == ["--ro-bind", "/usr", "/usr"]


def test_an_interpreter_of_the_systems_needs_nothing_more():
    assert interpreter_paths(Path("/usr"), "3.11.2") == ((), ())


def test_an_interpreter_in_the_home_directory_hides_its_packages(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.12").touch()
    (tmp_path / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    (tmp_path / "envs").mkdir()
    read, hide = interpreter_paths(tmp_path, "3.12.1")
    assert set(read) == {tmp_path / "bin" / "python3.12", tmp_path / "lib"}
    assert hide == (tmp_path / "lib" / "python3.12" / "site-packages",)
