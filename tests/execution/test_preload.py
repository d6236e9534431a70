from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.model import ExecutionRequest
from mcp_python_executor.execution.preload import is_set_up_by, is_standard, packages, worthwhile
from mcp_python_executor.limits import MEBIBYTE, Limits
from mcp_python_executor.sandbox.probe import Walls
from tests.bench import OpenBench, make_interpreter

_POPULAR = "yaml"
_WHERE = "import os\nprocess = os.getpid()\n"
_WAITS = """
import threading
over = threading.Event()
thread = threading.Thread(target=over.wait, daemon=True)
def stop():
    over.set(), thread.join()
    while len(os.listdir("/proc/self/task")) > 1:
        pass
"""
# As the interpreter that forks it is.
_FAILS_ONCE = "import colorsys\nif os.getpid() == 2: raise RuntimeError"
_OPTIONAL = "try:\n    import beside\nexcept ImportError:\n    beside = None\n"


def test_known_packages_and_the_standard_library_are_worthwhile():
    assert worthwhile(["numpy", "json", "my_module"]) == {"numpy", "numpy.random", "json"}


@pytest.mark.parametrize("names", [["antigravity"], ["__main__"], ["this"], ["../evil"], ["_private"], [""]])
def test_what_is_unknown_or_seen_when_it_is_imported_is_not(names: list[str]):
    assert worthwhile(names) == frozenset()


def test_beside_a_package_whose_threads_do_not_survive_a_fork_nothing_is():
    assert worthwhile(["pandas", "torch"]) == frozenset()


def test_standard_modules_are_told_from_packages():
    names = ["json", "matplotlib.pyplot", "numpy", "numpy.random"]
    assert [name for name in names if is_standard(name)] == ["json"]
    assert packages(names) == {"matplotlib", "numpy"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.environ['OMP_NUM_THREADS'] = '1'", True),
        ('os.environ.setdefault("MPLCONFIGDIR", "/tmp")', True),
        ('os.environ.update(OPENBLAS_NUM_THREADS="2")', True),
        ("os.putenv('MPLBACKEND', 'svg')", True),
        ("os.environ['MPLBACKEND'] = 'Agg'", False),
        ('os.environ.update(MPLBACKEND="agg")', False),
        ("import numpy\nPANDAS_AVAILABLE = True  # OMP_NUM_THREADS", False),
    ],
)
def test_a_variable_that_packages_read_is_seen_in_the_code(code: str, expected: bool):
    assert is_set_up_by(code) is expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "ahead"),
    [
        pytest.param("", True, id="nothing"),
        pytest.param(f"{_WAITS}thread.start()", False, id="a thread"),
        pytest.param(
            f"{_WAITS}os.register_at_fork(before=stop)\nthread.start()", True, id="a thread that ends to fork"
        ),
        pytest.param(
            f"{_WAITS}thread.start()\nthreading.Timer(0.3, over.set).start()", True, id="threads that end soon"
        ),
        pytest.param("held = open(__file__)", False, id="an open file"),
        pytest.param("import socket\nheld = socket.socketpair()", False, id="sockets"),
        pytest.param("import subprocess\nheld = subprocess.Popen(['sleep', '60'])", False, id="a process"),
        pytest.param("import signal\nsignal.alarm(60)", False, id="an alarm"),
        pytest.param("import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)", False, id="a signal's handler"),
        pytest.param("os.environ['LEFT'] = 'left'", False, id="a variable"),
        pytest.param("os.chdir('/usr')", False, id="another directory"),
        pytest.param("import sys\nsys.path.append('/usr')", False, id="a path"),
        pytest.param("import sys\nsys.setrecursionlimit(5000)", False, id="a limit"),
        pytest.param("print('said', end='')", False, id="output"),
        pytest.param("import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)", False, id="a warning"),
        pytest.param("held = bytearray(b'x') * (40 << 20)", False, id="much memory"),
        pytest.param(_FAILS_ONCE, False, id="an error"),
    ],
)
async def test_what_a_fork_loses_or_a_program_would_see_is_left_to_the_program(
    walls: Walls, open_bench: OpenBench, tmp_path: Path, code: str, ahead: bool
):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter = make_interpreter(tmp_path / "venv")
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    (packages / f"{_POPULAR}.py").write_text(f"import sys\n{_WHERE}{code}\n")
    async with open_bench(within=interpreter, limits=Limits(ahead_bytes=64 * MEBIBYTE)) as bench:
        bench.zygotes.learn(bench.surroundings, [_POPULAR, "json"])
        await bench.zygotes.warm(bench.surroundings)
        result = await bench.run(
            f"import os, sys\nprint('json' in sys.modules)\nimport {_POPULAR} as it\nit.process == os.getpid()"
        )
    assert result.stdout == f"True\n{'said' * ('said' in code)}"
    assert ("DeprecationWarning: old" in result.stderr) is ("old" in code)
    assert result.result == str(not ahead)


