"""What uv 0.13 says, in the files beside this one, and what we make of it."""

from pathlib import Path

import pytest

from mcp_python_executor.venvs import reasons

_SAID = Path(__file__).parent / "said"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("unknown_package", "package 'nosuch' does not exist on the index; check how it is spelled"),
        ("unknown_version", "no version fits 'numpy==99'; ask for another version, or none"),
        (
            "conflict",
            (
                "the requirements conflict: pandas==2.2.0 depends on numpy>=1.23.2,<2 and this environment asks "
                "for numpy<1.20; this environment asks for pandas==2.2.0; loosen or leave out one of them"
            ),
        ),
        (
            "conflict_in_one_request",
            (
                "the requirements conflict: this environment asks for six<1.5 and six>=1.16, which are "
                "incompatible; loosen or leave out one of them"
            ),
        ),
        (
            "no_wheel",
            (
                "'pywin32' has no wheel for this Python and platform (version 302 has them for cp39, cp310); ask"
                " for another version of it, or create an environment with another pythonVersion"
            ),
        ),
        (
            "needs_newer_python",
            (
                "'ipython' needs Python >=3.12; ask for another version of it, or create an environment with "
                "another pythonVersion"
            ),
        ),
        (
            "no_such_host",
            (
                "the package index at https://nohost.invalid can't be reached: failed to lookup address "
                "information: name or service not known; check the network, the proxy or the index"
            ),
        ),
        (
            "unauthorized",
            (
                "the package index at https://inner.example answered 401 Unauthorized; check the credentials of "
                "the index or proxy"
            ),
        ),
        (
            "full_disk",
            ("the disk is full; free some space where VENVS_BASE_PATH is, then call again: nothing was changed"),
        ),
        ("something_new", "deep down"),
        ("nothing", "uv gave no reason"),
    ],
)
def test_a_failure_is_told_in_one_line_with_a_way_out(said: str, expected: str):
    assert reasons.reason((_SAID / f"{said}.txt").read_text()) == expected


def test_a_reason_is_never_long_nor_of_several_lines():
    reason = reasons.reason("error: " + "very " * 1000 + "long\n")
    assert len(reason) < 450
    assert "\n" not in reason


def test_packages_that_exist_only_as_source_are_found():
    assert reasons.unbuilt((_SAID / "only_source.txt").read_text()) == ["docopt"]
    assert reasons.unbuilt((_SAID / "no_wheel.txt").read_text()) == []


def test_versions_that_all_need_a_newer_python_are_told_as_such():
    reason = reasons.build_reason(["numpy"], (_SAID / "needs_newer_python_of_many.txt").read_text())
    assert reason.startswith("'numpy' needs Python >=3.11; ask for another version of it, or create an environment")


def test_a_build_whose_setup_failed_is_told_with_its_last_exception():
    reason = reasons.build_reason(["other"], (_SAID / "failed_setup.txt").read_text())
    assert "'tensorflow-gpu' has no wheel" in reason
    assert "failed: packaging.requirements.InvalidRequirement: Expected semicolon" in reason


def test_a_build_that_failed_is_told_with_the_compilers_own_error():
    reason = reasons.build_reason(["other"], (_SAID / "failed_build.txt").read_text())
    assert reason.startswith(
        "'psycopg2' has no wheel for this Python and platform, and building it from source failed: "
    )
    assert "fatal error: Python.h: No such file or directory; ask for another version" in reason
