import os
from pathlib import Path

import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import pythons
from mcp_python_executor.venvs.pythons import Interpreter


def _python(version: str) -> Interpreter:
    return Interpreter(Path(f"/opt/{version}/bin/python"), version, Path(f"/opt/{version}"))


_DEFAULT = _python("3.11.7")
_OTHERS = [_python("3.9.18"), _python("3.12.1"), _python("3.13.0")]


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ("3.12", "3.12.1"),
        ("3.12.1", "3.12.1"),
        ("3", "3.11.7"),
        (">=3.10", "3.11.7"),
        (">=3.12", "3.13.0"),
        ("<3.10", "3.9.18"),
        (">=3.12,<3.13", "3.12.1"),
        (" 3.9 ", "3.9.18"),
    ],
)
def test_the_servers_own_is_chosen_where_it_will_do_and_else_the_newest(asked: str, version: str):
    best = pythons.best(pythons.specifiers(asked), _DEFAULT, _OTHERS)
    assert best
    assert best.version == version


@pytest.mark.parametrize("asked", ["3.10", ">=4", "3.12.9"])
def test_no_other_version_is_chosen_for_one_that_is_not_there(asked: str):
    assert pythons.best(pythons.specifiers(asked), _DEFAULT, _OTHERS) is None


def test_a_person_is_told_which_versions_there_are():
    assert pythons.there_are([_DEFAULT, *_OTHERS, _DEFAULT]) == "there are 3.9, 3.11, 3.12, 3.13"


@pytest.mark.parametrize(
    ("had", "closest"),
    [("3.12.1", "3.12.1"), ("3.12.4", "3.12.5"), ("3.12.3", "3.12.5"), ("3.12.2", "3.12.1"), ("3.12.9", "3.12.5")],
)
def test_the_closest_of_the_same_minor_version_takes_the_place_of_one_that_is_gone(had: str, closest: str):
    found = pythons.closest(_python(had), [_DEFAULT, *_OTHERS, _python("3.12.5")])
    assert found
    assert found.version == closest


def test_another_minor_version_takes_nobodys_place():
    assert pythons.closest(_python("3.10.1"), [_DEFAULT, *_OTHERS]) is None


def test_one_that_is_still_there_is_taken_though_it_was_updated_in_its_place():
    updated = Interpreter(_python("3.12.1").python, "3.12.8", Path("/opt/3.12.1"))
    assert pythons.closest(_python("3.12.1"), [_python("3.12.2"), updated]) is updated


@pytest.mark.parametrize(
    "asked",
    [
        *(
            "/usr/bin/python3",
            "python3.12",
            "latest",
            "../python",
            "3.12; rm -rf /",
            "===anything",
            "\ud800",
            "3.\u0661",
        ),
        *("9" * 5000, "3." + "9" * 5000, ">=3.9," * 5000),
    ],
)
def test_what_is_no_version_is_refused(asked: str):
    with pytest.raises(InvalidArgument, match="is no Python version"):
        pythons.specifiers(asked)


def test_a_version_that_is_too_old_is_refused():
    with pytest.raises(InvalidArgument, match=r"the oldest supported is 3\.9"):
        pythons.specifiers("3.8")


@pytest.mark.parametrize(
    ("version", "is_too_old"), [("3.8.18", True), ("2.7.18", True), ("3.9.0", False), ("3.14.0rc1", False), ("", False)]
)
def test_nothing_runs_in_a_version_that_is_too_old(version: str, is_too_old: bool):
    assert pythons.is_too_old(version) is is_too_old


def test_the_default_is_a_base_interpreter_and_no_virtual_environment():
    default = pythons.default()
    assert default.python.exists()
    assert not (default.prefix / "pyvenv.cfg").exists()


def test_interpreters_are_looked_for_only_where_some_are(tmp_path: Path):
    there = tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin"
    there.mkdir(parents=True)
    (there / "python3.12").touch()
    old = tmp_path / ".pyenv" / "versions" / "3.6.15" / "bin"
    old.mkdir(parents=True)
    (old / "python3.6").touch()
    found = pythons.directories(tmp_path)
    assert there in found
    assert old not in found


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs the GNU C library")
def test_the_c_library_is_the_one_of_this_machine():
    assert pythons.libc() == os.confstr("CS_GNU_LIBC_VERSION")
