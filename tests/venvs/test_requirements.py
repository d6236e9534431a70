import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import requirements

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


@given(st.text())
def test_any_text_is_parsed_or_refused_in_one_line(text: str):
    found: list[Requirement] = []
    refusal = ""
    try:
        found = requirements.parse(text)
    except InvalidArgument as error:
        refusal = str(error)
    assert found or refusal
    assert len(refusal.splitlines()) <= 1
    assert not any(requirement.url for requirement in found)


def test_a_comma_before_a_specifier_separates_nothing():
    found = requirements.parse("numpy>=1.20,<2, pandas[excel,plot]")
    assert [requirement.name for requirement in found] == ["numpy", "pandas"]
    assert found[0].specifier.contains("1.26")
    assert not found[0].specifier.contains("2.0")
    assert found[1].extras == {"excel", "plot"}


def test_a_list_sent_as_its_json_text_means_the_list():
    assert [found.name for found in requirements.parse('["six", "numpy>=1,<2"]')] == ["six", "numpy"]


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
        ("", "no package is named"),
    ],
)
def test_what_is_no_requirement_is_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        requirements.parse(text)
    assert repr(text) in str(caught.value) or not text


def test_the_refused_one_of_several_is_named():
    with pytest.raises(InvalidArgument, match="'git\\+https://x'"):
        requirements.parse(["six", "git+https://x", "numpy"])


def test_names_are_normalized_and_told_once():
    assert requirements.parse_names("PyYAML, ruamel_yaml, pyyaml") == ["pyyaml", "ruamel-yaml"]


@pytest.mark.parametrize("text", ["numpy==1", "pandas[excel]", "six; python_version > '3'"])
def test_more_than_a_name_is_refused_where_a_name_is_meant(text: str):
    with pytest.raises(InvalidArgument, match="is more than a name"):
        requirements.parse_names(text)
