"""A handler beside the program: how it is called, what its failures do, and what stopping leaves undone."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.fakes import FakeEngine, FakeFeed
from tidings import AsyncClient, AsyncListener, InvalidOption
from tidings.client.aio import listener as module
from tidings.client.aio.listener import takes_topic_and_data
from tidings.errors import DamagedData, EngineError
from tidings.testing.conformance.stage.place import until


async def listen(client: AsyncClient, handler: Callable[..., Any], **options: Any) -> AsyncListener:
    return await client.listen("topic", handler, consumer_group="group", **options)


def settled(feed: FakeFeed) -> list[tuple[str, int]]:
    return [(action, offset) for call in feed.settled for action, offset, _ in call]


# -- how a handler is called


class Handler:
    """Callable objects are handlers, too."""

    def __call__(self, topic: str, data: Any) -> None: ...

    def one(self, message: Any) -> None: ...

    @staticmethod
    def two(topic: str, data: Any, *, option: int = 0) -> None: ...


class Unreadable:
    """As a function of an extension may be: it does not say what it takes."""

    __signature__ = "no signature"

    def __call__(self, message: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "two"),
    [
        (lambda message: None, False),
        (lambda topic, data: None, True),
        (lambda message, option=1: None, False),
        (lambda *arguments: None, False),
        (lambda topic, data, *rest: None, True),
        (lambda topic, data, option=1: None, True),
        (Handler(), True),
        (Handler().one, False),
        (Handler.two, True),
        (functools.partial(Handler.two, "topic"), False),
        ([].append, False),
        (Unreadable(), False),
    ],
)
def test_a_handler_gets_what_it_has_room_for(handler: Callable[..., Any], two: bool) -> None:
    assert takes_topic_and_data(handler) is two


@pytest.mark.parametrize("handler", [lambda: None, lambda a, b, c: None, lambda message, *, needed: None, "handler"])
def test_what_cannot_be_called_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^handler="):
        takes_topic_and_data(handler)


async def test_messages_are_handled_one_after_the_other(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put("a", "b", "c")
    log: list[str] = []

    async def handle(topic: str, data: str) -> None:
        log.append(f"begin {topic} {data}")
        await asyncio.sleep(0)
        log.append(f"end {data}")

    async with await listen(client, handle) as listener:
        await until(lambda: len(log) == 6)
        assert listener.statistics().delivered == 3
    assert log == ["begin topic a", "end a", "begin topic b", "end b", "begin topic c", "end c"]
    assert settled(feed) == [("ack", 0), ("ack", 1), ("ack", 2)]


# -- what becomes of a message


async def test_a_failure_is_nacked_logged_and_counted(
    client: AsyncClient, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.put(0, 1, 2)
    seen: list[int] = []

    def handle(message: Any) -> None:
        seen.append(message.data)
        if message.data == 1:
            raise KeyError("as the test wants it")

    async with await listen(client, handle) as listener:
        await until(lambda: len(seen) == 3)
    assert sorted(settled(feed)) == [("ack", 0), ("ack", 2), ("nack", 1)]
    delays = [seconds for call in feed.settled for action, _, seconds in call if action == "nack"]
    assert delays == [None], "it is up to the options of the topic"
    assert (listener.failed, listener.error) == (1, None)
    assert "the handler failed on <AsyncDelivery id-1" in caplog.text
    assert "as the test wants it" in caplog.text


@pytest.mark.parametrize("error", [asyncio.CancelledError, TimeoutError])
async def test_what_a_handler_waited_for_may_be_cancelled(
    client: AsyncClient, feed: FakeFeed, error: type[BaseException]
) -> None:
    """Nobody cancelled the listener: it is a failure of this message, and the next one is handled."""
    feed.put(0, 1)
    seen: list[int] = []

    async def handle(message: Any) -> None:
        seen.append(message.data)
        if message.data == 0:
            waited_for = asyncio.get_running_loop().create_future()
            waited_for.cancel() if error is asyncio.CancelledError else waited_for.set_exception(error())
            await waited_for

    async with await listen(client, handle) as listener:
        await until(lambda: len(seen) == 2, within=3)
    assert sorted(settled(feed)) == [("ack", 1), ("nack", 0)]
    assert listener.failed == 1


async def test_a_handler_settles_by_itself_if_it_likes(client: AsyncClient, feed: FakeFeed) -> None:
    """Without `auto_ack` nothing else does; what it has settled is not settled again, also when it fails after it."""
    feed.put(*range(4))
    seen: list[int] = []

    async def handle(message: Any) -> None:
        seen.append(message.data)
        if message.data == 1:
            await message.ack()
            raise ValueError("after the ack")
        if message.data == 2:
            await message.nack(delay_seconds=3)

    async with await listen(client, handle, auto_ack=False) as listener:
        await until(lambda: len(seen) == 4)
    assert feed.settled == [[("ack", 1, None)], [("nack", 2, 3)]]
    assert listener.failed == 1


async def test_outside_a_group_a_failure_is_tried_again_too(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(0, 1)
    seen: list[int] = []

    def handle(message: Any) -> None:
        seen.append(message.data)
        raise ValueError("always")

    async with await client.listen("topic", handle) as listener:
        await until(lambda: listener.failed == 2)
    assert (seen, settled(feed)) == ([0, 1], [("nack", 0), ("nack", 1)])


async def test_a_lease_that_was_lost_meanwhile_stops_nobody(
    client: AsyncClient, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.put(0, 1)
    feed.lost = {0}
    seen: list[int] = []

    def handle(message: Any) -> None:
        seen.append(message.data)
        raise ValueError("always")

    async with await listen(client, handle) as listener:
        await until(lambda: len(seen) == 2)
    assert (listener.error, listener.statistics().lost) == (None, 1)
    assert "lease lost on 'topic' offset 0" in caplog.text


async def test_an_error_of_the_engine_ends_it_loudly_and_lets_go(
    client: AsyncClient, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    """What it held goes to other consumers, instead of being renewed for ever without a reader."""
    damage = DamagedData("0.log", 32, "checksum")

    async def refuse() -> None:
        raise damage

    handled = asyncio.Event()
    listener = await listen(client, lambda message: handled.set())
    feed.put(0)
    await until(handled.is_set)
    feed.before_fetch = refuse
    feed.put(1)
    await until(lambda: listener.error is not None)
    assert listener.error is damage
    assert "a listener ended" in caplog.text
    await until(lambda: feed.closed, within=3)
    await listener.stop()
    assert settled(feed)[0] == ("ack", 0)


# -- stopping


class Slow:
    """A handler that does 0 at once and ends the others when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.log: list[str] = []

    async def __call__(self, message: Any) -> None:
        self.log.append(f"begin {message.data}")
        try:
            if message.data > 0:
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.log.append(f"cancelled {message.data}")
            raise
        self.log.append(f"end {message.data}")


