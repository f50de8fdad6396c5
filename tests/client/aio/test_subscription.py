"""Fetching in the right amounts, acking what is done and only that, and leaving properly: against a feed that tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client.fakes import FakeEngine, FakeFeed, nothing
from tests.engines.hands import Hands
from tidings import AsyncClient, AsyncSubscription, Closed, InvalidOption
from tidings.client.aio import subscription as module
from tidings.errors import BrokerUnavailable, EngineError, LeaseLost
from tidings.model.options import APPETITE_SECONDS, MAX_DELAY_SECONDS, MAX_EXTEND_SECONDS, MAX_PREFETCH
from tidings.spi import Gap
from tidings.testing.conformance.stage.place import until


def consumer(client: AsyncClient, **options: Any) -> AsyncSubscription:
    return client.subscribe("topic", consumer_group="group", **options)


async def read(subscription: AsyncSubscription, count: int) -> list[Any]:
    """Take so many messages out of the iteration; it stays within the last one."""
    return [(await anext(subscription)).data for _ in range(count)]


# -- how much is fetched


async def test_a_group_s_appetite_follows_its_speed(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who works fast claims more and more, up to the prefetch; who works slowly leaves messages to the others."""
    hands = Hands()
    monkeypatch.setattr(module, "time", hands)
    feed.put(*range(300))
    async with consumer(client, prefetch=100) as subscription:
        await read(subscription, 1 + 4 + 16 + 64 + 100)
        hands.at += 8 * APPETITE_SECONDS
        await read(subscription, 12)
        hands.at += 100 * APPETITE_SECONDS
        await read(subscription, 2)
    assert feed.asked == [(limit, None) for limit in (1, 4, 16, 64, 100, 12, 1, 4)]


async def test_a_temporary_subscription_takes_nothing_from_others_and_fetches_its_prefetch(
    client: AsyncClient, feed: FakeFeed
) -> None:
    feed.put(*range(20))
    async with client.subscribe("topic", prefetch=8) as subscription:
        assert await read(subscription, 9) == list(range(9))
        assert subscription.statistics().held == 7
    assert feed.asked == [(8, None)] * 2
    assert feed.settled == []


async def test_fetch_takes_what_the_iteration_left_first(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(8))
    async with consumer(client) as subscription:
        await read(subscription, 2)
        assert [message.data for message in await subscription.fetch(2)] == [2, 3]
        assert [message.data for message in await subscription.fetch(9)] == [4]
        assert [message.data for message in await subscription.fetch(9)] == [5, 6, 7]


@pytest.mark.parametrize("amount", [0, -1, MAX_PREFETCH + 1, True, "1"])
async def test_a_bad_amount_is_told(client: AsyncClient, feed: FakeFeed, amount: Any) -> None:
    async with consumer(client) as subscription:
        with pytest.raises(InvalidOption, match=r"^max_messages="):
            await subscription.fetch(amount)
        with pytest.raises(InvalidOption, match=r"^max_messages="):
            await anext(subscription.batches(amount))
        with pytest.raises(InvalidOption, match=r"^max_wait="):
            await anext(subscription.batches(max_wait=-1))
    assert "fetch" not in feed.log


ACTIONS = st.lists(
    st.tuples(st.just("fetch"), st.integers(1, 6)) | st.tuples(st.sampled_from(["ack", "nack"]), st.integers(0, 9)),
    max_size=25,
)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, auto_ack=st.booleans(), prefetch=st.integers(1, 5))
async def test_whatever_a_consumer_does(
    engine: FakeEngine, actions: list[tuple[str, int]], auto_ack: bool, prefetch: int
) -> None:
    """It never holds more than its prefetch, each message is settled at most once, and only as it was told to."""
    feed = engine.feed = FakeFeed()
    feed.put(*range(1000))
    expected: dict[int, str] = {}
    taken: list[Any] = []
    async with AsyncClient("fake:") as client, consumer(client, auto_ack=auto_ack, prefetch=prefetch) as subscription:
        for action, number in actions:
            if action == "fetch":
                if auto_ack:
                    expected = dict.fromkeys((message.offset for message in taken), "ack") | expected
                taken += await subscription.fetch(number, timeout=0)
            elif taken:
                message = taken[-1 - number % len(taken)]
                await (message.ack() if action == "ack" else message.nack())
                expected.setdefault(message.offset, action)
            counts = subscription.statistics()
            assert counts.held == len(taken) - len(expected) <= prefetch
            assert (counts.delivered, counts.acked + counts.nacked) == (len(taken), len(expected))
    if auto_ack:
        expected = dict.fromkeys((message.offset for message in taken), "ack") | expected
    settled = [(offset, action) for call in feed.settled for action, offset, _ in call]
    assert len(settled) == len(expected)
    assert dict(settled) == expected


