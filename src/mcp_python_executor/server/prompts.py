"""Ready prompts: what a person picks from a menu instead of typing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    Prompt,
    PromptReference,
    ResourceTemplateReference,
)
from pydantic import Field

# See "Completion" in the protocol's specification.
_MOST_COMPLETIONS = 100
_CREATES = "create-venv"


def check(prompts: Iterable[Prompt], name: str, given: Mapping[str, Any]) -> None:
    """Sees that `name` is one of `prompts` and takes what is `given`.

    Raises:
        MCPError: in words, as a mistake of the client's.
    """
    known = {prompt.name: prompt.arguments or [] for prompt in prompts}
    if name not in known:
        raise MCPError(INVALID_PARAMS, f"there is no prompt {name!r}; there are {', '.join(known)}")
    takes = ", ".join(argument.name for argument in known[name])
    if missing := [argument.name for argument in known[name] if argument.required and argument.name not in given]:
        raise MCPError(INVALID_PARAMS, f"prompt {name!r} needs {missing[0]!r}; it takes {takes}")
    if unknown := [key for key in given if key not in {argument.name for argument in known[name]}]:
        raise MCPError(INVALID_PARAMS, f"prompt {name!r} has no argument {unknown[0]!r}; it takes {takes}")


def add_prompts(server: MCPServer[Any]) -> None:
    """Gives `server` its prompts."""

    @server.prompt(name="execute-python", title="Do it in Python")
    async def _execute_python(
        task: Annotated[str, Field(description="what shall be computed, made or found out")],
    ) -> str:
        """Write a program for a task, run it, and report what it found."""
        return (
            f"{task}\n\n"
            "Write a Python program for this and run it with execute_python. Install what it needs with "
            "install_packages. If it fails, read the error, mend the program and run it again. Then tell me the result "
            "in a few sentences, with the numbers it printed and where its files are."
        )

    @server.prompt(name="debug-python", title="Find the fault in a program")
    async def _debug_python(
        code: Annotated[str, Field(description="the program that fails")],
        problem: Annotated[str, Field(description="what goes wrong, if known")] = "",
    ) -> str:
        """Run a failing program, find the cause of the failure and mend it."""
        observed = f"What goes wrong: {problem}\n\n" if problem else ""
        return (
            f"This Python program has a fault:\n\n```python\n{code}\n```\n\n{observed}"
            "Run it with execute_python and read what it prints and raises. Find the cause, change as little as it "
            "needs, and run the changed program to prove that it works. Then show me the change and say what was wrong."
        )

    @server.prompt(name="install-packages", title="Set up an environment")
    async def _install_packages(
        purpose: Annotated[str, Field(description="what the environment is for")],
        venv: Annotated[str, Field(description="its name; left out: the default environment")] = "",
    ) -> str:
        """Choose and install the packages for a purpose, and prove that they work."""
        place = f"the environment {venv!r}" if venv else "the default environment"
        return (
            f"Set up {place} for this purpose: {purpose}\n\n"
            "Look with list_packages at what is there. Choose the fewest well-kept packages that serve the purpose, "
            "install them with install_packages, and import each of them in one execute_python call to prove that they "
            "work. Then list them with a word on what each is for."
        )

    @server.prompt(name=_CREATES, title="Make an environment")
    async def _create_venv(
        purpose: Annotated[str, Field(description="what the environment is for")],
        venv: Annotated[str, Field(description="its name; left out: a fitting one is chosen")] = "",
        python: Annotated[str, Field(description="Python version, as in 3.12; left out: the server's default")] = "",
    ) -> str:
        """Make an environment for a purpose, with the packages it needs."""
        name = f"named {venv!r}" if venv else "with a short, fitting name"
        version = f", pythonVersion {python!r}" if python else ""
        return (
            f"Make a new environment {name} with create_venv{version}, and say in its description what it is for: "
            f"{purpose}\n\n"
            "Look with list_venvs whether there is one for this purpose already, and ask me before you make a second. "
            "Install the fewest well-kept packages that it needs with install_packages, and prove with one "
            "execute_python call that they work."
        )


def add_completion(server: MCPServer[Any], venv_names: Callable[[], Awaitable[list[str]]]) -> None:
    """Completes the argument of prompts that names an environment which is there."""

    @server.completion()
    async def _complete(
        reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _context: CompletionContext | None,
    ) -> Completion | None:
        if not isinstance(reference, PromptReference) or reference.name == _CREATES or argument.name != "venv":
            return None
        found = [name for name in await venv_names() if name.startswith(argument.value)]
        return Completion(values=found[:_MOST_COMPLETIONS], total=len(found), has_more=len(found) > _MOST_COMPLETIONS)
