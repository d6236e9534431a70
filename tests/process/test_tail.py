from hypothesis import given
from hypothesis import strategies as st

from mcp_python_executor.process import HeadAndTail


@given(chunks=st.lists(st.binary(max_size=20)), limit=st.integers(2, 40))
def test_what_is_kept_is_the_head_and_the_tail_of_what_was_written(chunks: list[bytes], limit: int):
    kept, written = HeadAndTail(limit), b"".join(chunks)
    for chunk in chunks:
        kept.write(chunk)
    assert kept.total == len(written)
    assert kept.truncated == (len(written) > limit)
    if kept.truncated:
        assert kept.getvalue() == written[: limit // 2] + written[len(written) - (limit - limit // 2) :]
    else:
        assert kept.getvalue() == written


def test_a_flood_in_small_pieces_is_held_within_the_limit():
    kept = HeadAndTail(1000)
    for _ in range(100_000):
        kept.write(b"0123456789")
    assert len(kept.getvalue()) == 1000
