"""What comes back of real libraries' objects: text, pictures and files."""

import struct
from collections.abc import AsyncGenerator

import pytest

from mcp_python_executor.execution.model import ExecutionResult, Interpreter, Status
from tests.bench import Bench, OpenBench, make_interpreter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]


@pytest.fixture(scope="module")
def showing_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """An environment with what people look at values of."""
    directory = tmp_path_factory.mktemp("environments") / "showing"
    packages = ("matplotlib", "pandas", "polars", "pillow", "sympy", "plotly", "altair", "ipython")
    return make_interpreter(directory, *packages)


@pytest.fixture
async def bench(open_bench: OpenBench, showing_interpreter: Interpreter) -> AsyncGenerator[Bench]:
    async with open_bench(within=showing_interpreter) as opened:
        yield opened


async def run(bench: Bench, code: str) -> ExecutionResult:
    result = await bench.run(code)
    assert (result.status, result.stderr) == (Status.OK, ""), result
    return result


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG: see its specification, section 11.2.2."""
    return struct.unpack(">II", png[16:24])


async def test_a_wide_data_frame_is_a_table_unbroken(bench: Bench):
    result = await run(bench, "import pandas\npandas.DataFrame({f'column_{n}': [n, n * n] for n in range(15)})")
    assert result.result is not None
    assert len(result.result.splitlines()) == 3
    assert "column_14" in result.result
    assert result.files == []


async def test_a_long_data_frame_is_cut_by_rows(bench: Bench):
    result = await run(bench, "import pandas\npandas.DataFrame({'n': range(100_000)})")
    assert result.result is not None
    assert len(result.result.splitlines()) < 20
    assert "[100000 rows x 1 columns]" in result.result


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import pandas\npandas.Series([1, 2], name='n')", "0    1\n1    2\nName: n, dtype: int64"),
        ("import numpy\nnumpy.arange(3)", "array([0, 1, 2])"),
        ("import sympy\nx = sympy.symbols('x')\nsympy.expand((x + 1) ** 2)", "x**2 + 2*x + 1"),
    ],
)
async def test_a_value_is_its_text(bench: Bench, code: str, expected: str):
    result = await run(bench, code)
    assert (result.result, result.files, result.pictures) == (expected, [], [])


async def test_a_frame_of_polars_is_its_table(bench: Bench):
    result = await run(bench, "import polars\npolars.DataFrame({'n': [1, 2]})")
    assert result.result is not None
    assert "shape: (2, 1)" in result.result
    assert result.files == []


async def test_an_image_is_a_picture(bench: Bench):
    result = await run(bench, "from PIL import Image\nImage.new('RGB', (30, 20), 'red')")
    assert [size(picture.data) for picture in result.pictures] == [(30, 20)]


@pytest.mark.parametrize(
    "code",
    [
        "import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[1, 2, 3]))",
        "import altair, pandas\naltair.Chart(pandas.DataFrame({'x': [1], 'y': [2]})).mark_bar().encode(x='x', y='y')",
    ],
)
async def test_a_chart_of_the_web_is_a_page(bench: Bench, code: str):
    result = await run(bench, code)
    assert [(file.path.name, file.mime_type) for file in result.files] == [("display-1.html", "text/html")]
    assert len(result.result or "") < 2000
    assert "<script" in result.files[0].path.read_text()


async def test_figures_come_in_the_order_in_which_they_are_shown(bench: Bench):
    code = """
import matplotlib.pyplot as plt
for width in (2, 3):
    plt.figure(figsize=(width, 1))
    plt.plot([1, 2])
    plt.show()
display(plt.figure(figsize=(4, 1)))
plt.figure(figsize=(5, 1))
figure = plt.figure(figsize=(6, 1))
figure
"""
    result = await run(bench, code)
    assert [size(picture.data)[0] for picture in result.pictures] == [200, 300, 400, 600, 500]
    assert (result.stdout, result.result) == ("", None)


async def test_there_is_no_window_to_draw_in(bench: Bench):
    code = """
import matplotlib.pyplot as plt
print(plt.get_backend())
plt.figure(figsize=(2, 1)).show()
plt.figure(figsize=(3, 1))
plt.show(block=True)
plt.get_fignums()
"""
    result = await run(bench, code)
    assert (result.stdout.lower(), result.result) == ("agg\n", "[]")
    assert [size(picture.data)[0] for picture in result.pictures] == [200, 300]


async def test_a_figure_that_is_saved_is_shown_once(bench: Bench):
    code = """
import io, os
import matplotlib.pyplot as plt
from PIL import Image
out = os.environ["OUTPUT_PATH"]
for width in (2, 3, 4, 5, 6):
    figure = plt.figure(figsize=(width, 1))
    if width == 2:
        figure.savefig(os.path.join(out, "a.png"))
    if width == 3:
        figure.savefig(os.path.join(out, "b.png"), bbox_inches="tight")
        plt.title("changed since")
    if width == 4:
        figure.savefig(io.BytesIO())
    if width == 5:
        figure.savefig("/tmp/elsewhere.png")
