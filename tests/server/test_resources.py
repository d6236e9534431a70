"""What an execution left, by URI: text as text, the rest as bytes, and what there is not in words."""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from mcp_python_executor.execution import artifacts
from mcp_python_executor.execution.records import MOST_PAGE_BYTES, PAGE_BYTES, Page, Record, Records
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
    "work/g.log.1": b"a line",
    "work/h.unknown": b"\xff\1",
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
        ("execution://ab-1/files/work/g.log.1", "a line", "text/plain"),
        ("execution://ab-1/files/work/h.unknown", b"\xff\1", "application/octet-stream"),
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
        (
            "execution://ab-1/",
            "no resource 'execution://ab-1/'; there are execution://{executionId}/stdout{?offset,limit}, ",
        ),
        ("execution://../stdout", "no resource 'execution://../stdout'; there are "),
        ("file:///etc/passwd", "no resource 'file:///etc/passwd'; there are "),
    ],
)
async def test_what_is_not_there_is_told_with_what_is(uri: str, told: str):
    with pytest.raises(ResourceNotFoundError) as caught:
        await resources.read(Scripted(contents=CONTENTS).service, uri)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("query", "content"), [("offset=2", "fé \ufffd"), ("limit=4&offset=0", "caf\ufffd"), ("offset=0", "café \ufffd")]
)
async def test_a_page_is_read_by_offset_and_limit(query: str, content: str):
    read = await resources.read(Scripted(contents=CONTENTS).service, f"execution://ab-1/stdout?{query}")
    assert read.content == content


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=3", f"limit={1 << 40}", "from=3", "limit="])
async def test_a_page_that_makes_no_sense_is_refused(query: str):
    with pytest.raises(ResourceNotFoundError, match=r"offset and limit|must be between"):
        await resources.read(Scripted(contents=CONTENTS).service, f"execution://ab-1/stdout?{query}")


async def test_what_is_too_long_for_one_answer_names_its_first_page():
    scripted = Scripted(contents={"work/big.bin": bytes(MOST_PAGE_BYTES + 1)})
    uri = "execution://ab-1/files/work/big.bin"
    with pytest.raises(ResourceNotFoundError) as caught:
        await resources.read(scripted.service, uri)
    named = str(caught.value).rpartition(" ")[2]
    assert named == f"{uri}?offset=0&limit={MOST_PAGE_BYTES}"
    assert len((await resources.read(scripted.service, named)).content) == MOST_PAGE_BYTES


@dataclass
class Keeping(Scripted):
    """Answers from real records."""

    records: Records = field(default_factory=Records)

    async def read(self, execution_id: str, source: str, offset: int = 0, limit: int = PAGE_BYTES) -> Page:
        return self.records.page(execution_id, source, offset, limit)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Keeping:
    """Two executions that wrote files, with what must not be read beside them."""
    top = tmp_path_factory.mktemp("runs")
    keeping = Keeping()
    (top / "secret").write_text("secret")
    for name in ("one", "two"):
        work = top / name / "work"
        (work / "sub").mkdir(parents=True)
        (top / name / "secret").write_text("secret")
        (work / "main.py").write_text("secret")
        (work / "a.txt").write_text(name)
        (work / "sub" / "b%2e.txt").write_text(name)
        (work / "link").symlink_to(top / "secret")
        (top / name / "stdout").write_text(name)
        found = artifacts.find({"work": work}, top / name, name, 0, work / "main.py")
        keeping.records.keep(name, Record(top / name, {"stdout": top / name / "stdout"}, found.files))
    (top / "two" / "work" / "a.txt").unlink()
    (top / "two" / "work" / "a.txt").symlink_to(top / "secret")
    return keeping


_PLAIN = st.sampled_from(
    ["work", "sub", "a.txt", "b%2e.txt", "b%252e.txt", "link", "main.py", "..", "%2e%2e", "secret", "stdout", "files"]
)
_ODD = st.sampled_from(
    [
        *("%2E.", "%252e%252e", "..%2f..", "%2fetc%2fpasswd", "", ".", "a.txt%00", "a.txt\0", "a.txt\n", "a.txt?x=1"),
        *(
            "%",
            "%ff",
            "%zz",
            "%ed%a0%80",
            "\ud800",
            "a.txt#x",
            "a.t\u0445t",
            "\\..\\",
            "//",
            "*",
            "one",
            "two",
            "stderr",
        ),
    ]
)
_STARTS = st.sampled_from(["execution://one/", "execution://two/files/", "execution://two/files/work/"] * 3)


@given(
    _STARTS | st.sampled_from(["execution://", "execution://one/../", "file://", "EXECUTION://one/"]),
    st.lists(st.one_of(_PLAIN, _PLAIN, _ODD), max_size=4),
)
@example("execution://one/", ["stdout"])
@example("execution://two/files/work/", ["a.txt"])
@example("execution://one/files/work/", ["main.py"])
@example("execution://one/files/work/", ["%2e%2e", "%2e%2e", "secret"])
async def test_whatever_uri_is_asked_for_only_what_was_listed_is_read(keeping: Keeping, start: str, steps: list[str]):
    with suppress(ResourceNotFoundError):
        read = await resources.read(keeping.service, start + "/".join(steps))
        assert read.content in ("", "two" if start.startswith("execution://two/") else "one")  # stderr is empty
