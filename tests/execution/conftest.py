"""What needs a cgroup of its own runs where one is delegated, else in a virtual machine, and that in the long run."""

import pytest

from mcp_python_executor.execution.cgroups import open_cgroups


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    dropped: set[pytest.Item] = set()
    here = [item for item in items if isinstance(item, pytest.Function) and item.path.name == "test_cgroups.py"]
    if here:
        with open_cgroups() as cgroups:
            delegated = cgroups.delegated
        dropped.update(item for item in here if "own" in item.fixturenames and not delegated)
    if not config.getoption("--long"):
        dropped.update(item for item in items if "in_a_virtual_machine" in item.name)
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = [item for item in items if item not in dropped]