Image.new("RGB", (70, 70)).save(os.path.join(out, "c.png"))
"""
    result = await run(bench, code)
    widths = [size(picture.data)[0] for picture in result.pictures]
    assert widths[:4] == [300, 400, 500, 600]
    assert [widths[4], widths[6]] == [200, 70]
    assert [file.path.name for file in result.files] == ["a.png", "b.png", "c.png"]


async def test_figures_that_are_saved_over_one_another_are_all_shown(bench: Bench):
    code = """
import os
import matplotlib.pyplot as plt
for width in (2, 3, 4):
    figure = plt.figure(figsize=(width, 1))
    figure.savefig(os.path.join(os.environ["OUTPUT_PATH"], "plot.png"))
"""
    result = await run(bench, code)
    assert [size(picture.data)[0] for picture in result.pictures] == [200, 300, 400]


async def test_as_many_figures_are_shown_from_files_as_without(bench: Bench):
    code = "import matplotlib.pyplot as plt\nfor n in range(9): plt.figure(figsize=(n + 1, 1)).savefig(f'{n}.png')"
    result = await run(bench, code)
    assert [size(picture.data)[0] for picture in result.pictures] == [100 * n for n in range(1, 10)]


async def test_who_looks_for_pyplot_first_can_show_as_well(bench: Bench):
    code = """
import importlib.util
importlib.util.find_spec("matplotlib.pyplot")
import matplotlib.pyplot as plt
plt.figure()
plt.show()
plt.get_fignums()
"""
    result = await run(bench, code)
    assert (len(result.pictures), result.result) == (1, "[]")


async def test_an_image_too_large_is_drawn_smaller(bench: Bench):
    code = "import os\nfrom PIL import Image\nImage.frombytes('RGB', (1500, 1000), os.urandom(4_500_000))"
    result = await run(bench, code)
    (picture,) = result.pictures
    assert len(picture.data) <= 1 << 20
    width, height = size(picture.data)
    assert 300 < width < 1500
    assert abs(width / height - 1.5) < 0.01


async def test_what_shows_itself_in_a_window_or_a_browser_is_shown(bench: Bench):
    code = """
import altair, pandas
import plotly.graph_objects as go
from PIL import Image
go.Figure(go.Scatter(y=[1, 2, 3])).show()
altair.Chart(pandas.DataFrame({"x": [1], "y": [2]})).mark_bar().encode(x="x", y="y").show()
Image.new("RGB", (30, 20)).show()
"""
    result = await run(bench, code)
    assert [file.path.name for file in result.files] == ["display-1.html", "display-2.html"]
    assert [size(picture.data) for picture in result.pictures] == [(30, 20)]


async def test_the_display_of_ipython_is_ours(bench: Bench):
    code = "from IPython.display import display, HTML\ndisplay(HTML('<b>bold</b>'))\ndisplay(5)"
    result = await run(bench, code)
    assert result.stdout.endswith("5\n")
    assert [file.path.read_text() for file in result.files] == ["<b>bold</b>"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [("5;", None), ("'é' ;  # muted", None), ("5  # not; muted", "5"), ("print(1); 5", "5"), ("(1,\n 2);", None)],
)
async def test_a_semicolon_mutes_the_last_value(bench: Bench, code: str, shown: str | None):
    assert (await run(bench, code)).result == shown


async def test_a_figure_too_large_is_drawn_smaller(bench: Bench):
    code = """
import matplotlib.pyplot as plt, numpy
plt.figure(figsize=(60, 60))
plt.imshow(numpy.random.rand(1500, 1500))
"""
    result = await run(bench, code)
    (picture,) = result.pictures
    assert len(picture.data) <= 1 << 20
    assert 200 < size(picture.data)[0] < 2000


async def test_what_was_drawn_before_an_error_comes_back(bench: Bench):
    result = await bench.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1 / 0")
    assert result.status is Status.ERROR
    assert len(result.pictures) == 1


async def test_shows_in_the_middle_stand_in_the_output_where_they_happened(bench: Bench):
    result = await run(bench, "import pandas\nprint('before')\ndisplay(pandas.Series([7]), 'x')\nprint('after')")
    assert result.stdout == "before\n0    7\ndtype: int64\n'x'\nafter\n"


async def test_coroutines_are_waited_for_outside_of_functions(bench: Bench):
    code = """
import asyncio
async def twice(n):
    await asyncio.sleep(0.01)
    return 2 * n
print(await twice(1))
async with asyncio.timeout(5):
    x = await asyncio.gather(twice(2), twice(3))
[await twice(n) async for n in (lambda: (i for i in ()))()] if False else await twice(x[1])
"""
    result = await run(bench, code)
    assert (result.stdout, result.result) == ("2\n", "12")


async def test_a_program_with_its_own_event_loop_is_left_alone(bench: Bench):
    result = await run(bench, "import asyncio\nasync def main(): return 5\nasyncio.run(main())")
    assert result.result == "5"
