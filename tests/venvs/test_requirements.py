import json
import re
import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import project, pythons, requirements

_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
_VERSIONS = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True)
_SPECIFIERS = st.lists(st.builds("{}{}".format, st.sampled_from([">=", "<=", "!=", ">", "<"]), _VERSIONS), max_size=3)
_EXTRAS = st.lists(st.sampled_from(["excel", "plot", "all"]), max_size=2, unique=True)
_MARKERS = st.sampled_from(["", "; python_version >= '3.9'", "; sys_platform in 'linux,darwin'"])


@st.composite
def _requirements(draw: st.DrawFn) -> str:
    extras = draw(_EXTRAS)
    specifier = draw(st.sampled_from([",", ", ", " , "])).join(draw(_SPECIFIERS))
    return draw(_NAMES) + (f"[{', '.join(extras)}]" if extras else "") + specifier + draw(_MARKERS)


@given(st.lists(_requirements(), min_size=1, max_size=6), st.sampled_from([",", ", ", " ,\n", "\n"]))
def test_a_string_is_split_where_its_requirements_were_joined(texts: list[str], separator: str):
    expected = [str(Requirement(text)) for text in texts]
    assert [str(found) for found in requirements.parse(separator.join(texts))] == expected
    assert [str(found) for found in requirements.parse(texts)] == expected


def _parsed(value: list[str] | str) -> tuple[list[str], str]:
    """What `value` is parsed into, or the refusal."""
    try:
        return [str(requirement) for requirement in requirements.parse(value)], ""
    except InvalidArgument as error:
        return [], str(error)


@given(st.text())
def test_any_text_is_parsed_or_refused_in_one_line(text: str):
    found, refusal = _parsed(text)
    assert bool(found) is not bool(refusal)
    assert len(refusal.splitlines()) <= 1
    assert not any(Requirement(asked).url for asked in found)


# What, if it came through, would be an option, a place, a line or a variable to whoever reads it next.
_PIECES = st.sampled_from(
    [
        *("six", "numpy", "x.whl", "setup.py", ">=1", "==1.0", "==1.*", "~=2.1,!=2.2", "[all]", "[", "]", "(>=1)"),
        *("-r", "-e", "--index-url", "--hash=sha256:0", "-c req.txt", "git+ssh://h/x", "https://h/x.whl", "file:///x"),
        *(
            "@https://h/x",
            " @ file:///x",
            " @ ${URL}",
            "@",
            "../",
            "./",
            "/",
            "~",
            "\\",
            ".",
            "..",
            "${HOME}",
            "$HOME",
            "%2e",
            "#egg=x",
        ),
        *(" ", ",", ",", ", ", "\n", "\n", "\r", "\r\n", "\t", "\v", "\0", "\x1b", "\x85", "\u2028", "\\\n", "\ufeff"),
        *(";", "; python_version > '3'", "; sys_platform == 'x'", "; extra == '${X}'", "'", '"', "\u0441", "\uff11"),
    ]
)
_PLAIN = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(\[[A-Za-z0-9._,-]+\])?[A-Za-z0-9.*+!_<>=~,-]*")
_FILES = (".whl", ".zip", ".tar.gz", ".tgz", ".txt", ".toml")


@st.composite
def _tampered(draw: st.DrawFn) -> str:
    """Requirements with some of the pieces put in anywhere."""
    text = ",".join(draw(st.lists(_requirements(), max_size=3)))
    for piece in draw(st.lists(_PIECES, max_size=3)):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + piece + text[place:]
    return text


@given(_tampered(), st.booleans())
@example("six; sys_platform == '--index-url https://h'", False)
@example("six,numpy @ ${URL}", False)
@example("six\n--index-url https://h/x", True)
@example("six,x.whl", True)
def test_nothing_but_names_versions_and_markers_gets_through(text: str, listed: bool):
    found, refusal = _parsed([text] if listed else text)
    assert refusal.isprintable()
    for asked in found:
        plain = _PLAIN.fullmatch(asked.split(";")[0])
        assert plain, asked
        assert not plain["name"].endswith(_FILES)
    _assert_kept(found)


def _assert_kept(found: list[str]) -> None:
    """What passes is the same when it is read again, and in the project that uv gets."""
    assert all(asked.isascii() and asked.isprintable() and "\\" not in asked for asked in found)
    if found:
        assert _parsed(found) == (found, "")
        pyproject = tomllib.loads(project.render(map(Requirement, found), pythons.default()))
        assert pyproject["project"]["dependencies"] == sorted(found)


# Each of them once as it is, and once as often as would break what descends or counts.
_MANY = st.sampled_from(
    ["[", "(", "]", "'", '"', "9", "1.", "a", "a,", "a[", "a; (", "python_version>'3' and ", "==", ",<1", "\\x0a", " "]
)


