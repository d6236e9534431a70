import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_python_executor.inside.display import Shown


def offering(text: str = "an offer", **forms: object) -> object:
    """An object with some of the forms that notebooks ask for."""

    def method(form: object) -> Callable[..., object]:
        return lambda *_object, **_options: form

    methods = {f"_repr_{name}_": method(form) for name, form in forms.items()}
    return type("Offering", (), {"__repr__": method(text), **methods})()


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(str(tmp_path))


def test_a_value_is_shown_by_its_repr(shown: Shown):
    assert shown.text("a\n") == "'a\\n'"
    assert shown.pictures == []


def test_a_long_value_keeps_its_head_and_tail(shown: Shown):
    text = shown.text("x" * 100_000)
    assert text
    assert len(text) < 40_000
    assert text.startswith("'xxx")
    assert text.endswith("xxx'")
    assert "characters left out" in text


def test_surrogates_are_escaped(shown: Shown):
    assert shown.text(offering("\ud800")) == "\\ud800"


@pytest.mark.parametrize("form", [b"\x89PNG", base64.b64encode(b"\x89PNG").decode(), (b"\x89PNG", {"width": 3})])
def test_a_picture_is_put_aside(shown: Shown, form: object):
    assert shown.text(offering(png=form, html="<p>")) == "an offer"
    assert [base64.b64decode(picture) for picture in shown.pictures] == [b"\x89PNG"]


def test_a_bundle_counts_as_its_forms(shown: Shown):
    shown.text(offering(mimebundle=({"image/jpeg": b"\xff\xd8\xff"}, None)))
    assert [base64.b64decode(picture) for picture in shown.pictures] == [b"\xff\xd8\xff"]


@pytest.mark.parametrize(
    ("forms", "name"),
    [
        ({"html": "<p>", "svg": "<svg>"}, "display-1.html"),
        ({"svg": "<svg>"}, "display-1.svg"),
        ({"mimebundle": {"application/vnd.vegalite.v5+json": {"mark": "bar"}}}, "display-1.json"),
    ],
)
def test_what_is_no_text_and_no_picture_becomes_a_file(shown: Shown, tmp_path: Path, forms: dict[str, Any], name: str):
    assert shown.text(offering(**forms)) == "an offer"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_table_is_its_text(shown: Shown, tmp_path: Path):
    table = offering(html="<table>")
    type(table).__dataframe__ = None  # type: ignore[attr-defined]
    assert shown.text(table) == "an offer"
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_says_nothing_gives_way_to_another(shown: Shown):
    assert shown.text(offering("<a.B object at 0x7f>", markdown="**bold**")) == "**bold**"
    assert shown.text(offering("<a.B object at 0x7f>")) == "<a.B object at 0x7f>"
    assert shown.text(offering("good", markdown="**bold**")) == "good"


def test_a_form_that_fails_is_not_there(shown: Shown, tmp_path: Path):
    class Broken:
        def _repr_html_(self) -> str:
            raise ValueError

        def __repr__(self) -> str:
            return "broken"

    assert shown.text(Broken()) == "broken"
    assert list(tmp_path.iterdir()) == []


def test_a_class_is_not_asked_in_its_objects_place(shown: Shown):
    assert "Offering" in (shown.text(type(offering(png=b"\x89PNG"))) or "")
    assert shown.pictures == []


def test_display_prints_the_text(shown: Shown, capsys: pytest.CaptureFixture[str]):
    shown.display("a", 1, offering(png=b"\x89PNG"), metadata={})
    assert capsys.readouterr().out == "'a'\n1\nan offer\n"
    assert len(shown.pictures) == 1


def test_past_twenty_pictures_are_counted(shown: Shown):
    shown.display(*[offering(png=b"\x89PNG")] * 25)
    assert (len(shown.pictures), shown.left_out) == (20, 5)
