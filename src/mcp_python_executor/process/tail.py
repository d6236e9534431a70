"""Output kept within a bound: its head and its tail."""

from collections import deque


class HeadAndTail:
    """Bytes written to it, of which it keeps at most `limit`: the first half and the last half."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.total = 0

    def write(self, data: bytes) -> None:
        """Take `data`, dropping what lies between head and tail."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= self._tail_limit:
                self._tail_size -= len(self._tail.popleft())

    @property
    def truncated(self) -> bool:
        """Whether something was dropped."""
        return self.total > self._head_limit + self._tail_limit

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """Head and tail; all of it, and nothing, where nothing was dropped."""
        tail = b"".join(self._tail)
        if not self.truncated:
            return bytes(self._head) + tail, b""
        return bytes(self._head), tail[-self._tail_limit :]

    def getvalue(self) -> bytes:
        """Head and tail, without a mark where something is missing."""
        return b"".join(self.parts)
