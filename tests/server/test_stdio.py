"""Messages on the wire: what is one, what is mended, what is refused and how."""

import json

import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from mcp_python_executor.server.stdio import parse, serialize


def request(text: str) -> bytes:
    """A request whose one parameter is the JSON text `text`."""
    return f'{{"jsonrpc": "2.0", "id": 7, "method": "m", "params": {{"text": {text}}}}}'.encode()


@pytest.mark.parametrize("line", [b"", b" ", b"\r"])
def test_an_empty_line_is_nothing(line: bytes):
    assert parse(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (request('"plain"'), "plain"),
        (request('"\\ud83d\\ude00"'), "😀"),
        (request('"\\ud800"'), "\ufffd"),
        (request('"a\\udc80b"'), "a\ufffdb"),
        (request('"@"').replace(b"@", b"\xff"), "\ufffd"),
        (request('"x"') + b"\r", "x"),
    ],
)
def test_text_that_is_no_unicode_is_mended_and_the_request_answered(line: bytes, text: str):
    parsed = parse(line)
    assert isinstance(parsed, SessionMessage)
    assert isinstance(parsed.message, JSONRPCRequest)
    assert (parsed.message.id, parsed.message.params) == (7, {"text": text})


@pytest.mark.parametrize(
    ("line", "code", "request_id", "told"),
    [
        (b"{", -32700, None, "not JSON: "),
        (b"hello", -32700, None, "not JSON: "),
        (b"[" * 100_000, -32700, None, "not JSON: "),
        (b"[]", -32600, None, "batches are not part of MCP"),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600, None, "batches are not part of MCP"),
        (b"3", -32600, None, "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "m"}', -32600, 1, "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc": "2.0", "id": "a", "method": 5}', -32600, "a", "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc": "2.0", "id": true, "method": "m", "params": [1]}', -32600, None, "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "m", "params": [1]}', -32600, 1, "not a JSON-RPC 2.0 request"),
        (b'{"id": 1, "result": {}}', -32600, None, "not a JSON-RPC 2.0 request"),
    ],
)
def test_what_is_no_message_is_refused_with_the_id_it_had(line: bytes, code: int, request_id: object, told: str):
    refusal = parse(line)
    assert isinstance(refusal, JSONRPCError)
    assert (refusal.error.code, refusal.id) == (code, request_id)
    assert refusal.error.message.startswith(told)


def test_an_error_that_answers_a_request_of_ours_is_a_message_and_no_refusal():
    parsed = parse(b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}}')
    assert isinstance(parsed, SessionMessage)


def test_a_surrogate_that_was_missed_does_not_end_the_connection():
    message = JSONRPCResponse(jsonrpc="2.0", id=1, result={"\ud800": ["\udc80", float("nan")]})
    assert json.loads(serialize(message)) == {"jsonrpc": "2.0", "id": 1, "result": {"\ufffd": ["\ufffd", None]}}
