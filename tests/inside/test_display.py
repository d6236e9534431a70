import base64

import pytest

from mcp_python_executor.inside import display


class Picture:
    def _repr_png_(self) -> bytes:
        return b"\x89PNG"


class Broken(Exception):
    def __str__(self) -> str:
        raise ValueError


def caught(error: Exception) -> BaseException:
    with pytest.raises(type(error)) as raised:
        raise error
    return raised.value


def test_nothing_is_shown_for_none():
    assert display.shown(None) == {}


def test_a_value_is_shown_by_its_repr():
    assert display.shown("a\n") == {"result": "'a\\n'"}


def test_a_long_value_keeps_its_head_and_tail():
    result = display.shown("x" * 100_000)["result"]
    assert len(result) < 40_000
    assert result.startswith("'xxx")
    assert result.endswith("xxx'")
    assert "characters left out" in result


def test_a_value_that_shows_itself_as_a_picture_does():
    assert base64.b64decode(display.shown(Picture())["value_picture"]) == b"\x89PNG"


def test_an_error_is_described_with_its_last_line_in_the_program():
    told = display.describe(caught(KeyError("k")), __file__)
    assert told["type"] == "KeyError"
    assert told["message"] == "'k'"
    assert "raise error" in told["traceback"]
    assert told["line"] == caught.__code__.co_firstlineno + 2


def test_an_error_whose_text_fails_is_still_told():
    told = display.describe(caught(Broken()), __file__)
    assert told["message"] == "<ValueError in __str__ of the exception>"


def test_a_chain_of_errors_is_told_whole():
    error = ValueError("second")
    error.__cause__ = caught(KeyError("first"))
    told = display.describe(caught(error), __file__)
    assert "direct cause" in told["traceback"]
