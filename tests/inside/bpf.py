"""Classic BPF, as far as seccomp filters use it: runs a filter on a made-up system call."""

import struct
from collections.abc import Sequence
from functools import cache

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def run(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """The verdict of `program` on the call: see struct seccomp_data in seccomp(2)."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    instructions = _unpacked(program)
    place, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
            continue
        if code == 0x54:
            accumulator &= value
            continue
        holds = {
            0x15: accumulator == value,
            0x25: accumulator > value,
            0x35: accumulator >= value,
            0x45: bool(accumulator & value),
        }[code]
        place += if_true if holds else if_false


@cache
def _unpacked(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("HBBI", program))
