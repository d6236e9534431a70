"""The server as a host meets it: over real pipes, in both eras of the protocol."""

import base64
import struct
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    ImageContent,
    PromptReference,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from tests.server.conftest import StartServer
from tests.server.holding import HOLDING, is_held

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("walls")]

PACKAGE_OPERATION = {"venvName", "created", "added", "changed", "removed", "unchanged", "durationMs"}
VENV = {*("name", "description", "isDefault", "path", "pythonVersion", "packageCount", "createdAt", "status")}


async def tool(client: Client, name: str) -> Tool:
    return next(tool for tool in (await client.list_tools()).tools if tool.name == name)


async def call(client: Client, tool: str, **arguments: Any) -> CallToolResult:
    """A call whose structured content the client checks against the tool's schema."""
    with anyio.fail_after(60):
        return await client.call_tool(tool, arguments)


def text(result: CallToolResult) -> str:
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


# What is offered


async def test_the_tools_take_exactly_the_arguments_of_the_contract(client: Client):
    tools = (await client.list_tools()).tools
    assert {tool.name: list(tool.input_schema["properties"]) for tool in tools} == {
        "execute_python": ["code", "scriptPath", "inputData", "venvName", "args", "timeoutMs"],
        "read_output": ["executionId", "source", "offset", "limit"],
        "install_packages": ["packages", "venvName"],
        "uninstall_packages": ["packages", "venvName"],
        "list_packages": ["venvName"],
        "list_venvs": [],
        "create_venv": ["venvName", "description", "pythonVersion"],
        "delete_venv": ["venvName", "confirm"],
        "set_venv_description": ["venvName", "description"],
        "health_check": ["venvName"],
    }
    assert {tool.name: tool.input_schema.get("required", []) for tool in tools} == {
        "execute_python": [],
        "read_output": ["executionId", "source"],
        "install_packages": ["packages"],
        "uninstall_packages": ["packages"],
        "list_packages": [],
        "list_venvs": [],
        "create_venv": ["venvName"],
        "delete_venv": ["venvName"],
        "set_venv_description": ["venvName", "description"],
        "health_check": [],
    }


async def test_the_arguments_have_the_types_of_the_contract(client: Client):
    strings = {"type": "array", "items": {"type": "string"}}
    types = {
        name: {key: value for key, value in schema.items() if key not in ("description", "default")}
        for tool in (await client.list_tools()).tools
        for name, schema in tool.input_schema["properties"].items()
    }
    assert types == {
        "code": {"type": "string"},
        "scriptPath": {"type": "string"},
        "inputData": strings,
        "args": strings,
        "timeoutMs": {"type": "integer", "minimum": 1},
        "packages": {"anyOf": [strings, {"type": "string"}]},
        "venvName": {"type": "string"},
        "description": {"type": "string"},
        "pythonVersion": {"type": "string"},
        "confirm": {"type": "boolean"},
        "executionId": {"type": "string"},
        "source": {"type": "string"},
        "offset": {"type": "integer", "minimum": 0},
        "limit": {"type": "integer", "minimum": 4, "maximum": 4 << 20},
    }


async def test_every_tool_is_described_wholly(client: Client):
    for tool in (await client.list_tools()).tools:
        assert tool.title
        assert tool.description
        assert tool.input_schema["additionalProperties"] is False
        assert all(schema["description"] for schema in tool.input_schema["properties"].values())
        assert tool.output_schema
        assert tool.output_schema["type"] == "object"
        for schema in (tool.input_schema, tool.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)


async def test_hints_tell_what_each_tool_may_do(client: Client):
    told = {
        tool.name: (
            tool.annotations.read_only_hint,
            tool.annotations.destructive_hint,
            tool.annotations.idempotent_hint,
            tool.annotations.open_world_hint,
        )
        for tool in (await client.list_tools()).tools
        if tool.annotations
    }
    #                      read-only, destructive, idempotent, open world
    assert told == {
        "execute_python": (False, False, False, False),
        "read_output": (True, False, True, False),
        "install_packages": (False, False, True, True),
        "uninstall_packages": (False, True, True, False),
        "list_packages": (True, False, True, False),
        "list_venvs": (True, False, True, False),
        "create_venv": (False, False, True, False),
        "delete_venv": (False, True, True, False),
        "set_venv_description": (False, False, True, False),
        "health_check": (True, False, True, False),
    }