async def test_waiting_for_room_counts_as_waiting(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` bounds the whole of it: first for room, then for a message."""
    hands = Hands()
    monkeypatch.setattr(module, "time", hands)
    feed.put(0, 1)
    async with consumer(client, prefetch=1, auto_ack=False) as subscription:
        (held,) = await subscription.fetch(1)
        waiting = asyncio.ensure_future(subscription.fetch(1, timeout=60))
        await asyncio.wait([waiting], timeout=0.02)
        hands.at += 20
        await held.ack()
        assert [message.data for message in await waiting] == [1]
    assert feed.asked[1:] == [(1, 40.0)]


@pytest.mark.parametrize("how", ["fetch", "iterate", "batches"])
async def test_closing_ends_the_wait_for_room(client: AsyncClient, feed: FakeFeed, how: str) -> None:
    """With as much in hand as it may hold, too: `fetch` raises, a loop ends."""
    feed.put(0, 1)
    subscription = consumer(client, prefetch=1, auto_ack=False)
    await anext(subscription)
    reader: dict[str, AsyncIterator[Any]] = {"iterate": subscription, "batches": subscription.batches()}
    waiting = asyncio.ensure_future(reader[how].__anext__() if how in reader else subscription.fetch())
    await asyncio.wait([waiting], timeout=0.02)
    await subscription.close()
    with pytest.raises(Closed if how == "fetch" else StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


# -- batches


async def test_a_batch_waits_for_more_and_is_acked_with_the_next(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(0)
    async with consumer(client) as subscription:
        batches = subscription.batches(max_messages=3, max_wait=60)
        first = asyncio.ensure_future(anext(batches))
        await until(lambda: len(feed.asked) == 2)
        feed.put(1, 2, 3)
        assert [message.data for message in await first] == [0, 1, 2]
        assert feed.settled == []
        second = asyncio.ensure_future(anext(batches))
        await until(lambda: len(feed.asked) == 4)
        assert feed.settled == [[("ack", 0, None), ("ack", 1, None), ("ack", 2, None)]]
        feed.put(4, 5)
        assert [message.data for message in await second] == [3, 4, 5]
    assert [limit for limit, _ in feed.asked] == [3, 2, 3, 2]


@pytest.mark.parametrize("group", [None, "group"])
async def test_a_batch_that_is_not_handed_out_is_not_lost(
    client: AsyncClient, feed: FakeFeed, group: str | None
) -> None:
    """Cancelled while it waits for more: the next fetch has it."""
    feed.put(0, 1)
    async with client.subscribe("topic", consumer_group=group) as subscription:
        batch = asyncio.ensure_future(anext(subscription.batches(max_messages=3, max_wait=60)))
        await until(lambda: len(feed.asked) == 2)
        batch.cancel()
        await asyncio.wait([batch])
        assert [message.data for message in await subscription.fetch(3, timeout=0)] == [0, 1]
        assert feed.settled == []


async def test_an_error_of_the_engine_is_no_end(client: AsyncClient, feed: FakeFeed) -> None:
    """Iterations end when they are closed; that the engine was closed under them is an error."""
    subscription = consumer(client)
    await subscription.open()
    await feed.close()
    with pytest.raises(Closed, match="feed"):
        await anext(subscription)
    with pytest.raises(Closed, match="feed"):
        await anext(subscription.batches())


# -- when acks are recorded


async def test_acks_are_gathered_until_the_next_fetch(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(6))
    async with consumer(client) as subscription:
        await read(subscription, 5)
        assert feed.acked == [0]
    assert [[offset for _, offset, _ in call] for call in feed.settled] == [[0], [1, 2, 3, 4]]
    assert feed.log == ["fetch", "settle", "fetch", "settle", "close"]


async def test_a_slow_loop_s_acks_do_not_wait_for_it(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is acked within `FLUSH_SECONDS`, and what is in hand is not."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    feed.put(*range(6))
    async with consumer(client) as subscription:
        await read(subscription, 4)
        await until(lambda: feed.acked == [0, 1, 2])
        await read(subscription, 1)
        await until(lambda: len(feed.acked) == 4)
        assert feed.acked == [0, 1, 2, 3]


class Refusals:
    """Lets the next `count` settlements fail."""

    def __init__(self, count: int, error: EngineError | None = None) -> None:
        self.left = count
        self._error = error or EngineError("the disk is gone")

    async def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise self._error


async def test_a_late_ack_that_failed_is_tried_again(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    feed.put(*range(6))
    async with consumer(client) as subscription:
        await read(subscription, 2)
        feed.before_settle = Refusals(2)
        await read(subscription, 2)
        await until(lambda: feed.acked == [0, 1, 2])
    assert caplog.text.count("trying again: the disk is gone") == 2


async def test_an_ack_that_fails_before_a_fetch_is_told_and_kept(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(3))
    async with consumer(client) as subscription:
        await subscription.fetch(2)
        feed.before_settle = Refusals(2)
        for _ in range(2):
            with pytest.raises(EngineError, match="disk"):
                await subscription.fetch(1)
        assert [message.data for message in await subscription.fetch(1)] == [2]
        assert feed.acked == [0, 1]


@pytest.mark.parametrize("prefetch", [1, 10])
async def test_a_loop_outlives_a_broker_that_is_away(
    client: AsyncClient,
    feed: FakeFeed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    prefetch: int,
) -> None:
    """Automatic acks wait for it; what may be held bounds how far the loop gets meanwhile."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    feed.put(*range(3))
    async with consumer(client, prefetch=prefetch) as subscription:
        feed.before_settle = Refusals(2, BrokerUnavailable("no broker"))
        assert await read(subscription, 3) == [0, 1, 2]
        await until(lambda: feed.acked[:2] == [0, 1])
    assert feed.acked == [0, 1, 2]
    assert caplog.text.count("trying again: no broker") == 2


async def test_a_lease_that_was_lost_is_counted_and_the_loop_goes_on(
    client: AsyncClient, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.put(*range(6))
    feed.lost = {1, 3}
    async with consumer(client) as subscription:
        assert await read(subscription, 6) == list(range(6))
    counts = subscription.statistics()
    assert (counts.acked, counts.lost, counts.held) == (4, 2, 0)
    assert "lease lost on 'topic' offset 1, 3" in caplog.text


# -- settling


async def test_settling_happens_once(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(4))
    async with consumer(client, auto_ack=False) as subscription:
        a, b, c, d = await subscription.fetch(4)
        await subscription.ack([a, b, a])
        await subscription.ack([b, c])
        await subscription.settle([a, b, c], "nack")
        await subscription.settle([d], "reject")
        counts = subscription.statistics()
        assert (counts.acked, counts.nacked, counts.held) == (3, 1, 0)
    assert [entry for call in feed.settled for entry in call] == [
        ("ack", 0, None),
        ("ack", 1, None),
        ("ack", 2, None),
        ("reject", 3, None),
    ]


async def test_what_could_not_be_settled_can_be_settled_again(client: AsyncClient, feed: FakeFeed) -> None:
    """An error of the engine says nothing about the message; a lost lease is the last word."""
    feed.put(0, 1)
    feed.before_settle = Refusals(1)
    async with consumer(client, auto_ack=False) as subscription:
        kept, gone = await subscription.fetch(2)
        with pytest.raises(EngineError, match="disk"):
            await kept.ack()
        assert subscription.statistics().held == 2
        await kept.ack()
        feed.lost = {1}
        with pytest.raises(LeaseLost):
            await gone.ack()
        await gone.ack()
        counts = subscription.statistics()
        assert (counts.acked, counts.lost, counts.held) == (1, 1, 0)
    assert feed.acked == [0, 1]


async def test_bad_times_are_told(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(0)
    wrong: Any
    async with consumer(client, auto_ack=False) as subscription:
        (message,) = await subscription.fetch(1)
        for wrong in (-0.1, MAX_DELAY_SECONDS + 1, "1", float("nan")):
            with pytest.raises(InvalidOption, match=r"^delay_seconds="):
                await message.nack(delay_seconds=wrong)
        for wrong in (-0.1, MAX_EXTEND_SECONDS + 1, None):
            with pytest.raises(InvalidOption, match=r"^seconds="):
                await message.extend(wrong)
        await message.extend(0)
        assert feed.settled == [[("extend", 0, 0)]]
        assert subscription.statistics().held == 1


async def test_before_it_is_opened_there_is_nothing_to_settle(client: AsyncClient) -> None:
    with pytest.raises(Closed, match="never opened"):
        await consumer(client).ack([])


# -- leaving


async def leave_by(subscription: AsyncSubscription, error: BaseException) -> None:
    """Take three messages and raise the error with the third in hand."""
    async with subscription:
        await read(subscription, 3)
        raise error


@pytest.mark.parametrize("auto_ack", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
async def test_an_error_out_of_the_loop_is_not_taken_for_success(
    client: AsyncClient, feed: FakeFeed, error: type[BaseException], auto_ack: bool
) -> None:
    """The message in hand is nacked with the back-off of its topic, or left to be given back."""
    feed.put(*range(5))
    with pytest.raises(error):
        await leave_by(consumer(client, auto_ack=auto_ack), error("of the body"))
    assert sorted(feed.acked) == ([0, 1] if auto_ack else [])
    nacked = [told for told in feed.told if told[0] != "ack"]
    assert nacked == ([("nack", 2, "", "ValueError: of the body")] if auto_ack and error is ValueError else [])
    assert all(seconds is None for call in feed.settled for _, _, seconds in call)
    assert feed.log[-1] == "close"


@pytest.mark.parametrize("refusals", [1, 9])
async def test_it_leaves_also_when_settling_fails(client: AsyncClient, feed: FakeFeed, refusals: int) -> None:
    """The feed is closed, so that the engine gives the messages to others; why the loop ended is not hidden."""
    feed.put(*range(5))
    subscription = consumer(client)
    await read(subscription, 3)
    feed.before_settle = Refusals(refusals)
    with pytest.raises((EngineError, ValueError)) as told:
        async with subscription:
            raise ValueError("of the loop")
    feed.before_settle = nothing
    assert feed.closed
    reasons: list[BaseException | None] = [told.value]
    while reasons[-1] is not None:
        reasons.append(reasons[-1].__context__)
    assert any(isinstance(reason, ValueError) for reason in reasons)


async def test_closing_waits_for_the_acks_that_are_on_their_way(
    client: AsyncClient, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the feed closed first, it would give back what is about to be acked."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    feed.put(*range(6))
    subscription = consumer(client)
    await read(subscription, 2)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def take_long_once() -> None:
        if not begun.is_set():
            begun.set()
            await go_on.wait()

    feed.before_settle = take_long_once
    await read(subscription, 1)
    await asyncio.wait_for(begun.wait(), 5)
    closing = asyncio.ensure_future(subscription.close())
    await asyncio.wait([closing], timeout=0.02)
    go_on.set()
    await closing
    assert sorted(feed.acked) == [0, 1], "and the one in hand goes back"
    assert feed.log[-1] == "close"


async def test_closing_while_it_opens_leaves_nothing_open(
    client: AsyncClient, engine: FakeEngine, feed: FakeFeed
) -> None:
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    engine.before_subscribe = wait
    subscription = consumer(client)
    opening = asyncio.ensure_future(subscription.open())
    await until(lambda: engine.specs)
    closing = asyncio.ensure_future(subscription.close())
    await asyncio.wait([closing], timeout=0.02)
    go_on.set()
    await asyncio.wait([opening, closing])
    assert feed.closed
    with pytest.raises(Closed):
        await subscription.open()


async def test_it_opens_and_closes_once(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    subscription = consumer(client)
    assert engine.specs == []
    await asyncio.gather(subscription.open(), subscription.open(), subscription.fetch(1, timeout=0))
    async with subscription:
        await subscription.close()
    await subscription.close()
    assert (len(engine.specs), feed.closed) == (1, True)
    never = consumer(client)
    await never.close()
    with pytest.raises(Closed):
        await never.fetch()
    assert len(engine.specs) == 1


# -- leases


async def test_leases_are_renewed_while_something_is_held(
    client: AsyncClient, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    """One that fails is tried again; with nothing in hand, and after closing, nobody is asked."""
    feed.renew_every = 0.001
    asked: list[str] = []

    async def refuse_first() -> None:
        asked.append("renew")
        if len(asked) == 1:
            raise EngineError("the disk is gone")

    feed.before_renew = refuse_first
    async with consumer(client, auto_ack=False) as subscription:
        await subscription.fetch(1, timeout=0.02)
        assert asked == []
        feed.put(0)
        (message,) = await subscription.fetch(1)
        await until(lambda: feed.log.count("renew") >= 2)
        assert "renewing leases failed, trying again: the disk is gone" in caplog.text
        await message.ack()
        count = len(asked)
        await subscription.fetch(1, timeout=0.02)
        assert len(asked) <= count + 1
        feed.put(1)
        await subscription.fetch(1)
    count = len(asked)
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)
    assert len(asked) == count


async def test_the_gaps_are_the_feeds(client: AsyncClient, feed: FakeFeed) -> None:
    subscription = client.subscribe("topic")
    assert list(subscription.gaps) == []
    feed.gaps = (Gap("the connection was lost", 1.0, 2.0),)
    async with subscription:
        assert list(subscription.gaps) == [Gap("the connection was lost", 1.0, 2.0)]