async def fill_buffer(client: AsyncClient, feed: FakeFeed, handler: Slow) -> AsyncListener:
    """Return a listener in the middle of message 1, with 2, 3 and 4 fetched ahead."""
    feed.put(*range(5))
    listener = await listen(client, handler)
    await until(lambda: handler.log == ["begin 0", "end 0", "begin 1"])
    assert listener.statistics().delivered == 5
    return listener


async def test_stopping_lets_the_handler_finish_and_begins_no_other(client: AsyncClient, feed: FakeFeed) -> None:
    handler = Slow()
    listener = await fill_buffer(client, feed, handler)
    stopping = [asyncio.ensure_future(listener.stop()) for _ in range(2)]
    await asyncio.wait(stopping, timeout=0.02)
    assert not feed.closed
    handler.go_on.set()
    await asyncio.wait_for(asyncio.gather(*stopping), 5)
    assert handler.log[-2:] == ["begin 1", "end 1"]
    assert settled(feed) == [("ack", 0), ("ack", 1)]
    assert feed.log[-1] == "close"
    assert listener.error is None


async def test_what_comes_while_it_stops_is_not_begun(client: AsyncClient, feed: FakeFeed) -> None:
    called: list[int] = []
    closing, go_on = asyncio.Event(), asyncio.Event()

    async def take_long() -> None:
        closing.set()
        await go_on.wait()

    listener = await listen(client, lambda message: called.append(message.data))
    await until(lambda: feed.asked)
    feed.before_close = take_long
    stopping = asyncio.ensure_future(listener.stop())
    await closing.wait()
    feed.put(0)
    await until(lambda: listener.statistics().delivered == 1)
    go_on.set()
    await asyncio.wait_for(stopping, 5)
    assert (called, settled(feed)) == ([], [])


async def test_a_handler_that_does_not_end_is_cancelled_and_not_acked(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    handler = Slow()
    listener = await fill_buffer(client, feed, handler)
    await asyncio.wait_for(listener.stop(), 5)
    await until(lambda: handler.log[-1] == "cancelled 1")
    assert settled(feed) == [("ack", 0)]
    assert feed.closed


async def test_a_handler_may_stop_its_own_listener(client: AsyncClient, feed: FakeFeed) -> None:
    """Its message is acked, and it is the last one."""
    feed.put(*range(6))
    seen: list[int] = []

    async def handle(message: Any) -> None:
        seen.append(message.data)
        if message.data == 2:
            await listener.stop()

    listener = await listen(client, handle)
    await until(lambda: feed.closed)
    await listener.stop()
    assert (seen, settled(feed)) == ([0, 1, 2], [("ack", 0), ("ack", 1), ("ack", 2)])
    assert listener.error is None


async def test_what_cannot_be_opened_leaves_no_listener(client: AsyncClient, engine: FakeEngine) -> None:
    async def refuse() -> None:
        raise EngineError("no such place")

    engine.before_subscribe = refuse
    with pytest.raises(EngineError, match="no such place"):
        await listen(client, print)
    await client.close()
    assert (engine.closed, engine.left_open) == (1, [])
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "tidings-listener"]


async def test_leaving_the_block_stops_it(client: AsyncClient, feed: FakeFeed) -> None:
    called: list[int] = []
    with pytest.raises(ValueError, match="of the block"):
        async with await listen(client, lambda message: called.append(message.data)):
            raise ValueError("of the block")
    feed.put(0)
    await asyncio.sleep(0)
    assert called == []
    assert feed.closed
