"""What the kernel keeps is charged to those who could have made it, and given back."""

import os

import pytest

from mcp_python_executor.limits import MEBIBYTE
from mcp_python_executor.process import proc
from mcp_python_executor.process.kernel import Kept

_SECOND = os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("looks", "charged"),
    [
        # Each look: MB that the kernel keeps for all, and seconds that the processes have spent in it by then.
        pytest.param([(1000, 5)], 0, id="what was there before"),
        pytest.param([(1000, 5), (1300, 5)], 0, id="while they were not in the kernel"),
        pytest.param([(1000, 5), (1300, 6)], 256, id="as much as that takes"),
        pytest.param([(1000, 5), (1100, 6)], 100, id="no more than there is"),
        pytest.param([(1000, 5), (1100, 6), (1180, 7)], 180, id="bit by bit"),
        pytest.param([(1000, 5), (1060, 6)], 0, id="what comes and goes anywhere"),
        pytest.param([(1000, 5), (1300, 7), (1100, 7)], 100, id="less than it was"),
        pytest.param([(1000, 5), (1100, 6), (500, 6), (600, 7)], 100, id="no debt of others"),
        pytest.param([(1000, 5), (1100, 6), (1200, 3)], 100, id="some of them ended"),
    ],
)
def test_what_is_charged(monkeypatch: pytest.MonkeyPatch, looks: list[tuple[int, int]], charged: int):
    told = dict[bytes, int]()

    def fields(_: str) -> dict[bytes, int]:
        return told

    monkeypatch.setattr(proc, "fields", fields)
    kept, found = Kept(), 0
    for megabytes, seconds in looks:
        told = {b"SUnreclaim": megabytes * 1024 - 1024, b"VmallocUsed": 1024, b"Slab": 7}
        found = kept.look(seconds * _SECOND)
    assert found == charged * MEBIBYTE