async def test_the_server_tells_what_to_know_before_the_first_call(client: Client):
    assert client.instructions
    assert "install_packages" in client.instructions
    assert "30 s, 512 MB" in client.instructions


# What tools return


async def test_a_program_returns_what_it_printed_and_its_value(client: Client):
    result = await call(client, "execute_python", code="print('hello')\n6 * 7")
    assert (text(result), result.is_error) == ("hello\n42", False)
    assert result.structured_content["stdout"] == "hello\n"
    assert result.structured_content["result"] == "42"
    assert result.structured_content["status"] == "ok"


async def test_a_failing_program_is_a_result_with_what_it_printed_until_then(client: Client):
    result = await call(client, "execute_python", code="print('before')\n1 / 0")
    assert result.is_error
    assert text(result).startswith("before\nTraceback (most recent call last):\n")
    assert result.structured_content["error"]["type"] == "ZeroDivisionError"
    assert result.structured_content["error"]["line"] == 2


async def test_input_data_and_arguments_reach_the_program(client: Client):
    code = "import sys\nprint(sys.argv[1:], sys.stdin.read().split('\\n'))"
    result = await call(client, "execute_python", code=code, inputData=["a", "", "é"], args=["-x", "y z"])
    assert result.structured_content["stdout"] == "['-x', 'y z'] ['a', '', 'é', '']\n"


@pytest.mark.parametrize("code", ["1", "None", "True", '"quoted"', "[1, 2]", '{"a": 1}', "null"])
async def test_code_that_reads_as_json_runs_as_the_python_it_is(client: Client, code: str):
    result = await call(client, "execute_python", code=code)
    if code == "null":
        assert result.structured_content["error"]["type"] == "NameError"
    else:
        shown = None if code == "None" else repr(eval(code))  # noqa: S307 - the list above
        assert result.structured_content.get("result") == shown


async def test_environments_live_a_whole_life(client: Client):
    created = await call(client, "create_venv", venvName="life", description="for a test")
    assert created.structured_content["venv"].keys() == VENV
    described = await call(client, "set_venv_description", venvName="life", description="changed")
    assert described.structured_content["venv"]["description"] == "changed"
    listed = await call(client, "list_venvs")
    assert {venv["name"]: venv["description"] for venv in listed.structured_content["venvs"]}["life"] == "changed"
    deleted = await call(client, "delete_venv", venvName="life")
    assert deleted.structured_content == {"venvName": "life", "deleted": True}


async def test_packages_come_and_go(client: Client):
    installed = await call(client, "install_packages", packages="six==1.17.0", venvName="pkgs")
    assert installed.structured_content.keys() == PACKAGE_OPERATION
    assert installed.structured_content["created"] is True
    assert installed.structured_content["added"] == [{"name": "six", "version": "1.17.0"}]
    listed = await call(client, "list_packages", venvName="pkgs")
    assert listed.structured_content["packages"] == [{"name": "six", "version": "1.17.0", "requested": True}]
    used = await call(client, "execute_python", code="import six\nsix.__version__", venvName="pkgs")
    assert used.structured_content["result"] == "'1.17.0'"
    removed = await call(client, "uninstall_packages", packages=["six"], venvName="pkgs")
    assert removed.structured_content["removed"] == [{"name": "six", "version": "1.17.0"}]
    await call(client, "delete_venv", venvName="pkgs")


async def test_health_is_told_in_the_keys_of_the_contract(client: Client):
    result = await call(client, "health_check", venvName="default")
    assert result.structured_content.keys() == {
        *("status", "problems", "version", "uptimeSeconds", "python", "uv", "isolation", "limits", "executions"),
        *("venvs", "disk"),
    }
    assert text(result).startswith("Status: ok\n")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("execute_python", {}, "execute_python takes exactly one of 'code' and 'scriptPath'"),
        ("execute_python", {"code": "1", "venvName": "defualt"}, "venv 'defualt' does not exist"),
        ("execute_python", {"code": "1", "timeout": 1}, "execute_python has no argument 'timeout', perhaps"),
        ("execute_python", {"scriptPath": "/etc/passwd"}, "script '/etc/passwd' is outside SCRIPT_ROOTS"),
        ("install_packages", {"packages": "nump>y"}, None),
        ("install_packages", {"packages": []}, None),
        ("install_packages", {"packages": "null=1"}, None),
        ("create_venv", {"venvName": "../up"}, "'../up' can't name an environment"),
        ("create_venv", {"venvName": "nul"}, "'nul' can't name an environment"),
        ("delete_venv", {"venvName": "default"}, "venv 'default' is the default one"),
        ("list_packages", {"venvName": "none"}, "venv 'none' does not exist"),
        ("read_output", {"executionId": "x", "source": "stdout"}, "no execution 'x' is kept"),
        ("read_output", {"executionId": "x", "source": "stdout", "limit": 3}, "limit=3 must be at least 4"),
        ("read_output", {"executionId": "x", "source": "stdout", "limit": 9 << 20}, "limit=9437184 must be at most"),
        ("no_tool", {}, "there is no tool 'no_tool'"),
    ],
)
async def test_a_mistake_is_an_error_that_the_next_call_can_mend(
    client: Client, name: str, arguments: dict[str, Any], told: str | None
):
    result = await call(client, name, **arguments)
    assert result.is_error
    assert result.structured_content is None
    assert text(result).startswith(told or "")
    assert "Error executing tool" not in text(result)
    assert "Traceback" not in text(result)