@pytest.mark.anyio
async def test_a_stream_that_a_module_keeps_is_the_programs(walls: Walls, open_bench: OpenBench, tmp_path: Path):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter = make_interpreter(tmp_path / "venv")
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    (packages / f"{_POPULAR}.py").write_text("from sys import stdin, stdout\ndef tell(to=stdout): to.write('told')\n")
    async with open_bench(within=interpreter) as bench:
        bench.zygotes.learn(bench.surroundings, [_POPULAR])
        await bench.zygotes.warm(bench.surroundings)
        code = f"import sys; print('{_POPULAR}' in sys.modules)\nimport {_POPULAR} as it\nit.tell(); it.stdin.read()"
        result = await bench.run(code, stdin=b"given")
    assert (result.stdout, result.result) == ("True\ntold", "'given'")


@pytest.mark.anyio
async def test_an_interpreter_with_packages_that_ended_comes_back(walls: Walls, open_bench: OpenBench, tmp_path: Path):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter = make_interpreter(tmp_path / "venv")
    (next((interpreter.prefix / "lib").glob("python*/site-packages")) / f"{_POPULAR}.py").touch()
    async with open_bench(within=interpreter) as bench:
        bench.zygotes.learn(bench.surroundings, [_POPULAR])
        await bench.zygotes.warm(bench.surroundings)
        ended = await bench.zygotes.zygote(bench.surroundings, _POPULAR)
        ended.retire()
        with anyio.fail_after(60):
            while ended.alive:  # noqa: ASYNC110 - it has no event of its own
                await anyio.sleep(0.01)
        meanwhile = await bench.run(f"import {_POPULAR}\n{_POPULAR}.__name__")
        await bench.zygotes.warm(bench.surroundings)
        again = await bench.run(f"import sys\n'{_POPULAR}' in sys.modules")
    assert (meanwhile.result, again.result) == (f"'{_POPULAR}'", "True")


@pytest.mark.anyio
@pytest.mark.parametrize("most", ["yaml", "bs4"])
async def test_where_memory_does_not_hold_all_the_most_used_is_imported_ahead(
    walls: Walls, open_bench: OpenBench, tmp_path: Path, most: str
):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter = make_interpreter(tmp_path / "venv")
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    for name in ("yaml", "bs4"):
        (packages / f"{name}.py").write_text("held = bytearray(b'x') * (30 << 20)")
    async with open_bench(within=interpreter, limits=Limits(ahead_bytes=96 * MEBIBYTE)) as bench:
        for names in (["yaml", "bs4", "json"], [most]):
            bench.zygotes.learn(bench.surroundings, names)
        await bench.zygotes.warm(bench.surroundings)
        there = await bench.run("import sys\n[name in sys.modules for name in ('yaml', 'bs4', 'json')]")
    assert there.result == str([most == "yaml", most == "bs4", True])


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["a file", "itself"])
async def test_a_package_finds_the_settings_of_a_script(walls: Walls, open_bench: OpenBench, tmp_path: Path, by: str):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter, script = make_interpreter(tmp_path / "venv"), tmp_path / "scripts" / "script.py"
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    settings = "os.path.exists('matplotlibrc') or 'MPLBACKEND' in os.environ and os.environ['MPLBACKEND'] != 'agg'"
    (packages / f"{_POPULAR}.py").write_text(f"import os\nsettings = {settings}")
    script.parent.mkdir()
    script.write_text(f"import sys\nprint('{_POPULAR}' in sys.modules)\nimport {_POPULAR} as it\nprint(it.settings)")
    told: list[str] = []
    for _ in range(2):
        async with open_bench(within=interpreter, script=script) as bench:
            bench.zygotes.learn(bench.surroundings, [_POPULAR])
            await bench.zygotes.warm(bench.surroundings)
            request = ExecutionRequest(script=script, venv_name="default")
            told.append((await bench.runner.execute(request, bench.surroundings)).stdout)
        if by == "a file":
            (script.parent / "matplotlibrc").touch()
        else:
            script.write_text(f"import os\nos.environ['MPLBACKEND'] = 'svg'\n{script.read_text()}")
    assert told == ["True\nFalse\n", "False\nTrue\n"]


