"""The ready prompts: what a person fills in reaches the model."""

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, GetPromptResult, TextContent

from mcp_python_executor.server.app import build_server
from tests.server.scripted import Scripted

pytestmark = pytest.mark.anyio


async def prompt(name: str, /, **arguments: str) -> str:
    result = await build_server(Scripted().service).get_prompt(name, arguments)
    assert isinstance(result, GetPromptResult)
    [message] = result.messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def test_each_prompt_names_its_arguments_and_which_it_needs():
    prompts = await build_server(Scripted().service).list_prompts()
    assert {one.name: [(it.name, it.required) for it in one.arguments or []] for one in prompts} == {
        "execute-python": [("task", True)],
        "debug-python": [("code", True), ("problem", False)],
        "install-packages": [("purpose", True), ("venv", False)],
        "create-venv": [("purpose", True), ("venv", False), ("python", False)],
    }
    assert all(one.title and one.description and all(it.description for it in one.arguments or []) for one in prompts)


async def test_what_a_person_fills_in_is_in_the_message():
    assert (await prompt("execute-python", task="Count primes")).startswith("Count primes\n")
    assert "```python\n1/0\n```" in await prompt("debug-python", code="1/0")
    assert "What goes wrong: it stops" in await prompt("debug-python", code="1/0", problem="it stops")
    assert "the default environment" in await prompt("install-packages", purpose="maps")
    assert "named 'geo' with create_venv, pythonVersion '3.12'," in await prompt(
        "create-venv", purpose="maps", venv="geo", python="3.12"
    )
    assert "the environment 'geo'" in await prompt("install-packages", purpose="maps", venv="geo")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        (
            "nope",
            {},
            "there is no prompt 'nope'; there are execute-python, debug-python, install-packages, create-venv",
        ),
        ("debug-python", {"problem": "x"}, "prompt 'debug-python' needs 'code'; it takes code, problem"),
        ("execute-python", {"task": "x", "y": "z"}, "prompt 'execute-python' has no argument 'y'; it takes task"),
    ],
)
async def test_a_mistake_in_asking_for_a_prompt_is_told_in_words(name: str, arguments: dict[str, str], told: str):
    with pytest.raises(MCPError) as caught:
        await prompt(name, **arguments)
    assert (caught.value.error.code, caught.value.error.message) == (INVALID_PARAMS, told)
