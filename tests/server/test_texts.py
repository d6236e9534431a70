"""What a model reads of thirty typical programs: the text beside each program, which `--update-texts` writes anew."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest
from mcp_types import TextContent

from mcp_python_executor.execution.model import Interpreter
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.server import render
from tests.bench import PROGRAMS, Bench, OpenBench, make_interpreter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

TYPICAL = sorted((PROGRAMS / "analysis").glob("*.py"))
SALES = PROGRAMS / "analysis" / "sales.csv"
# Those whose words stand in the texts in one version each.
PACKAGES = (
    *("pandas==3.1.1", "scikit-learn==1.9.1", "sympy==1.14.0", "pillow==13.0.0", "requests==2.34.2", "urllib3==2.8.0"),
    *("tqdm==4.70.1", "openpyxl", "seaborn", "jinja2"),
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


@pytest.fixture
async def bench(open_bench: OpenBench, analysis_interpreter: Interpreter) -> AsyncGenerator[Bench]:
    limits = Limits(wall_seconds=20, memory_bytes=384 * MEBIBYTE, inline_output_bytes=400)
    async with open_bench(within=analysis_interpreter, limits=limits, read_paths=(SALES,)) as opened:
        yield opened


@pytest.mark.parametrize("program", TYPICAL, ids=[path.stem for path in TYPICAL])
async def test_a_model_reads(bench: Bench, program: Path, request: pytest.FixtureRequest):
    timeout = 2 if program.stem == "take_too_long" else None
    code = await anyio.Path(program).read_text()
    rendered = render.execution(await bench.run(code, timeout_seconds=timeout, args=(str(SALES),)))
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


async def test_no_two_runs_draw_the_same_of_sympy(bench: Bench):
    bench.zygotes.learn(bench.surroundings, ["sympy"])
    await bench.zygotes.warm(bench.surroundings)
    draws = "from sympy import Dummy\nfrom sympy.core.random import rng\nrng.random(), Dummy().dummy_index"
    assert "sympy" in bench.zygotes.warmed(bench.surroundings)
    one, other = [(await bench.run(draws)).result for _ in range(2)]
    assert one
    assert other
    assert not set(one.split()) & set(other.split())
