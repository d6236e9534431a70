import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs.model import venv_name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True).filter(lambda name: name[:3].lower() not in _D))
def test_letters_digits_and_a_few_signs_name_an_environment(name: str):
    assert venv_name(name) == name


@given(st.text())
def test_a_name_that_passes_stays_below_the_base_path(name: str):
    try:
        venv_name(name)
    except InvalidArgument:
        return
    assert "/" not in name
    assert name not in ("", ".", "..")
    assert name.isascii()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", ".store", "-x", "_x", "a b", "x" * 65, "é", "a\n", "nul", "COM1.x", "a."],
)
def test_a_bad_name_is_refused_with_the_rule(name: str):
    with pytest.raises(InvalidArgument, match="1 to 64 letters"):
        venv_name(name)


_D = ("con", "prn", "aux", "nul", "com", "lpt")