# What must not break the connection


async def test_surrogates_pass_nowhere_and_end_nothing(client: Client):
    listener = Listener()
    code = """
import os
print('a\\udc80', flush=True)
os.write(1, b'\\xff')
open(os.environ['OUTPUT_PATH'] + '/b\\udcff.txt', 'w').close()
raise ValueError('c\\ud800')
"""
    with anyio.fail_after(60):
        result = await client.call_tool("execute_python", {"code": code}, progress_callback=listener)
    assert result.is_error
    for place in (text(result), str(result.structured_content), listener.text):
        place.encode()
    assert "a" in listener.text
    assert "\ufffd" in result.structured_content["stdout"]
    assert result.structured_content["files"][0]["path"].endswith("/b\ufffd.txt")
    assert (await call(client, "execute_python", code="1")).structured_content["result"] == "1"


async def test_what_a_program_writes_to_any_descriptor_stays_off_the_wire(client: Client):
    code = """
import os, subprocess, sys
for descriptor in range(64):
    try:
        os.write(descriptor, b'{"jsonrpc": "2.0", "id": 1, "result": {}}\\n')
    except OSError:
        pass
subprocess.run([sys.executable, '-c', 'print("from a child")'])
"""
    result = await call(client, "execute_python", code=code)
    assert "from a child" in result.structured_content["stdout"]
    assert (await call(client, "execute_python", code="1")).structured_content["result"] == "1"


# While it runs


class Listener:
    """Hears progress as a client does."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.text = ""
        self.heard = anyio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        self.values.append(progress)
        self.text += message or ""
        self.heard.set()


async def test_output_arrives_whole_and_in_order(client: Client):
    listener = Listener()
    code = "for number in range(10_000): print(number)"
    with anyio.fail_after(60):
        result = await client.call_tool("execute_python", {"code": code}, progress_callback=listener)
    assert listener.text == (await whole_output(client, result))
    assert listener.values == sorted(set(listener.values))


async def test_package_operations_tell_their_stages(client: Client):
    stages: dict[str, str] = {}
    for name, arguments in {
        "create_venv": {"venvName": "staged"},
        "install_packages": {"packages": "six==1.17.0", "venvName": "staged"},
        "uninstall_packages": {"packages": "six", "venvName": "staged"},
    }.items():
        listener = Listener()
        with anyio.fail_after(120):
            result = await client.call_tool(name, arguments, progress_callback=listener)
        assert not result.is_error, text(result)
        stages[name] = listener.text
    await call(client, "delete_venv", venvName="staged")
    assert stages["install_packages"].startswith("resolving")
    assert [told.endswith("switching") for told in stages.values()] == [True] * 3


async def whole_output(client: Client, result: CallToolResult) -> str:
    uri = f"execution://{result.structured_content['executionId']}/stdout"
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_output_arrives_while_the_program_runs(server: StartServer, tmp_path: Path, mode: str):
    code = """
import os, time
print('waiting', flush=True)
while not os.path.exists(os.environ['OUTPUT_PATH'] + '/heard'):
    time.sleep(0.01)
