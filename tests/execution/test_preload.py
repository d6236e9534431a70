from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_python_executor.execution.preload import is_standard, packages, worthwhile
from mcp_python_executor.sandbox.probe import Walls
from tests.bench import OpenBench, make_interpreter

_POPULAR = "yaml"
_WHERE = "import os\nprocess = os.getpid()\n"
_OPTIONAL = "try:\n    import beside\nexcept ImportError:\n    beside = None\n"


def test_known_packages_and_the_standard_library_are_worthwhile():
    assert worthwhile(["numpy", "json", "my_module"]) == {"numpy", "numpy.random", "json"}


@pytest.mark.parametrize("names", [["antigravity"], ["__main__"], ["this"], ["../evil"], ["_private"], [""]])
def test_what_is_unknown_or_seen_when_it_is_imported_is_not(names: list[str]):
    assert worthwhile(names) == frozenset()


def test_beside_a_package_whose_threads_do_not_survive_a_fork_nothing_is():
    assert worthwhile(["pandas", "pyarrow"]) == frozenset()


def test_standard_modules_are_told_from_packages():
    names = ["json", "matplotlib.pyplot", "numpy", "numpy.random"]
    assert [name for name in names if is_standard(name)] == ["json"]
    assert packages(names) == {"matplotlib", "numpy"}


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
        with anyio.fail_after(30):
            while _POPULAR not in bench.zygotes.warmed(bench.surroundings):  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
        assert (await bench.run(code)).result == f"({ahead}, False)"
