import string

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


_SIGNS = "._-"
_PIECES = st.sampled_from(
    [
        *("con", "PRN", "Aux", "nul", "COM1", "lpt9", "com0", "lpt10", "com\u00b9", "a", "Z", "9", "_", "-", ".", ".."),
        *("/", "\\", ":", "~", "\n", "\r", "\0", " ", "%2e", "store", "x" * 32),
        *("\u200b", "\u202e", "\u0430", "\uff41", "\uff0e", "\u0661", "\u2024"),  # unseen, or like a, ., 1
    ]
)


@given(st.lists(_PIECES, max_size=6).map("".join))
def test_a_name_passes_where_it_keeps_the_rule_and_only_there(name: str):
    stem = name.split(".")[0].lower()
    number = stem[3:] in tuple("123456789")
    keeps = (
        1 <= len(name) <= 64
        and set(name) <= {*string.ascii_letters, *string.digits, *_SIGNS}
        and name[0] not in _SIGNS
        and name[-1] != "."
        and stem not in ("con", "prn", "aux", "nul")
        and not (stem[:3] in ("com", "lpt") and number)
    )
    if keeps:
        assert venv_name(name) == name
    else:
        with pytest.raises(InvalidArgument) as refusal:
            venv_name(name)
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", ".store", "-x", "_x", "a b", "x" * 65, "é", "a\n", "nul", "COM1.x", "a."],
)
def test_a_bad_name_is_refused_with_the_rule(name: str):
    with pytest.raises(InvalidArgument, match="1 to 64 letters"):
        venv_name(name)


def test_a_long_name_is_shown_cut():
    with pytest.raises(InvalidArgument) as refusal:
        venv_name("\ud800" * 1_000_000)
    assert len(str(refusal.value)) < 250


_D = ("con", "prn", "aux", "nul", "com", "lpt")
