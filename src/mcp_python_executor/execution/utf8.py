"""UTF-8 cut between characters, never inside one."""


def whole_start(data: bytes) -> bytes:
    """`data` without the beginning of a character that its end cuts."""
    for back in range(1, min(4, len(data) + 1)):
        if data[-back] & 0xC0 == 0xC0:  # the first byte of a character of several
            length = 2 if data[-back] < 0xE0 else 3 if data[-back] < 0xF0 else 4
            return data[:-back] if back < length else data
        if data[-back] < 0x80:
            break
    return data


def whole_end(data: bytes) -> bytes:
    """`data` without the end of a character that its start cuts."""
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