@given(
    st.lists(st.builds(str.__mul__, _MANY, st.sampled_from([1, 1, 2, 30, 600, 5000])) | _PIECES | st.text(max_size=3)),
    st.sampled_from(["", "six", "six==", "six===", "six; ", "six; sys_platform == '", "["]),
)
@example(["["] * 100_000, "")
@example(["(" * 400, "python_version>'3'", ")" * 400], "six; ")
@example(["9" * 5000], "six==")
@example(["\\x0a'"], "six; sys_platform == '")
@example(["\\nsix'"], "six; sys_platform == '")
@example(["anything"], "six===")
@example(["1.0,<2"], "six===")
@example(["\ud800"], "six===")
@example(["\U0001f600'"], "six; sys_platform == '")
@example(["_"], "six")
@example(["a_]"], "six[")
@example(["9" * 20], "six==")
def test_no_text_breaks_the_parser_and_each_refusal_is_short(pieces: list[str], start: str):
    found, refusal = _parsed(start + "".join(pieces))
    assert bool(found) is not bool(refusal)
    assert len(refusal) < 600
    assert refusal.isprintable()
    _assert_kept(found)


@given(st.lists(st.none() | st.booleans() | st.integers() | st.text() | _requirements()) | _requirements())
def test_names_are_names_and_nothing_more(given: object):
    try:
        names = requirements.parse_names(json.dumps(given))
    except InvalidArgument:
        return
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) for name in names)
    assert len(set(names)) == len(names)


def test_a_comma_before_a_specifier_separates_nothing():
    found = requirements.parse("numpy>=1.20,<2, pandas[excel,plot]")
    assert [requirement.name for requirement in found] == ["numpy", "pandas"]
    assert found[0].specifier.contains("1.26")
    assert not found[0].specifier.contains("2.0")
    assert found[1].extras == {"excel", "plot"}


def test_a_list_sent_as_its_json_text_means_the_list():
    assert [found.name for found in requirements.parse('["six", "numpy>=1,<2"]')] == ["six", "numpy"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[null]", "packages[0] is null, and must be a string"),
        ("[true, 1]", "packages[0] is true, and must be a string"),
        ('["six", 1.5]', "packages[1] is 1.5, and must be a string"),
        ('["six", ["numpy"]]', "packages[1] is a list, and must be a string"),
        ('["six", {}]', "packages[1] is an object, and must be a string"),
        ("[" * 800 + "]" * 800, "packages[0] is a list, and must be a string"),
    ],
)
def test_an_item_of_such_a_list_that_is_no_string_is_refused(text: str, told: str):
    with pytest.raises(InvalidArgument) as caught:
        requirements.parse(text)
    assert str(caught.value).startswith(f"{told}; give names")


def test_an_item_of_a_list_may_be_a_list_itself():
    assert [found.name for found in requirements.parse(["six, iniconfig", "numpy"])] == ["six", "iniconfig", "numpy"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-r requirements.txt", "is an option"),
        ("--index-url https://example.org", "is an option"),
        ("-e .", "is an option"),
        ("https://example.org/x-1.0-py3-none-any.whl", "is a URL"),
        ("git+https://example.org/x", "is a URL"),
        ("x @ https://example.org/x.zip", "names a place to download from"),
        ("x @ file:///etc/passwd", "names a place to download from"),
        ("./x", "is a path"),
        ("/tmp/x", "is a path"),
        ("..", "is a path"),
        ("x-1.0.tar.gz", "is a file"),
        ("numpy pandas", "separate packages with commas"),
        ("numpy>=one", "is no requirement"),
        ("numpy=1.0", "is no requirement"),
        (">=1.0", "is no requirement"),
        ("numpy; python_version", "is no requirement"),
        ("six; sys_platform == '\\x0a'", "has the character .*, and may have letters, digits and signs of ASCII"),
        ("six; sys_platform == '\u00e9'", "has the character"),
        ("six===1.0.x.y", "'1.0.x.y' is no version"),
        ("six==" + "9" * 20, "at most 18 digits"),
        ("six_", "begins and ends with a letter or digit"),
        ("six[a_]", "begins and ends with a letter or digit"),
        ("six; " + "(" * 21, "has 21 parentheses, and may have 20"),
        ("", "no package is named"),
    ],
)
def test_what_is_no_requirement_is_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        requirements.parse(text)
    assert repr(text) in str(caught.value) or not text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("x" * 1001, "has 1001 characters, and may have 1000"),
        ("x," * 1001, "1001 packages at once are too many; give at most 1000"),
        (["x" * 60_000, "x" * 60_000], "120000 characters are too many; give at most 100000"),
    ],
)
def test_what_is_too_long_is_refused_with_how_much_may_be_given(given: list[str] | str, told: str):
    with pytest.raises(InvalidArgument, match=told) as caught:
        requirements.parse(given)
    assert len(str(caught.value)) < 300


def test_what_parsers_of_versions_agree_on_passes():
    texts = ["six===1.16.0", "six\t>= 1", "six[a.b,c_d]~=1.1", "six==1!2.0.post1+local.1", "six; (python_version>'3')"]
    assert len(requirements.parse(texts)) == len(texts)


def test_the_refused_one_of_several_is_named():
    with pytest.raises(InvalidArgument, match="'git\\+https://x'"):
        requirements.parse(["six", "git+https://x", "numpy"])


def test_names_are_normalized_and_told_once():
    assert requirements.parse_names("PyYAML, ruamel_yaml, pyyaml") == ["pyyaml", "ruamel-yaml"]


@pytest.mark.parametrize("text", ["numpy==1", "pandas[excel]", "six; python_version > '3'"])
def test_more_than_a_name_is_refused_where_a_name_is_meant(text: str):
    with pytest.raises(InvalidArgument, match="is more than a name"):
        requirements.parse_names(text)