@pytest.mark.anyio
async def test_a_scripts_own_modules_come_first(open_bench: OpenBench, tmp_path: Path, isolation: str):
    interpreter, script = make_interpreter(tmp_path / "venv"), tmp_path / "scripts" / "script.py"
    packages = next((interpreter.prefix / "lib").glob("python*/site-packages"))
    (packages / f"{_POPULAR}.py").write_text("")
    shadows = ("json/__init__.py", "json/decoder.py", "logging/a.log", "os.py", "random.py", f"{_POPULAR}.py")
    for name in shadows:
        (script.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (script.parent / name).write_text("own = True")
    names = ("json", "json.decoder", "logging", "os", "random", "statistics", _POPULAR)
    script.write_text(f"import importlib\nprint([hasattr(importlib.import_module(name), 'own') for name in {names}])")
    plain = (await anyio.run_process([interpreter.python, script])).stdout.decode()
    assert plain == "[True, True, False, False, True, False, True]\n"
    async with open_bench(within=interpreter, script=script, isolation=isolation) as bench:
        bench.zygotes.learn(bench.surroundings, ["logging", "random", "statistics", _POPULAR])
        await bench.zygotes.warm(bench.surroundings)
        request = ExecutionRequest(script=script, venv_name="default")
        told = [(await bench.runner.execute(request, bench.surroundings)).stdout for _ in range(2)]
    assert told == [plain] * 2


def _in_the_environment(packages: Path, _: Path) -> None:
    (packages / f"{_POPULAR}.py").write_text(_WHERE)


def _in_its_path(packages: Path, elsewhere: Path) -> None:
    (packages / "elsewhere.pth").write_text(str(elsewhere))
    (elsewhere / f"{_POPULAR}.py").write_text(_WHERE)


def _behind_a_link(packages: Path, elsewhere: Path) -> None:
    (elsewhere / f"{_POPULAR}.py").write_text(_WHERE)
    (packages / f"{_POPULAR}.py").symlink_to(elsewhere / f"{_POPULAR}.py")


def _behind_a_link_to_its_folder(packages: Path, elsewhere: Path) -> None:
    (elsewhere / "__init__.py").write_text(_WHERE)
    (packages / _POPULAR).symlink_to(elsewhere)


def _at_the_front(packages: Path, elsewhere: Path) -> None:
    (elsewhere / f"{_POPULAR}.py").write_text(_WHERE)
    (packages / "front.pth").write_text(f"import sys; sys.path.insert(0, {str(elsewhere)!r})")


def _in_part(packages: Path, elsewhere: Path) -> None:
    (packages / "elsewhere.pth").write_text(str(elsewhere))
    (packages / f"{_POPULAR}.py").write_text(_WHERE + _OPTIONAL)
    (elsewhere / "beside.py").write_text("")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lay", "ahead"),
    [
        (_in_the_environment, True),
        *(
            (lay, False)
            for lay in (_in_its_path, _behind_a_link, _behind_a_link_to_its_folder, _at_the_front, _in_part)
        ),
    ],
)
async def test_what_lies_outside_the_environment_is_not_imported_ahead(
    walls: Walls, open_bench: OpenBench, tmp_path: Path, lay: Callable[[Path, Path], None], ahead: bool
):
    assert walls.bubblewrap, "without it nothing is imported ahead"
    interpreter, elsewhere = make_interpreter(tmp_path / "venv"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    lay(next((interpreter.prefix / "lib").glob("python*/site-packages")), elsewhere)
    code = f"import os, json, {_POPULAR} as it\nit.process != os.getpid(), getattr(it, 'beside', 0) is None"
    async with open_bench(within=interpreter, read_paths=(elsewhere,)) as bench:
        bench.zygotes.learn(bench.surroundings, [_POPULAR, "json"])
        await bench.zygotes.warm(bench.surroundings)
        assert (await bench.run(code)).result == f"({ahead}, False)"
