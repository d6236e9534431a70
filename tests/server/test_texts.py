"""What a model reads of thirty typical programs: the text beside each program, which `--update-texts` writes anew."""

import re
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import anyio
import pytest
from mcp_types import TextContent

from mcp_python_executor.execution import preload
from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.server import render
from tests.bench import PROGRAMS, Bench, bench_in, make_interpreter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

TYPICAL = sorted((PROGRAMS / "analysis").glob("*.py"))
SALES = PROGRAMS / "analysis" / "sales.csv"
# Those whose words stand in the texts in one version each.
PACKAGES = (
    *("pandas==3.1.1", "scikit-learn==1.9.1", "sympy==1.14.0", "pillow==13.0.0", "requests==2.34.2", "urllib3==2.8.0"),
    *("tqdm==4.70.1", "openpyxl", "pyarrow", "seaborn", "jinja2"),
)
USED = (
    *("PIL", "bs4", "collections", "dateutil", "io", "jinja2", "matplotlib", "numpy", "openpyxl", "pandas", "pyarrow"),
    *("requests", "scipy", "seaborn", "sklearn", "sqlite3", "statistics", "sympy", "urllib"),
)
# What differs from one run to the next: the run's directory, its name, durations and speeds.
VOLATILE = [
    (re.compile(r"(/[^\s\"']+)?/runs/\S+?/[0-9a-f]{16}/"), "/RUN/"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "ID"),
    (re.compile(r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+it/s\]"), "[TIME]"),
    (re.compile(r"0x[0-9a-fA-F]{8,}"), "0xADDRESS"),
    (re.compile(r"\([\d.]+ (kB|bytes)\)"), "(SIZE)"),
    (re.compile(r"\nIt took [\d.]+ s .*"), ""),
    (re.compile(r"^ *[~^][~^ ]*\n(?!SyntaxError)", re.MULTILINE), ""),
    (re.compile(r"\[Errno -\d\] [\w ]+"), "[Errno -N] UNRESOLVED"),
]


@pytest.fixture(scope="module")
def analysis_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """An environment with what such programs use."""
    return make_interpreter(tmp_path_factory.mktemp("environments") / "analysis", *PACKAGES)


@pytest.fixture(scope="module")
async def benches(
    tmp_path_factory: pytest.TempPathFactory, analysis_interpreter: Interpreter
) -> AsyncGenerator[dict[str, Bench]]:
    """A bench whose interpreter imports nothing ahead, and one whose interpreter has imported all that is used."""
    limits = Limits(wall_seconds=20, memory_bytes=384 * MEBIBYTE, inline_output_bytes=400)
    directory, reads = tmp_path_factory.mktemp("benches"), (SALES,)
    async with (
        bench_in(directory / "a", within=analysis_interpreter, limits=limits, read_paths=reads) as cold,
        bench_in(directory / "b", within=analysis_interpreter, limits=limits, read_paths=reads) as preloaded,
    ):
        preloaded.zygotes.learn(preloaded.surroundings, USED)
        await preloaded.zygotes.warm(preloaded.surroundings)
        assert preloaded.zygotes.warmed(preloaded.surroundings) >= preload.worthwhile(USED)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preload, "worthwhile", nothing)
            yield {"cold": cold, "preloaded": preloaded}


def nothing(_: Iterable[str]) -> frozenset[str]:
    """No module is worth to be imported ahead."""
    return frozenset()


@pytest.fixture(autouse=True)
def nothing_leaks() -> None:
    """The benches outlive each test, and fork their next spare behind it."""


@pytest.mark.parametrize("program", TYPICAL, ids=[path.stem for path in TYPICAL])
@pytest.mark.parametrize("where", ["cold", "preloaded"])
async def test_a_model_reads(benches: dict[str, Bench], where: str, program: Path, request: pytest.FixtureRequest):
    timeout = 2 if program.stem == "take_too_long" else None
    code = await anyio.Path(program).read_text()
    rendered = render.execution(await benches[where].run(code, timeout_seconds=timeout, args=(str(SALES),)))
    first, *others = rendered.content
    assert isinstance(first, TextContent)
    text = first.text
    for volatile, constant in VOLATILE:
        text = volatile.sub(constant, text)
    text += "".join(f"\n<{block.type}>" for block in others) + "\n"
    file = anyio.Path(program.with_suffix(".txt"))
    if request.config.getoption("--update-texts"):
        await file.write_text(text)
    assert text == await file.read_text()


async def test_no_two_runs_draw_the_same_of_sympy(benches: dict[str, Bench]):
    bench = benches["preloaded"]
    draws = "from sympy import Dummy\nfrom sympy.core.random import rng\nrng.random(), Dummy().dummy_index"
    one, other = [(await bench.run(draws)).result for _ in range(2)]
    assert one
    assert other
    assert not set(one.split()) & set(other.split())
