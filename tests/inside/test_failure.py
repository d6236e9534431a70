import json
from collections.abc import Callable

import pytest

from mcp_python_executor.inside import failure


class Broken(Exception):
    def __str__(self) -> str:
        raise ValueError


class Liar(OSError):
    """Tells of itself what no report can carry."""

    @property
    def filename(self) -> str:  # type: ignore[override]
        raise ZeroDivisionError


class Text(str):
    def __len__(self) -> int:
        return -1

    def __getitem__(self, key: object) -> str:
        raise IndexError


def caught(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as raised:
        raise error
    return raised.value


def test_an_error_is_described_with_its_last_line_in_the_program():
    told = failure.describe(caught(KeyError("k")), __file__)
    assert told["type"] == "KeyError"
    assert told["message"] == "'k'"
    assert "raise error" in told["traceback"]
    assert told["whole"] == told["traceback"]
    assert told["line"] == caught.__code__.co_firstlineno + 2


def test_an_error_whose_text_fails_is_still_told():
    told = failure.describe(caught(Broken()), __file__)
    assert told["message"] == "<ValueError in __str__ of the exception>"


def test_a_chain_of_errors_is_told_whole():
    error = ValueError("second")
    error.__cause__ = caught(KeyError("first"))
    told = failure.describe(caught(error), __file__)
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
    report = failure.describe(caught(error), "f")
    assert json.loads(json.dumps(report)) == report
    assert report | told == report


def test_a_class_that_lies_about_its_name_is_told_by_its_own():
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            if name == "__qualname__":
                raise ZeroDivisionError
            return super().__getattribute__(name)

    kind = Meta("Kind", (Exception,), {})
    assert failure.describe(caught(kind()), "f")["type"].endswith("Kind")


def test_libraries_frames_are_left_out_and_stay_in_the_whole():
    told = failure.describe(caught(raised_by(lambda: json.loads("{"))), __file__)
    assert "decoder.py" not in told["traceback"]
    assert __file__ in told["traceback"]
    assert "decoder.py" in told["whole"]


def test_a_cause_without_own_frames_is_one_line():
    error = ValueError("second")
    error.__cause__ = raised_by(lambda: json.loads("{"))
    assert error.__cause__.__traceback__
    error.__cause__.__traceback__ = error.__cause__.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    told = failure.describe(caught(error), __file__)
    assert "decoder.py" not in told["traceback"]
    assert told["traceback"].startswith("json.decoder.JSONDecodeError: ")


def raised_by(work: Callable[[], object]) -> Exception:
    try:
        work()
    except ValueError as error:
        return error
    raise AssertionError


def test_every_member_of_a_group_is_told():
    group = ExceptionGroup("several", [ValueError("one"), TypeError("two")])
    told = failure.describe(caught(group), __file__)
    assert "ValueError: one" in told["traceback"]
    assert "TypeError: two" in told["traceback"]
