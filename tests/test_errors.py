"""The exception tree: what it is and that each kind of cause has an exit status of its own."""

import inspect
import re
from collections.abc import Iterator

from mcp_python_executor import errors
from mcp_python_executor.errors import ExecutorError


def below(kind: type[ExecutorError]) -> Iterator[type[ExecutorError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def test_the_tree_drawn_in_the_module_is_the_tree():
    drawn = re.findall(r"^[│├└─\s]*([A-Z]\w+)  +\S", errors.__doc__ or "", re.MULTILINE)
    classes = [name for name, _ in inspect.getmembers(errors, inspect.isclass)]
    assert sorted(drawn) == sorted(classes)
    assert set(classes) == {"ExecutorError"} | {
        kind.__name__ for kind in below(ExecutorError) if kind.__module__ == errors.__name__
    }


def test_each_kind_of_cause_has_an_exit_status_of_its_own():
    statuses = [kind.exit_status for kind in below(ExecutorError)]
    assert len(set(statuses)) == len(statuses)
    assert all(64 <= status <= 78 for status in statuses)