"""
    listener = Listener()

    async def let_it_end() -> None:
        await listener.heard.wait()
        await anyio.Path(tmp_path / "heard").touch()

    async with Client(server(OUTPUT_PATH=tmp_path), mode=mode) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(let_it_end)
        result = await client.call_tool(
            "execute_python", {"code": code}, progress_callback=listener, read_timeout_seconds=60
        )
        assert result.structured_content["status"] == "ok"
    assert listener.text == "waiting\n"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_leaves_nothing_running(server: StartServer, tmp_path: Path, mode: str):
    listener = Listener()
    async with Client(server(OUTPUT_PATH=tmp_path, MAX_CONCURRENT_EXECUTIONS=1), mode=mode) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(client.call_tool, "execute_python", HOLDING, progress_callback=listener))
            with anyio.fail_after(60):
                await listener.heard.wait()
            assert is_held(tmp_path)
            tasks.cancel_scope.cancel()
        # Its place is free again: there is but one.
        result = await call(client, "execute_python", code="1")
        assert result.structured_content["status"] == "ok"
        assert not is_held(tmp_path)


async def test_a_silent_run_is_heard_of(server: StartServer):
    async def run(mode: str) -> None:
        listener = Listener()
        async with Client(server(), mode=mode) as client:
            arguments = {"code": "import time\ntime.sleep(11)"}
            await client.call_tool("execute_python", arguments, progress_callback=listener)
        assert listener.text == "still running after 10 s"

    async with anyio.create_task_group() as tasks:
        for mode in ("auto", "legacy"):
            tasks.start_soon(run, mode)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_nothing_is_heard_of_a_call_once_it_is_cancelled(server: StartServer, tmp_path: Path, mode: str):
    code = """
import os, time
with open(os.environ["OUTPUT_PATH"] + "/said", "w", buffering=1) as file:
    while True:
        print("still here", flush=True)
        file.write("still here\\n")
        time.sleep(0.005)
"""
    listener = Listener()
    async with Client(server(OUTPUT_PATH=tmp_path), mode=mode) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(client.call_tool, "execute_python", {"code": code}, progress_callback=listener))
            with anyio.fail_after(60):
                await listener.heard.wait()
            tasks.cancel_scope.cancel()
        await call(client, "list_venvs")  # answered after the cancellation has come
        said, heard = (tmp_path / "said").stat().st_size, len(listener.values)
        await anyio.sleep(0.3)
        assert ((tmp_path / "said").stat().st_size, len(listener.values)) == (said, heard)


# What an execution left


async def test_text_pictures_files_and_progress_reach_a_client(client: Client):
    code = """
