"""Pictures of no more bytes than a model sees anything in: a larger one is drawn again, with fewer dots."""

from __future__ import annotations

import math

TYPE_CHECKING = False  # typing's own costs 5 ms to import, and every program would find it imported
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BYTES = 1 << 20
_ATTEMPTS = 3
# So much of what the bytes would allow, for fewer dots take more bytes each.
_FEWER = 0.9


def bounded(draw: Callable[[float], bytes]) -> bytes:
    """What `draw` gives for the largest share of the dots in width and height, at most 1, that keeps to the bound.

    After some attempts it may still be larger.
    """
    share = 1.0
    data = draw(share)
    for _ in range(_ATTEMPTS):
        if len(data) <= _MOST_BYTES:
            break
        share *= _FEWER * math.sqrt(_MOST_BYTES / len(data))
        data = draw(share)
    return data
