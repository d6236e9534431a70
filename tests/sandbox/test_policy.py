from pathlib import Path

from mcp_python_executor.sandbox.policy import Policy, readable, writable


def test_what_is_only_read_below_a_writable_place_is_not_written(tmp_path: Path):
    for name in ("open/deep", "mixed/closed", "mixed/open"):
        (tmp_path / name).mkdir(parents=True)
    closed = tmp_path / "mixed" / "closed"
    policy = Policy(read=(closed,), write=(tmp_path,))
    assert set(writable(policy)) == {tmp_path / "open", tmp_path / "mixed" / "open"}
    assert closed in readable(policy, walled=False)[0]


def test_what_is_hidden_below_a_readable_place_is_not_read_and_what_is_beside_it_is(tmp_path: Path):
    for name in ("lib/packages", "lib/standard"):
        (tmp_path / name).mkdir(parents=True)
    hidden = tmp_path / "lib" / "packages"
    read, look = readable(Policy(read=(tmp_path,), hide=(hidden,)), walled=False)
    assert tmp_path / "lib" / "standard" in read
    assert not any(hidden.is_relative_to(path) for path in read)
    assert look == [tmp_path, tmp_path / "lib"]
