import base64
import json

import pytest

from mcp_python_executor.inside import display


class Picture:
    def _repr_png_(self) -> bytes:
        return b"\x89PNG"


class Broken(Exception):
    def __str__(self) -> str:
        raise ValueError


class Liar(OSError):
    """Tells of itself what no report can carry."""

    @property
    def filename(self) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class Odd:
    def __repr__(self) -> str:
        return "\ud800"


class Text(str):
    def __len__(self) -> int:
        return -1

    def __getitem__(self, key: object) -> str:
        raise IndexError


def caught(error: BaseException) -> BaseException:
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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(2, "no", b"/no\xffpe"), {"filename": "/no\\udcffpe", "errno": 2}),
        (OSError(9, "bad", 99), {"filename": None, "errno": 9}),
        (OSError("x", "y"), {"filename": None, "errno": None}),
        (OSError(10**6000, "y"), {"errno": None}),
        (ImportError(name=Text("m")), {"name": "m"}),
        (ValueError("\ud800"), {"message": "\\ud800"}),
        (ValueError(Text("m")), {"message": "m"}),
        (SyntaxError("s", ("f", 10**100, 1, "", 1, 1)), {"line": None}),
        (Liar("l"), {"type": "Liar", "message": "<ZeroDivisionError in what it tells of itself>"}),
    ],
)
def test_an_odd_error_is_told_in_what_a_report_can_carry(error: BaseException, told: dict[str, object]):
    report = display.describe(caught(error), "f")
    assert json.loads(json.dumps(report)) == report
    assert report | told == report


def test_a_class_that_lies_about_its_name_is_told_by_its_own():
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            if name == "__qualname__":
                raise ZeroDivisionError
            return super().__getattribute__(name)

    kind = Meta("Kind", (Exception,), {})
    assert display.describe(caught(kind()), "f")["type"].endswith("Kind")


def test_a_value_with_surrogates_is_shown_escaped():
    assert display.shown(Odd())["result"] == "\\ud800"
