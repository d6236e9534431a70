import json
import struct
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution.hints import hint
from mcp_python_executor.execution.preload import known, worthwhile
from mcp_python_executor.execution.report import Report, is_complete, parse
from mcp_python_executor.execution.stacks import START

PNG = b"\x89PNG\r\n\x1a\nrest"
JPEG = b"\xff\xd8\xffrest"
READY = {"ready": True}


def framed(*messages: Any) -> bytes:
    data = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    return b"".join(struct.pack("!I", len(part)) + part for part in data)


def test_the_report_is_what_follows_the_sign_of_life():
    report = parse(framed(READY, {"result": "1", "modules": ["os"]}))
    assert (report.result, report.modules) == ("1", ["os"])


def test_only_pictures_are_pictures():
    pictures = [b64encode(PNG).decode(), b64encode(b"GIF").decode(), "no base64", ""]
    report = parse(framed(READY, {"pictures": [*pictures, b64encode(JPEG).decode()]}))
    assert [(picture.data, picture.mime_type) for picture in report.images] == [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        {"result": 5},
        {"error": "x"},
        {"pictures": ["x"] * 21},
        {"modules": ["x"] * 201},
        b"[" * 100_000,
    ],
)
def test_a_message_that_makes_no_sense_ends_the_reading(nonsense: Any):
    assert parse(framed(READY, nonsense, {"result": "mine"})) == Report()


def test_a_worker_without_walls_says_so_and_a_program_cannot_say_it_in_its_place():
    with pytest.raises(EngineError, match="could not put up its walls: no Landlock"):
        parse(framed({"failed": "no Landlock"}))
    assert parse(framed(READY, {"failed": "forged"})) == Report()


def test_a_length_beyond_the_data_ends_the_reading():
    assert parse(framed(READY) + struct.pack("!I", 2**32 - 1) + b'{"result": "x"}') == Report(result="x")
    assert parse(b"\0\0") == Report()


def test_two_messages_are_all_that_is_read():
    whole = framed(READY, {"result": "1"})
    assert [is_complete(whole[:size]) for size in range(len(whole))] == [False] * len(whole)
    assert is_complete(whole)
    assert is_complete(whole + b"more")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes):
    assert isinstance(parse(framed(READY) + data), Report)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b'{"ready": true}', b"{}", struct.pack("!I", 15)])))
def test_no_channel_breaks_the_parser(parts: list[bytes]):
    for data in (b"".join(parts), framed(*parts)):
        with suppress(EngineError):  # a worker that says why it has no walls
            assert isinstance(parse(data), Report)


KEYS = st.sampled_from(["type", "message", "traceback", "line", "name", "filename", "errno"])
FIELDS = st.sampled_from(["error", "result", "stack", "pictures", "pictures_left_out", "modules", "failed", "ready"])
# What Python has no value for, or JSON no text, and what overflows, nests, repeats itself or ends too early.
ODD = st.sampled_from(
    [
        *("NaN", "-Infinity", "1e999", "-0", "1.5", "true", "null", "{}", "[]", '"', "'a'", "", " ", "\ufeff{}"),
        *(r'"\ud800"', r'"\udfff\ud800"', r'"\ud83d\ude00"', r'"\u0000"', r'"\x"', '"\0"', '"\ud800"'),
        *('{"a":1,"a":2}', '{"type":"x"}', "[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000),
        *("0" * 50, "9" * 400, "-" + "9" * 5000),
    ]
)


def object_of(fields: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in fields.items()) + "}"


JSON = st.recursive(
    ODD
    | st.text().map(json.dumps)
    | st.integers().map(str)
    | st.binary(max_size=40).map(lambda data: f'"{b64encode(PNG + data).decode()}"'),
    lambda inner: (
        st.lists(inner, max_size=25).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5).map(object_of)
    ),
    max_leaves=30,
)
# An error as it should be, but for some of its fields.
ERRORS = st.dictionaries(KEYS, JSON, max_size=2).map(
    lambda odd: object_of({"type": '"OSError"', "message": '"m"', "traceback": '"t"', "errno": "2"} | odd)
)


@given(st.dictionaries(FIELDS, JSON | ERRORS, max_size=4).map(object_of) | JSON)
def test_no_shape_of_message_breaks_the_parser(message: str):
    report = parse(framed(READY, message.encode("utf-8", "surrogatepass")))
    assert all(picture.data.startswith((PNG[:8], JPEG[:3])) for picture in report.images)
    assert len(report.pictures) <= 20
    assert len(report.modules) <= 200


@given(ERRORS, st.lists(st.text() | st.sampled_from(["numpy", "torch", "this", "json", "_ctypes", "os.path"])))
def test_nothing_that_is_told_breaks_what_comes_after(error: str, modules: list[str]):
    report = parse(framed(READY, f'{{"error": {error}, "modules": {json.dumps(modules)}}}'.encode("utf-8", "replace")))
    assert report.error is None or hint(report.error, "default").isprintable()
    ahead = worthwhile(report.modules)
    assert ahead == known(ahead)


def test_a_stack_stands_in_the_reports_place():
    assert parse(framed(READY) + START + b"\xff").stack == START.decode() + "\ufffd"
