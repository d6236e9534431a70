"""What an execution left, by URI: text as text, the rest as bytes, and what there is not in words."""

import pytest
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from mcp_python_executor.server import resources
from tests.server.scripted import Scripted

pytestmark = pytest.mark.anyio

CONTENTS = {
    "stdout": b"caf\xc3\xa9 \xff",
    "work/a.txt": "é".encode(),
    "work/b.txt": b"\xff",
    "work/c.json": b"{}",
    "work/d.png": b"\x89PNG",
    "output/sub/e f.csv": b"1,2",
    "work/\udcff.txt": b"odd",
}


@pytest.mark.parametrize(
    ("uri", "content", "mime_type"),
    [
        ("execution://ab-1/stdout", "café \ufffd", "text/plain"),
        ("execution://ab-1/files/work/a.txt", "é", "text/plain"),
        ("execution://ab-1/files/work/b.txt", b"\xff", "text/plain"),
        ("execution://ab-1/files/work/c.json", "{}", "application/json"),
        ("execution://ab-1/files/work/d.png", b"\x89PNG", "image/png"),
        ("execution://ab-1/files/output/sub/e%20f.csv", "1,2", "text/csv"),
        ("execution://ab-1/files/work/%FF.txt", "odd", "text/plain"),
    ],
)
async def test_a_resource_has_the_content_that_its_uri_names(uri: str, content: str | bytes, mime_type: str):
    read = await resources.read(Scripted(contents=CONTENTS).service, uri)
    assert (read.content, read.mime_type) == (content, mime_type)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("execution://ab-1/stderr", "no 'stderr' is kept"),
        ("execution://ab-1/files/work/none", "no 'work/none' is kept"),
        ("execution://ab-1/files/../etc", "no '../etc' is kept"),
        ("execution://ab-1/files/\ud800", "no '\\ud800' is kept"),
        ("execution://ab-1/", "no resource 'execution://ab-1/'; there are execution://{executionId}/stdout, "),
        ("execution://../stdout", "no resource 'execution://../stdout'; there are "),
        ("file:///etc/passwd", "no resource 'file:///etc/passwd'; there are "),
    ],
)
async def test_what_is_not_there_is_told_with_what_is(uri: str, told: str):
    with pytest.raises(ResourceNotFoundError) as caught:
        await resources.read(Scripted(contents=CONTENTS).service, uri)
    assert str(caught.value).startswith(told)
