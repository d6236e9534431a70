import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.errors import InvalidArgument
from mcp_python_executor.execution import records as module
from mcp_python_executor.execution.records import Record, Records


def keeping(tmp_path: Path, data: bytes, source: str = "work/x") -> Records:
    """Records of one execution, `id`, that has `data` at `source`."""
    (tmp_path / "x").write_bytes(data)
    files = {source: (tmp_path, "x")}
    records = Records()
    records.keep("id", Record(tmp_path, {"stdout": data, "stderr": tmp_path / "x"}, files))
    return records


def read(records: Records, source: str, limit: int) -> list[tuple[bytes, bool]]:
    """All pages of `source`, one after the other."""
    pages: list[tuple[bytes, bool]] = []
    offset: int | None = 0
    while offset is not None:
        page = records.page("id", source, offset, limit)
        assert page.offset == offset
        pages.append((page.data, page.is_text))
        offset = page.next_offset
    return pages


@pytest.mark.parametrize("source", ["stdout", "stderr", "work/x"])
@given(text=st.text(alphabet="aé€😀\n", max_size=60), limit=st.integers(4, 20))
def test_pages_of_text_are_whole_characters_and_together_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, source: str, text: str, limit: int
):
    pages = read(keeping(tmp_path_factory.mktemp("kept"), text.encode()), source, limit)
    assert "".join(data.decode() for data, _ in pages) == text
    assert all(is_text and len(data) <= limit for data, is_text in pages)


@pytest.mark.parametrize("source", ["stdout", "work/x"])
@given(data=st.binary(max_size=100), limit=st.integers(4, 20))
def test_pages_of_anything_are_together_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, source: str, data: bytes, limit: int
):
    pages = read(keeping(tmp_path_factory.mktemp("kept"), data), source, limit)
    assert b"".join(page for page, _ in pages) == data


def test_a_page_that_begins_inside_a_character_begins_behind_it(tmp_path: Path):
    page = keeping(tmp_path, "a€b".encode()).page("id", "work/x", 2)
    assert (page.data, page.offset, page.next_offset) == (b"b", 4, None)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", base64.b64decode("iVBORw0KGgo=")])
def test_a_file_that_is_no_text_is_bytes(tmp_path: Path, data: bytes):
    assert not keeping(tmp_path, data).page("id", "work/x").is_text
    assert keeping(tmp_path, data).page("id", "stdout").is_text


def test_a_file_is_read_by_its_path_too(tmp_path: Path):
    assert keeping(tmp_path, b"mine").page("id", str(tmp_path / "x")).data == b"mine"


def test_an_offset_past_the_end_is_told_with_the_end(tmp_path: Path):
    records = keeping(tmp_path, b"abc")
    assert records.page("id", "work/x", 3).data == b""
    for source in ("stdout", "stderr", "work/x"):
        with pytest.raises(InvalidArgument, match=f"offset=4 is past the end of '{source}', which has 3 bytes"):
            records.page("id", source, 4)


def test_a_file_that_has_gone_is_told(tmp_path: Path):
    records = keeping(tmp_path, b"abc")
    (tmp_path / "x").unlink()
    with pytest.raises(InvalidArgument, match="'work/x' can't be read any more: No such file"):
        records.page("id", "work/x")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "work/../../x", "", "work"])
def test_only_listed_names_are_read(tmp_path: Path, name: str):
    with pytest.raises(InvalidArgument, match=r"lists no file .*; there are 'stdout', 'stderr', 'work/x'"):
        keeping(tmp_path, b"").page("id", name)


def test_the_oldest_executions_are_let_go(tmp_path: Path):
    records = Records()
    kept = [Record(tmp_path, paths=[tmp_path / str(number)]) for number in range(150)]
    dropped = [path for number, record in enumerate(kept) for path in records.keep(str(number), record)]
    assert dropped == [tmp_path / str(number) for number in range(50)]
    with pytest.raises(InvalidArgument, match="no execution '0' is kept"):
        records.page("0", "stdout")


def test_what_takes_too_much_room_is_let_go_but_the_latest_stays(tmp_path: Path):
    records = Records()
    large = 1500 * 1024 * 1024
    assert records.keep("1", Record(tmp_path, paths=[tmp_path / "1"], size=large)) == []
    assert records.keep("2", Record(tmp_path, paths=[tmp_path / "2"], size=large)) == [tmp_path / "1"]
    assert records.keep("3", Record(tmp_path, paths=[tmp_path / "3"], size=4 * large)) == [tmp_path / "2"]


def test_what_is_a_day_old_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    records = Records()
    records.keep("1", Record(tmp_path, paths=[tmp_path / "1"]))
    records.keep("2", Record(tmp_path, {"stdout": b"x"}))
    assert records.expire() == []
    assert records.page("2", "stdout").data == b"x"
    later = module.time.monotonic() + 25 * 3600
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    with pytest.raises(InvalidArgument, match="no execution '2' is kept"):
        records.page("2", "stdout")
    assert records.expire() == [tmp_path / "1"]
    assert records.expire() == []
