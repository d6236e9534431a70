"""What tools take: lenient where the meaning is sure, and every mistake told so that the next call can be right."""

import pytest

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.server.arguments import (
    CreateVenv,
    DeleteVenv,
    ExecutePython,
    InstallPackages,
    NoArguments,
    parse_arguments,
)

# What json.loads would make something else of.
JSON_TEXTS = ["null", "true", "1", "1.5", '"quoted"', "[1, 2]", '["a", "b"]', "{}", '{"a": 1}']


@pytest.mark.parametrize("text", JSON_TEXTS)
def test_a_string_that_reads_as_json_stays_the_string_it_was(text: str):
    assert parse_arguments("execute_python", ExecutePython, {"code": text}).code == text
    assert parse_arguments("execute_python", ExecutePython, {"scriptPath": text}).script_path == text
    assert parse_arguments("install_packages", InstallPackages, {"packages": text}).packages == text
    assert parse_arguments("create_venv", CreateVenv, {"venvName": text}).venv_name == text


def test_an_optional_argument_that_is_null_counts_as_left_out():
    given = {"code": "1", "scriptPath": None, "inputData": None, "venvName": None, "args": None, "timeoutMs": None}
    assert parse_arguments("execute_python", ExecutePython, given) == ExecutePython.model_validate({"code": "1"})


def test_a_list_may_come_as_its_json_text():
    asked = parse_arguments("execute_python", ExecutePython, {"code": "1", "inputData": '["a", "b"]', "args": "[]"})
    assert (asked.input_data, asked.args) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"timeout": 5}, "execute_python has no argument 'timeout', perhaps 'timeoutMs' is meant; it takes code, "),
        ({"CODE": "1"}, "execute_python has no argument 'CODE', perhaps 'code' is meant; it takes code, scriptPath, "),
        ({"zzz": 1}, "execute_python has no argument 'zzz'; it takes code, scriptPath, inputData, venvName, args, "),
        ({"script_path": "x"}, "execute_python has no argument 'script_path', perhaps 'scriptPath' is meant; it "),
        ({"code": 5}, "code=5 must be a string; code is: the program itself"),
        ({"code": ["a"]}, "code=['a'] must be a string; code is: the program itself"),
        ({"inputData": "a"}, "inputData='a' must be a list of strings; inputData is: the program's standard input"),
        ({"inputData": "[a"}, "inputData='[a' must be a list of strings; inputData is: the program's standard input"),
        ({"inputData": ["a", 1]}, "inputData[1]=1 must be a string; inputData is: the program's standard input"),
        ({"args": ["a\0"]}, "args[0]='a\\x00' can't hold a NUL character; args is: command-line arguments"),
        ({"scriptPath": "a\0"}, "scriptPath='a\\x00' can't hold a NUL character; scriptPath is: absolute path"),
        ({"timeoutMs": 0}, "timeoutMs=0 must be at least 1; timeoutMs is: wall-clock limit in milliseconds"),
        ({"timeoutMs": 1.5}, "timeoutMs=1.5 must be a whole number; timeoutMs is: wall-clock limit in milliseconds"),
        ({"timeoutMs": "5"}, "timeoutMs='5' must be a whole number; timeoutMs is: wall-clock limit in milliseconds"),
        ({"timeoutMs": True}, "timeoutMs=True must be a whole number; timeoutMs is: wall-clock limit in milliseconds"),
    ],
)
def test_a_bad_argument_is_told_by_name_value_and_rule(given: dict[str, object], told: str):
    with pytest.raises(InvalidArgument) as caught:
        parse_arguments("execute_python", ExecutePython, given)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        (5, "packages=5 must be a list of strings or a string; packages is: requirements as pip takes them"),
        (["a", None], "packages[1]=None must be a string; packages is: requirements as pip takes them"),
        (None, "packages=None must be a list of strings or a string; packages is: requirements as pip takes them"),
    ],
)
def test_bad_packages_are_told_by_what_they_may_be(packages: object, told: str):
    with pytest.raises(InvalidArgument) as caught:
        parse_arguments("install_packages", InstallPackages, {"packages": packages})
    assert str(caught.value).startswith(told)


def test_a_missing_argument_is_told_with_what_it_is():
    with pytest.raises(InvalidArgument, match="create_venv needs 'venvName': name of the new environment: 1 to 64 "):
        parse_arguments("create_venv", CreateVenv, {})


def test_every_bad_argument_has_a_line():
    with pytest.raises(InvalidArgument) as caught:
        parse_arguments("delete_venv", DeleteVenv, {"confirm": "yes", "force": True})
    assert [line.split(" ")[0] for line in str(caught.value).splitlines()] == [
        "delete_venv",
        "confirm='yes'",
        "delete_venv",
    ]


def test_a_tool_without_arguments_says_so():
    with pytest.raises(InvalidArgument, match=r"^list_venvs has no argument 'venvName'; it takes none$"):
        parse_arguments("list_venvs", NoArguments, {"venvName": "a"})


def test_a_long_value_is_shown_cut():
    with pytest.raises(InvalidArgument) as caught:
        parse_arguments("execute_python", ExecutePython, {"timeoutMs": "9" * 10_000})
    assert len(str(caught.value)) < 300
