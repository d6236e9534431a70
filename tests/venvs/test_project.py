import itertools
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.venvs import project, pythons

_LOCK = """
[[package]]
name = "web"
dependencies = [{ name = "templates" }, { name = "wire" }]

[[package]]
name = "templates"
dependencies = [{ name = "safe" }]
optional-dependencies = { i18n = [{ name = "words" }] }

[[package]]
name = "wire"
"""


def _asked(*texts: str) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def test_the_same_requests_make_the_same_project_in_any_order():
    asked = _asked("six", "numpy<2,>=1", "pandas[excel]")
    rendered = {project.render(order, pythons.default()) for order in itertools.permutations(asked)}
    assert len(rendered) == 1
    tomllib.loads(rendered.pop())


def test_what_was_asked_for_can_be_read_back(tmp_path: Path):
    asked = _asked("numpy<2,>=1", 'pandas[excel]; python_version >= "3.9"', "six")
    path = tmp_path / project.PYPROJECT
    path.write_text(project.render(asked, pythons.default()))
    assert sorted(map(str, project.requests(path))) == sorted(map(str, asked))


def test_a_new_specifier_takes_the_place_of_the_old_one():
    assert list(map(str, project.merge(_asked("numpy<2"), _asked("NumPy>=2")))) == ["numpy>=2"]


def test_a_bare_name_leaves_an_old_specifier_as_it_is():
    assert list(map(str, project.merge(_asked("numpy<2"), _asked("numpy")))) == ["numpy<2"]


def test_two_specifiers_asked_for_at_once_hold_at_once():
    assert list(map(str, project.merge([], _asked("numpy>=1", "numpy<2")))) == ["numpy<2,>=1"]


def test_the_projects_own_name_is_no_package():
    with pytest.raises(InvalidArgument, match="no package"):
        project.merge([], _asked("MCP.python_executor-venv"))


def test_extras_add_up():
    assert list(map(str, project.merge(_asked("pandas[excel]>2"), _asked("pandas[plot]")))) == ["pandas[excel,plot]>2"]


def test_removal_goes_by_normalized_names():
    assert list(map(str, project.without(_asked("Ruamel.YAML>0", "six"), ["ruamel-yaml"]))) == ["six"]


def test_the_generation_is_named_by_requests_lock_python_and_built_wheels():
    default = pythons.default()
    other = pythons.Interpreter(Path("/opt/python"), default.version, Path("/opt"))
    names = {
        project.generation_id("a", "b", default, {}),
        project.generation_id("A", "b", default, {}),
        project.generation_id("a", "B", default, {}),
        project.generation_id("a", "b", other, {}),
        project.generation_id("a", "b", default, {"x.whl": "0"}),
        project.generation_id("a", "b", default, {"x.whl": "1"}),
    }
    assert len(names) == 6
    assert project.generation_id("a", "b", default, {}) in names


def test_what_the_project_alone_asks_for_is_needed_by_no_package():
    needs = project.Needs({project.PROJECT_NAME: ("pip", "pandas"), "pip": (), "pandas": ("six",), "six": ()})
    assert needs.needed() == {"six"}


def test_the_chain_tells_the_shortest_way_from_a_request_to_what_it_needs():
    needs = project.Needs.of(_LOCK)
    assert needs.chain(["web"], "safe") == ["web", "templates", "safe"]
    assert needs.chain(["web", "templates"], "safe") == ["templates", "safe"]
    assert needs.chain(["web"], "words") == ["web", "templates", "words"]
    assert needs.chain(["wire"], "safe") == []
    assert needs.chain([], "safe") == []


def _lock(*dependencies: str, packages: str) -> str:
    needs = ", ".join(dependencies)
    return f'[[package]]\nname = "{project.PROJECT_NAME}"\ndependencies = [{needs}]\n{packages}'


def test_unchanged_is_what_two_locks_have_in_common_and_the_later_one_surely_needs():
    web, wire = '{ name = "web" }', '{ name = "wire", marker = "platform_release < \'3\'" }'
    before = _lock(web, '{ name = "wire" }', packages=_LOCK + '[[package]]\nname = "safe"\nversion = "1"\n')
    after = _lock(web, wire, packages=_LOCK + '[[package]]\nname = "safe"\nversion = "2"\n')
    assert project.unchanged(before, before) == {"web", "templates", "wire", "safe"}
    assert project.unchanged(before, after) == {"web", "templates", "wire"}  # web needs wire, whatever the marker says
    assert project.unchanged(before, _lock(wire, packages=_LOCK)) == set()


def test_unchanged_is_what_an_extra_needs_where_that_is_surely_asked_for():
    packages = _LOCK + '[[package]]\nname = "words"\n'
    extra = '{ name = "templates", extra = ["i18n"] }'
    perhaps = '{ name = "templates", extra = ["i18n"], marker = "platform_release < \'3\'" }'
    asked, sometimes = _lock(extra, packages=packages), _lock('{ name = "templates" }', perhaps, packages=packages)
    assert project.unchanged(asked, asked) == {"templates", "words"}
    assert project.unchanged(asked, sometimes) == {"templates"}


def test_a_package_in_several_versions_is_not_taken_for_unchanged():
    several = '[[package]]\nname = "web"\nversion = "1"\n[[package]]\nname = "web"\nversion = "2"\n'
    lock = _lock('{ name = "web", version = "1" }', packages=several)
    assert project.unchanged(lock, lock) == set()
