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


def test_a_build_whose_linker_failed_is_told_with_what_it_lacks_and_how_that_is_called():
    reason = reasons.build_reason(["other"], (_SAID / "failed_link.txt").read_text())
    assert reason == (
        "'linkerr' has no wheel for this Python and platform, and building it from source failed: /usr/bin/ld: cannot "
        "find -lnosuchlib: No such file or directory; install the library that provides a shared library for nosuchlib "
        "(e.g., libnosuchlib-dev) on this machine, or ask for another version of it"
    )


@pytest.mark.parametrize(
    ("line", "is_telling"),
    [
        ("m.c:(.text+0x5): undefined reference to `answer'", True),
        ("error[E0432]: unresolved import `pyo3`", True),
        ("error: linker `cc` not found", True),
        ("sh: 1: gcc: not found", True),
        ("collect2: fatal error: cannot find 'ld'", True),
        ("error: Command '['gcc', '-O3']' returned non-zero exit status 1.", False),
        ("error: could find nothing", True),
    ],
)
def test_of_a_tool_chain_what_tells_the_cause_is_told(line: str, is_telling: bool):
    said = (
        f"error: Failed to build `slow==1.0`\n\n   [stderr]\n   {line}\n   make: stopped\n   subprocess.Error: make\n"
    )
    reason = reasons.build_reason(["slow"], said)
    assert (f"failed: {line};" in reason) is is_telling
    assert ("failed: subprocess.Error: make;" in reason) is not is_telling


def test_a_build_that_cmake_refused_is_told_with_the_line_that_says_why():
    reason = reasons.build_reason(["other"], (_SAID / "failed_cmake.txt").read_text())
    assert "CMakeLists.txt:3 (find_package): Could not find a package configuration file provided by" in reason
    assert "CalledProcessError" not in reason


def test_what_a_build_needs_and_nobody_has_is_told_with_the_package_that_needs_it():
    reason = reasons.build_reason(["other"], (_SAID / "unknown_backend.txt").read_text())
    assert reason.startswith("building 'nobackend' from source needs more: package 'nosuchbackend' does not exist on")
