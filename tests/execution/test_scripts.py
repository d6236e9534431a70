import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution import scripts


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "project"
    folder.mkdir(parents=True)
    (folder / "run.py").write_text("print(1)")
    return folder


def test_a_file_below_a_root_may_run(project: Path):
    assert scripts.check(project / "run.py", [project.parent]) == project / "run.py"


def test_a_link_is_judged_by_where_it_leads(project: Path, tmp_path: Path):
    (tmp_path / "outside.py").touch()
    (project / "link.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(InvalidArgument, match="outside SCRIPT_ROOTS"):
        scripts.check(project / "link.py", [project.parent])


def test_hidden_folders_of_a_root_are_closed(project: Path):
    hidden = project.parent / ".ssh"
    hidden.mkdir()
    (hidden / "x.py").touch()
    with pytest.raises(InvalidArgument, match="hidden folder"):
        scripts.check(hidden / "x.py", [project.parent])


def test_a_root_may_itself_lie_in_a_hidden_folder(tmp_path: Path):
    root = tmp_path / ".tools" / "scripts"
    root.mkdir(parents=True)
    (root / "x.py").touch()
    assert scripts.check(root / "x.py", [root]) == root / "x.py"


def test_what_cannot_be_run_says_why(project: Path):
    os.mkfifo(project / "pipe")
    (project / "loop").symlink_to("loop")
    for path, reason in [
        (project / "missing.py", "No such file"),
        (project, "not a regular file"),
        (project / "pipe", "not a regular file"),
        (Path("run.py"), "relative path"),
        (Path(f"{project}/nul\0"), "no file can have this name"),
        (project / "run.py" / "x", "Not a directory"),
        (project / ("x" * 300), "File name too long"),
        (project / ("x/" * 30_000), "No such file"),
        (project / "loop", "Too many levels of symbolic links"),
        (project / "loop" / "x.py", "Too many levels of symbolic links"),
        (project / "\ud800.py", "no file can have this name"),
    ]:
        with pytest.raises(InvalidArgument, match=reason) as caught:
            scripts.check(path, [project.parent])
        assert len(str(caught.value)) < 500


def test_a_root_that_is_a_loop_of_links_has_nothing_below_it(project: Path):
    (project / "loop").symlink_to("loop")
    assert scripts.check(project / "run.py", [project / "loop", project.parent]) == project / "run.py"


def test_a_script_sees_its_folder(project: Path):
    assert scripts.visible(project / "run.py", [project.parent]) == project


@pytest.mark.parametrize("hidden", [".env", "deep/er/.git"])
def test_a_folder_with_a_hidden_entry_is_not_shown(project: Path, hidden: str):
    (project / hidden).mkdir(parents=True)
    assert scripts.visible(project / "run.py", [project.parent]) == project / "run.py"


def test_a_folder_that_holds_the_home_directory_is_not_shown(project: Path, tmp_path: Path):
    (tmp_path / "x.py").touch()
    assert scripts.visible(tmp_path / "x.py", [tmp_path / "home"]) == tmp_path / "x.py"
    (tmp_path / "home" / "y.py").touch()
    assert scripts.visible(tmp_path / "home" / "y.py", [tmp_path / "home"]) == tmp_path / "home" / "y.py"
    assert project.exists()


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root for scripts among what is none, and ways from each to the other."""
    top = tmp_path_factory.mktemp("maze")
    for folder in ("root/a", "root/.hidden", "root/a/.git", "rootless", ".root"):
        (top / folder).mkdir(parents=True)
        (top / folder / "x.py").touch()
    (top / "root" / "a" / "up").symlink_to("../..")
    (top / "root" / "a" / "hidden").symlink_to("../.hidden")
    (top / "root" / "out.py").symlink_to(top / "rootless" / "x.py")
    (top / "root" / "in.py").symlink_to("a/x.py")
    (top / "root" / "lost.py").symlink_to("gone")
    (top / "root" / "loop").symlink_to("loop")
    (top / "root" / "a" / "back").symlink_to("../to")
    (top / "root" / "to").symlink_to("a/back")
    (top / "rootless" / "in").symlink_to(top / "root")
    os.mkfifo(top / "root" / "pipe")
    return top


_PLAIN = st.sampled_from(["a", "x.py", "..", "up", "hidden", ".hidden", "out.py", "in.py", "in", "root", "rootless"])
_ODD = st.sampled_from(
    [
        *(
            "lost.py",
            "loop",
            "back",
            "to",
            "pipe",
            ".git",
            ".root",
            ".",
            "",
            "~",
            "x.py ",
            "x.py\n",
            "x.py\0",
            "x.p\u0443",
            "\ud800",
            "\udcff",
        ),
        *("%2e%2e", "\\", "*", "$HOME", "a" * 300, "a/../" * 1000, "proc/self/root", "proc/self/cwd"),
    ]
)


@given(
    st.sampled_from(["{top}/root"] * 3 + ["{top}", "", "/", "//", "file://{top}/root"]),
    st.lists(st.one_of(_PLAIN, _PLAIN, _ODD), max_size=5),
)
@example("{top}/root", ["a", "up", "root", "a", "x.py"])
@example("{top}/root", [".hidden", "x.py"])
@example("{top}/root", ["a", "hidden", "x.py"])
@example("{top}/root", ["out.py"])
@example("{top}/root", ["..", "rootless", "x.py"])
def test_whatever_path_is_given_a_file_runs_only_where_scripts_may_lie(maze: Path, start: str, steps: list[str]):
    path = Path("/".join([start.format(top=maze), *steps]))
    with suppress(InvalidArgument):
        assert scripts.check(path, [maze / "root"]) == maze / "root" / "a" / "x.py"
        assert path.samefile(maze / "root" / "a" / "x.py")
