"""Progress: in order, together when it comes fast, bounded, and never waited for by who tells it."""

from collections.abc import Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from mcp.server.mcpserver import Context

from mcp_python_executor.server import progress as progress_module
from mcp_python_executor.server.progress import progress

pytestmark = pytest.mark.anyio


class Client:
    """Gets progress as a client would; `reading` is whether it takes any."""

    def __init__(self, *, asks: bool = True) -> None:
        self.told: list[tuple[float, str]] = []
        self.meta = {"progress_token": 0} if asks else None
        self.reading = anyio.Event()
        self.reading.set()
        self.heard = anyio.Event()

    @property
    def context(self) -> Context[Any, Any]:
        """This, for what takes a request's context."""
        return cast("Context[Any, Any]", self)

    @property
    def request_context(self) -> "Client":
        return self

    async def report_progress(self, value: float, total: float | None = None, message: str | None = None) -> None:
        assert total is None
        assert message is not None
        await self.reading.wait()
        self.told.append((value, message))
        self.heard.set()
        self.heard = anyio.Event()


async def test_a_client_that_did_not_ask_is_told_nothing():
    async with progress(Client(asks=False).context) as tell:
        assert tell is None
    async with progress(None) as tell:
        assert tell is None


async def test_what_is_told_arrives_whole_and_in_order_with_growing_numbers():
    client = Client()
    with anyio.fail_after(10):
        async with progress(client.context) as tell:
            assert tell is not None
            for number in range(100):
                tell(f"{number}\n")
                if number % 10 == 0:
                    await anyio.lowlevel.checkpoint()
    assert "".join(message for _, message in client.told) == "".join(f"{number}\n" for number in range(100))
    values = [value for value, _ in client.told]
    assert values == sorted(set(values))


async def test_stages_that_come_at_once_are_told_apart():
    client = Client()
    with anyio.fail_after(10):
        async with progress(client.context, between="; ") as tell:
            assert tell is not None
            tell("prepared 1 package in 3ms")
            tell("switching")
    assert [message for _, message in client.told] == ["prepared 1 package in 3ms; switching"]


async def test_the_last_words_have_a_greater_number_however_soon_they_follow():
    client = Client()
    async with progress(client.context) as tell:
        assert tell is not None
        tell("first")
        await client.heard.wait()
        tell("last")
    (first, _), (last, _) = client.told
    assert first < last


async def test_a_million_pieces_are_a_few_notifications():
    client = Client()
    with anyio.fail_after(60):
        async with progress(client.context) as tell:
            assert tell is not None
            for number in range(1_000_000):
                tell(".")
                if number % 1000 == 0:
                    await anyio.lowlevel.checkpoint()
    assert len(client.told) < 100
    assert sum(len(message) for _, message in client.told) < 100 * 66_000


async def test_a_client_that_does_not_read_holds_nothing_up_and_loses_the_oldest():
    client = Client()
    client.reading = anyio.Event()
    with anyio.fail_after(10):
        async with progress(client.context) as tell:
            assert tell is not None
            for _ in range(100):
                tell("x" * 10_000)
            await anyio.lowlevel.checkpoint()
            client.reading.set()
    [(_, first), *_] = client.told
    assert first.startswith("[9")
    assert len(first) < 66_000


async def test_one_piece_larger_than_what_is_kept_is_cut_to_its_end():
    client = Client()
    async with progress(client.context) as tell:
        assert tell is not None
        tell("x" * 100_000 + "end")
    [(_, message)] = client.told
    assert message.startswith("[34467 characters left out]\n")
    assert message.endswith("end")


async def test_a_silent_run_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress_module, "_HEARTBEAT_SECONDS", 0.01)
    client = Client()
    with anyio.fail_after(10):
        async with progress(client.context):
            await client.heard.wait()
            await client.heard.wait()
    assert client.told[0][1] == "still running after 0 s"
    assert client.told[1][0] > client.told[0][0]


async def test_a_surrogate_is_replaced_in_what_is_told():
    client = Client()
    async with progress(client.context) as tell:
        assert tell is not None
        tell("a\udc80")
    assert client.told[0][1] == "a\ufffd"


async def test_an_error_in_the_call_stays_the_error_it_is():
    with pytest.raises(ZeroDivisionError):
        async with progress(Client().context):
            raise ZeroDivisionError


async def test_a_finished_call_does_not_wait_for_a_client_that_does_not_read():
    client = Client()
    client.reading = anyio.Event()
    with anyio.fail_after(10):
        async with progress(client.context) as tell:
            cast("Callable[[str], None]", tell)("unheard")
    assert client.told == []
