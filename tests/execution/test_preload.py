import pytest

from mcp_python_executor.execution.preload import packages, standard, worthwhile


def test_known_packages_and_the_standard_library_are_worthwhile():
    assert worthwhile(["numpy", "json", "my_module"]) == {"numpy", "numpy.random", "json"}


@pytest.mark.parametrize("names", [["antigravity"], ["__main__"], ["this"], ["../evil"], ["_private"], [""]])
def test_what_is_unknown_or_seen_when_it_is_imported_is_not(names: list[str]):
    assert worthwhile(names) == frozenset()


def test_beside_a_package_whose_threads_do_not_survive_a_fork_nothing_is():
    assert worthwhile(["pandas", "pyarrow"]) == frozenset()


def test_standard_modules_are_told_from_packages():
    names = ["json", "matplotlib.pyplot", "numpy", "numpy.random"]
    assert standard(names) == {"json"}
    assert packages(names) == {"matplotlib", "numpy"}
