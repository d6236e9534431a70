import json
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.errors import EngineError
from mcp_python_executor.execution.report import Report, is_complete, parse

PNG = b"\x89PNG\r\n\x1a\nrest"
READY = {"ready": True}


def framed(*messages: Any) -> bytes:
    data = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    return b"".join(struct.pack("!I", len(part)) + part for part in data)


def test_the_report_is_what_follows_the_sign_of_life():
    report = parse(framed(READY, {"result": "1", "modules": ["os"]}))
    assert (report.result, report.modules) == ("1", ["os"])


def test_only_pictures_are_pictures():
    pictures = [b64encode(PNG).decode(), b64encode(b"GIF").decode(), "no base64", ""]
    report = parse(framed(READY, {"pictures": pictures, "value_picture": b64encode(PNG).decode()}))
    assert [picture.data for picture in report.images] == [PNG, PNG]


@pytest.mark.parametrize(
    "nonsense", [b"", b"{", b"[1]", b"null", {"result": 5}, {"error": "x"}, {"pictures": ["x"] * 21}, b"[" * 100_000]
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["error", "result", "pictures", "modules", "failed", "value_picture"]), JSON))
def test_no_shape_of_message_breaks_the_parser(message: dict[str, Any]):
    assert isinstance(parse(framed(READY, message)).images, list)
