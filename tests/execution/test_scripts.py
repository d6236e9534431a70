import os
from pathlib import Path

import pytest

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
    for path, reason in [
        (project / "missing.py", "No such file"),
        (project, "not a regular file"),
        (project / "pipe", "not a regular file"),
        (Path("run.py"), "relative path"),
        (Path(f"{project}/nul\0"), "can't be read"),
        (project / "run.py" / "x", "Not a directory"),
    ]:
        with pytest.raises(InvalidArgument, match=reason):
            scripts.check(path, [project.parent])


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