import os, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
class Picture:
    def _repr_png_(self):
        rows = b"".join(b"\\0" + bytes(6) for _ in range(3))
        header = struct.pack(">IIBBBBB", 2, 3, 8, 2, 0, 0, 0)
        return b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(
            [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
        )
print("drawing", flush=True)
os.mkfifo("pipe")
with open("long.txt", "w") as file:
    file.write("0123456789" * 100)
display(Picture())
"é €"
"""
    listener = Listener()
    with anyio.fail_after(60):
        result = await client.call_tool("execute_python", {"code": code}, progress_callback=listener)
    assert [block.type for block in result.content] == ["text", "image", "resource_link"]
    told, picture, link = result.content
    assert isinstance(told, TextContent)
    assert isinstance(picture, ImageContent)
    assert isinstance(link, ResourceLink)
    assert told.text.startswith("drawing\n'é €'\nFiles written:\n")
    assert told.text.endswith("/pipe (a pipe).")
    assert struct.unpack(">II", base64.b64decode(picture.data)[16:24]) == (2, 3)
    assert listener.text.startswith("drawing\n")
    [page] = (await client.read_resource(f"{link.uri}?offset=995&limit=100")).contents
    assert isinstance(page, TextResourceContents)
    assert page.text == "56789"


async def test_what_an_execution_left_can_be_read(client: Client):
    code = "import os\nopen(os.environ['OUTPUT_PATH'] + '/é b.txt', 'w').write('ü')\nprint('x' * 100_000)"
    result = await call(client, "execute_python", code=code)
    [file] = result.structured_content["files"]
    [content] = (await client.read_resource(file["uri"])).contents
    assert isinstance(content, TextResourceContents)
    assert (content.text, content.mime_type) == ("ü", "text/plain")
    assert result.structured_content["stdoutTruncated"] is True
    uri = f"execution://{result.structured_content['executionId']}/stdout"
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert content.text == "x" * 100_000 + "\n"


async def test_what_a_result_shows_cut_is_read_on_by_the_tool_that_it_names(client: Client):
    result = await call(client, "execute_python", code="for n in range(20_000): print(n)")
    ran = result.structured_content
    assert f"read_output(executionId={ran['executionId']!r}, source='stdout')" in text(result)
    read, offset = "", 0
    while offset is not None:
        page = await call(client, "read_output", executionId=ran["executionId"], source="stdout", offset=offset)
        assert page.structured_content["offset"] == offset
        read += page.structured_content["content"]
        offset = page.structured_content.get("nextOffset")
        assert text(page).endswith("which is the end]") is (offset is None)
    assert read == "".join(f"{n}\n" for n in range(20_000))


async def test_a_file_is_read_by_its_path_and_links_to_its_resource(client: Client):
    result = await call(client, "execute_python", code="open('data.bin', 'wb').write(bytes(range(128, 184)))")
    [file] = result.structured_content["files"]
    page = await call(
        client, "read_output", executionId=result.structured_content["executionId"], source=file["path"], limit=10
    )
    told = page.structured_content
    assert (told["encoding"], told["nextOffset"], told["totalBytes"]) == ("base64", 10, 56)
    assert base64.b64decode(told["content"]) == bytes(range(128, 138))
    [link] = [block for block in result.content if isinstance(block, ResourceLink)]
    assert (link.uri, link.name, link.size) == (file["uri"], "data.bin", 56)
    [content] = (await client.read_resource(link.uri)).contents
    assert isinstance(content, BlobResourceContents)
    assert base64.b64decode(content.blob) == bytes(range(128, 184))


async def test_names_of_environments_are_completed(client: Client):
    await call(client, "create_venv", venvName="completed")
    prompt = PromptReference(name="install-packages")
    found = await client.complete(prompt, {"name": "venv", "value": "comp"})
    assert found.completion.values == ["completed"]
    assert (await client.complete(prompt, {"name": "purpose", "value": "comp"})).completion.values == []
    new = PromptReference(name="create-venv")  # its name is one that there is not yet
    assert (await client.complete(new, {"name": "venv", "value": "comp"})).completion.values == []


async def test_a_call_that_waits_says_where_it_stands(server: StartServer):
    listener = Listener()
    async with Client(server(MAX_CONCURRENT_EXECUTIONS="1")) as client, anyio.create_task_group() as tasks:
        first = Listener()
        code = {"code": "import time\nprint('began', flush=True)\ntime.sleep(1)"}
        tasks.start_soon(partial(client.call_tool, "execute_python", code, progress_callback=first))
        await first.heard.wait()
        await client.call_tool("execute_python", {"code": "print('second')"}, progress_callback=listener)
    assert "1 executions are running and 0 wait before this one" in listener.text


async def test_a_resource_that_is_not_there_is_told_in_words(client: Client):
    with pytest.raises(MCPError, match="no execution 'none' is kept") as caught:
        await client.read_resource("execution://none/stdout")
    assert caught.value.error.code == -32602


async def test_templates_tell_what_can_be_read(client: Client):
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == [
        "execution://{executionId}/stdout{?offset,limit}",
        "execution://{executionId}/stderr{?offset,limit}",
        "execution://{executionId}/files/{+path}{?offset,limit}",
    ]


async def test_what_is_offered_may_be_kept_by_clients_of_the_newer_era(server: StartServer):
    async with Client(server(), mode="2026-07-28") as client:
        listed = await client.list_tools()
    assert (listed.ttl_ms, listed.cache_scope) == (3_600_000, "public")


async def test_what_needs_the_default_environment_waits_until_it_is_first_made(server: StartServer, tmp_path: Path):
    results: list[CallToolResult] = []

    async def ask(client: Client, tool: str, **arguments: str) -> None:
        results.append(await call(client, tool, **arguments))

    async with Client(server(VENVS_BASE_PATH=tmp_path / "venvs")) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client, "list_packages")
        tasks.start_soon(partial(ask, client, "health_check", venvName="default"))
        tasks.start_soon(partial(ask, client, "set_venv_description", venvName="default", description="mine"))
    assert [text(result) for result in results if result.is_error] == []


async def test_a_default_environment_that_could_not_be_made_is_told_until_somebody_makes_it(
    server: StartServer, tmp_path: Path
):
    settings = {"VENVS_BASE_PATH": tmp_path / "venvs", "PREINSTALLED_PACKAGES": "no-such-package-of-ours"}
    async with Client(server(**settings)) as client:
        refused = await call(client, "list_packages")
        made = await call(client, "create_venv", venvName="default")
        listed = await call(client, "list_packages")
    assert "no-such-package-of-ours" in text(refused)
    assert (refused.is_error, made.is_error, listed.is_error) == (True, False, False)
