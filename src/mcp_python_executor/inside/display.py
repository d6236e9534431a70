"""What a program shows: the value of its last expression, what it gives to `display`, and its figures.

An object tells the forms it has by the methods that notebooks ask for: see IPython's "Integrating your objects".
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import os
import re
import sys

from . import figures, hooks, pictures
from .text import plain

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# A model reads no more, and a server holds no more.
_VALUE_CHARACTERS = 32_768
_PICTURES = 20
_METHODS = {
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "text/html": "_repr_html_",
    "image/svg+xml": "_repr_svg_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
}
# Of data frames, whose text is all there is to see.
_TABLES = ("__dataframe__", "__arrow_c_stream__")
# What no result carries goes into a file, in the first of these forms that there is.
_IN_FILES = {"text/html": "html", "image/svg+xml": "svg"}
_CHARTS = re.compile(r"application/vnd\.[\w.+-]*json")
# Libraries whose charts have no other form outside a notebook.
_CHART_LIBRARIES = frozenset({"altair", "plotly"})
# Classes whose `show` wants a window or a browser.
_SHOWING = {
    "PIL.Image": "Image",
    "altair.vegalite.v5.api": "TopLevelMixin",
    "altair.vegalite.v6.api": "TopLevelMixin",
    "plotly.basedatatypes": "BaseFigure",
}
_SAYS_NOTHING = re.compile(r"<[\w.]+ object(?: at 0x[0-9a-f]+)?>|alt\.\w+\(\.\.\.\)|Figure\(\{.*", re.DOTALL)
_WIDE = 1000
# Of pandas: what it has where there is no terminal, and what it shows in a notebook.
_USUAL_WIDTH, _COLUMNS = 80, 20


class Shown:
    """What a program has shown so far. `pictures` are base64; `directory` takes what only files can hold."""

    def __init__(self, directory: str) -> None:
        self.pictures: list[str] = []
        self.left_out = 0
        self._directory = directory
        self._places = (directory, os.environ.get("OUTPUT_PATH", directory))
        self._files = 0

    def listen(self) -> None:
        """Has what libraries call showing shown here."""
        hooks.when_imported(
            {
                **{module: functools.partial(self._replace_show, name) for module, name in _SHOWING.items()},
                **figures.hooks(self.take_figures, self.show_method()),
                "IPython.core.display_functions": self._replace_display,
            }
        )

    def show_method(self) -> Any:
        """A method `show` for a class, whose objects want to be seen by it."""

        def show(value: object, *_args: Any, **_options: Any) -> None:
            self.display(value)

        return show

    def _replace_show(self, name: str, module: ModuleType) -> None:
        kind = getattr(module, name, None)
        if kind is not None:
            kind.show = self.show_method()

    def _replace_display(self, module: ModuleType) -> None:
        module.display = self.display  # type: ignore[attr-defined]

    def display(self, *objects: object, **_options: Any) -> None:
        """The built-in `display`, as notebooks have it: text goes to standard output, pictures to the result."""
        for value in objects:
            text = self.text(value)
            if text is not None:
                print(text)

    def take_figures(self) -> None:
        """Draws the figures that are open, and closes them."""
        for figure in figures.left_open():
            self._take(figure)

    def _take(self, figure: Any) -> None:
        if not figures.is_shown_as_file(figure, self._places):
            self._add(figures.picture(figure) if len(self.pictures) < _PICTURES else "")
        figures.close(figure)

    def text(self, value: object) -> str | None:
        """A value as text, its picture or file put aside; None where the picture is all of it."""
        if figures.is_figure(value):
            self._take(value)
            return None
        text = plain(_repr(value), _VALUE_CHARACTERS)
        forms = _Forms(value)
        picture = _drawn(value) or forms.get("image/png") or forms.get("image/jpeg")
        if picture:
            self._add(_base64(picture))
        elif not any(hasattr(type(value), name) for name in _TABLES):
            self._write(value, forms)
        if _SAYS_NOTHING.fullmatch(text):
            other = forms.get("text/plain") or forms.get("text/markdown") or forms.get("text/latex")
            if isinstance(other, str):
                return plain(other, _VALUE_CHARACTERS)
            return None if picture else plain(text, _WIDE)
        return text

    def _add(self, picture: str) -> None:
        if len(self.pictures) < _PICTURES:
            self.pictures.append(picture)
        else:
            self.left_out += 1

    def _write(self, value: object, forms: _Forms) -> None:
        """Writes the richest form that `value` has, and text can't tell, to a file of the run's."""
        content, ending = next(((forms.get(mime), end) for mime, end in _IN_FILES.items() if forms.get(mime)), ("", ""))
        if not content and type(value).__module__.partition(".")[0] in _CHART_LIBRARIES:
            with contextlib.suppress(Exception):
                content, ending = value.to_html(), "html"  # type: ignore[attr-defined]
        if not content and (chart := forms.chart()) is not None:
            content, ending = json.dumps(chart), "json"
        if isinstance(content, str) and content:
            self._files += 1
            path = os.path.join(self._directory, f"display-{self._files}.{ending}")
            with open(path, "w", encoding="utf-8", errors="replace") as file:
                file.write(content)


class _Forms:
    """The forms that an object has, by MIME type, each asked for once; what fails is not there, as in a notebook."""

    def __init__(self, value: object) -> None:
        self._value = value
        bundle = self._call("_repr_mimebundle_", include=None, exclude=None)
        self._found: dict[str, Any] = dict(bundle) if isinstance(bundle, dict) else {}  # type: ignore[arg-type]

    def get(self, mime: str) -> Any:
        if mime not in self._found:
            self._found[mime] = self._call(_METHODS[mime]) if mime in _METHODS else None
        return self._found[mime]

    def chart(self) -> Any:
        """A chart as its library's own JSON."""
        return next((data for mime, data in self._found.items() if _CHARTS.fullmatch(mime)), None)

    def _call(self, name: str, **options: Any) -> Any:
        method = getattr(type(self._value), name, None)  # of its class: some objects answer to every name
        if not callable(method):
            return None
        try:
            data = method(self._value, **options)
        except Exception:  # noqa: BLE001 - the text is there all the same
            return None
        return data[0] if isinstance(data, tuple) and data else data  # type: ignore[return-value]


def _repr(value: object) -> str:
    """`repr`, but a table of pandas' is as wide as in a notebook, unless the program chose a width."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
        return repr(value)
    options = [
        *(("display.width", _WIDE) if pandas.get_option("display.width") == _USUAL_WIDTH else ()),
        *(("display.max_columns", _COLUMNS) if pandas.get_option("display.max_columns") == 0 else ()),
    ]
    with pandas.option_context(*options) if options else contextlib.nullcontext():
        return repr(value)


def _drawn(image: Any) -> bytes:
    """An image of Pillow's as the very PNG that it would be saved as, so that the one in a file is known again."""
    module = sys.modules.get("PIL.Image")
    if module is None or not isinstance(image, module.Image):
        return b""

    def draw(share: float) -> bytes:
        file = io.BytesIO()
        drawn = image if share == 1 else image.resize([max(1, int(side * share)) for side in image.size])
        drawn.save(file, "PNG")
        return file.getvalue()

    try:
        return pictures.bounded(draw)
    except Exception:  # noqa: BLE001 - no mode that PNG has
        return b""


def _base64(data: Any) -> str:
    return base64.b64encode(data).decode() if isinstance(data, bytes) else str(data)
