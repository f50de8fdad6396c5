"""What delivery policies ask of a subscription: what is urgent, expired, ordered, or delivered at most once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.fakes import FakeEngine, FakeFeed, nothing
from tidings import AsyncClient, AsyncSubscription, Closed, InvalidOption
from tidings.client.aio.delivery import AsyncDelivery
from tidings.errors import EngineError, LeaseLost
from tidings.testing.conformance.stage.place import until


def consumer(client: AsyncClient, **options: Any) -> AsyncSubscription:
    return client.subscribe("topic", consumer_group="group", **options)


async def read(subscription: AsyncSubscription, count: int) -> list[Any]:
    """Take so many messages out of the iteration; it stays within the last one."""
    return [(await anext(subscription)).data for _ in range(count)]


async def warm(subscription: AsyncSubscription, feed: FakeFeed) -> None:
    """Let an iteration grow an appetite, so that it has four messages in its buffer after the next one."""
    feed.put("warm")
    await read(subscription, 1)


async def refuse() -> None:
    raise EngineError("the disk is gone")


def done(feed: FakeFeed, action: str) -> list[int]:
    """The offsets that were settled in this way."""
    return [offset for found, offset, _, _ in feed.told if found == action]


# -- what is urgent


@pytest.mark.parametrize("group", ["group", None])
async def test_by_priority_it_fetches_one_at_a_time(client: AsyncClient, feed: FakeFeed, group: str | None) -> None:
    """What waits in a buffer cannot be overtaken by what is more urgent and comes later."""
    feed.put(*range(20))
    async with client.subscribe("topic", consumer_group=group, priority_order=True, prefetch=100) as subscription:
        assert await read(subscription, 12) == list(range(12))
        assert subscription.statistics().delivered == 12
        assert len(await subscription.fetch(5)) == 5
    assert feed.asked == [(1, None)] * 12 + [(5, None)]


# -- what has expired


@pytest.mark.parametrize("group", ["group", None])
async def test_what_expires_in_the_buffer_is_not_handed_out(
    client: AsyncClient, engine: FakeEngine, feed: FakeFeed, group: str | None
) -> None:
    """To the second: what expires now is too old. In a group it is settled as expired, so that it is counted."""
    now = engine.hands.now()
    async with client.subscribe("topic", consumer_group=group, prefetch=5) as subscription:
        feed.put("warm")
        await read(subscription, 1)
        feed.put("first", "also")
        feed.put("gone", expires=now + 10)
        feed.put("kept", expires=now + 10.001)
        assert await read(subscription, 1) == ["first"]
        engine.hands.advance(10)
        assert await read(subscription, 2) == ["also", "kept"]
        counts = subscription.statistics()
        assert (counts.delivered, counts.acked, counts.nacked) == (5, len(done(feed, "ack")), 0)
    assert done(feed, "expire") == ([3] if group else [])
    assert done(feed, "ack") == ([0, 1, 2, 4] if group else [])


async def test_fetch_leaves_out_what_has_expired_in_the_buffer(
    client: AsyncClient, engine: FakeEngine, feed: FakeFeed
) -> None:
    async with consumer(client, auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put("first")
        feed.put("gone", expires=engine.hands.now() + 1)
        feed.put("kept", "beyond")
        await read(subscription, 1)
        engine.hands.advance(2)
        assert [message.data for message in await subscription.fetch(2)] == ["kept"]
    assert done(feed, "expire") == [2]


async def test_a_buffer_of_expired_messages_is_no_reason_to_return_nothing(
    client: AsyncClient, engine: FakeEngine, feed: FakeFeed
) -> None:
    """`fetch` and `batches` wait for a message that can be handed out."""
    async with consumer(client, auto_ack=False) as subscription:
        for how in ("fetch", "batches"):
            await warm(subscription, feed)
            feed.put("first")
            feed.put("gone", expires=engine.hands.now() + 1)
            await read(subscription, 1)
            engine.hands.advance(2)
            waiting = asyncio.ensure_future(
                subscription.fetch(5) if how == "fetch" else anext(subscription.batches(max_messages=5))
            )
            await asyncio.wait([waiting], timeout=0.02)
            assert not waiting.done()
            feed.put("fresh")
            assert [message.data for message in await asyncio.wait_for(waiting, 5)] == ["fresh"]
        assert await subscription.fetch(5, timeout=0) == []


async def test_what_expires_in_hand_is_the_consumers(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    """It was handed out in time: it is acked like any other."""
    feed.put("short", expires=engine.hands.now() + 1)
    async with consumer(client) as subscription:
        await read(subscription, 1)
        engine.hands.advance(2)
    assert (done(feed, "ack"), done(feed, "expire")) == ([0], [])


async def test_an_expired_message_that_had_gone_stops_no_loop(
    client: AsyncClient, engine: FakeEngine, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lease was lost and its time has passed: nobody's loss, and the loop goes on."""
    async with consumer(client) as subscription:
        await warm(subscription, feed)
        feed.put("first")
        feed.put("gone", expires=engine.hands.now() + 1)
        feed.put("kept")
        feed.lost = {2}
        await read(subscription, 1)
        engine.hands.advance(2)
        assert await read(subscription, 1) == ["kept"]
        assert subscription.statistics().lost == 1
    assert (done(feed, "ack"), "lease lost on 'topic' offset 2" in caplog.text) == ([0, 1, 3], True)


# -- order


async def test_a_failure_takes_its_followers_along(client: AsyncClient, feed: FakeFeed) -> None:
    """With `ordering`, what is behind it in the buffer, of its key and priority, goes back in the same settlement."""
    async with consumer(client, ordering=True, auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put("a0", key="a")
        feed.put("a1", key="a")
        feed.put("urgent", key="a", priority=9)
        feed.put("b0", key="b")
        message = await anext(subscription)
        await message.nack(reason="why")
        assert message.nacked
        assert feed.settled == [[("nack", 1, None), ("release", 2, None)]]
        assert feed.told == [("nack", 1, "why", ""), ("release", 2, "", "")]
        assert await read(subscription, 2) == ["urgent", "b0"]
        counts = subscription.statistics()
        assert (counts.held, counts.nacked, counts.delivered) == (3, 1, 5)


async def test_messages_without_a_key_follow_each_other(client: AsyncClient, feed: FakeFeed) -> None:
    async with consumer(client, ordering=True, auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put(1, 2)
        feed.put("other", key="k")
        feed.put(4)
        message = await anext(subscription)
        await message.nack()
        assert done(feed, "release") == [2, 4]
        assert await read(subscription, 1) == ["other"]


@pytest.mark.parametrize("how", ["reject", "no ordering"])
async def test_nobody_waits_for_what_does_not_come_again(client: AsyncClient, feed: FakeFeed, how: str) -> None:
    """A message that is given up holds nothing back; without `ordering` none does."""
    async with consumer(client, ordering=how == "reject", auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put(1, 2, 3, key="k")
        message = await anext(subscription)
        await message.nack(requeue=how != "reject")
        assert message.nacked is (how != "reject")
        assert done(feed, "release") == []
        assert await read(subscription, 2) == [2, 3]


async def test_an_exception_out_of_the_loop_holds_followers_back(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put("warm")

    async def fail() -> None:
        async with consumer(client, ordering=True) as subscription:
            await read(subscription, 1)
            feed.put(1, 2, key="k")
            await read(subscription, 1)
            raise ValueError("of the body")

    with pytest.raises(ValueError, match="body"):
        await fail()
    assert feed.told == [("ack", 0, "", ""), ("nack", 1, "", "ValueError: of the body"), ("release", 2, "", "")]


async def test_followers_stay_when_the_nack_could_not_be_recorded(client: AsyncClient, feed: FakeFeed) -> None:
    """Nothing was settled then: the nack can be repeated, and takes them along again."""
    async with consumer(client, ordering=True, auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put(1, 2, 3, key="k")
        message = await anext(subscription)
        feed.before_settle = refuse
        with pytest.raises(EngineError, match="disk"):
            await message.nack()
        feed.before_settle = nothing
        assert subscription.statistics().held == 4
        await message.nack()
        assert done(feed, "release") == [2, 3]
        assert subscription.statistics().held == 1


async def test_followers_go_back_also_when_the_lease_was_lost(client: AsyncClient, feed: FakeFeed) -> None:
    """Whoever has the failed message now comes before them."""
    async with consumer(client, ordering=True, auto_ack=False) as subscription:
        await warm(subscription, feed)
        feed.put(1, 2, key="k")
        feed.lost = {1}
        message = await anext(subscription)
        with pytest.raises(LeaseLost):
            await message.nack()
        assert done(feed, "release") == [2]
        counts = subscription.statistics()
        assert (counts.held, counts.nacked, counts.lost) == (1, 0, 1)


async def test_an_ordered_consumer_is_renewed_with_empty_hands(client: AsyncClient, feed: FakeFeed) -> None:
    """Its partitions are its own for as long as it lives, not for as long as it is busy."""
    feed.renew_every = 0.001
    async with consumer(client, ordering=True) as subscription:
        await until(lambda: feed.log.count("renew") >= 2)
        assert subscription.statistics().held == 0


# -- at most once


async def test_what_is_delivered_at_most_once_is_settled_already(client: AsyncClient, feed: FakeFeed) -> None:
    """Acks and nacks say nothing, and what is in hand does not count against the prefetch."""
    feed.put(*range(8), lease=0)
    async with consumer(client, prefetch=2, auto_ack=False) as subscription:
        found = [*await subscription.fetch(2), *await subscription.fetch(2)]
        assert [message.data for message in found] == [0, 1, 2, 3]
        await found[0].ack()
        await found[1].nack()
        await found[2].nack(requeue=False)
        await subscription.ack(found)
        counts = subscription.statistics()
        assert (counts.held, counts.acked, counts.nacked) == (0, 0, 0)
        assert not any(message.nacked for message in found)
    assert feed.told == []


@pytest.mark.parametrize("error", [None, ValueError])
async def test_what_nobody_has_seen_is_given_back(
    client: AsyncClient, feed: FakeFeed, error: type[Exception] | None
) -> None:
    """A consumer that leaves properly loses only what it had in hand, whatever made it leave; closing again is
    harmless."""
    subscription = consumer(client)
    try:
        async with subscription:
            await warm(subscription, feed)
            feed.put(*range(1, 5), lease=0)
            await read(subscription, 2)
            if error is not None:
                raise error
    except ValueError:
        assert error is ValueError
    await subscription.close()
    await client.close()
    assert done(feed, "release") == [3, 4]
    assert done(feed, "nack") == []
    assert feed.log[-1] == "close"


async def test_what_a_listener_had_queued_is_given_back(client: AsyncClient, feed: FakeFeed) -> None:
    """Also when it is settled already, because its topic delivers at most once."""
    feed.put(1, 2, lease=0)
    feed.put(3)
    async with consumer(client, auto_ack=False) as subscription:
        found = await subscription.fetch(3)
        await subscription.give_back(found[1:])
        assert sorted(done(feed, "release")) == [1, 2]
        assert subscription.statistics().held == 0


async def test_a_temporary_subscription_has_nothing_to_give_back(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(5), lease=0)
    async with client.subscribe("topic") as subscription:
        await read(subscription, 2)
    assert feed.told == []


# -- for listeners


async def test_a_failed_handlers_message_is_nacked_with_its_error(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(4))
    async with consumer(client, auto_ack=False) as subscription:
        first, second, third, _ = await subscription.fetch(4)
        await subscription.fail(first, KeyError("order"))
        await second.ack()
        await subscription.fail(second, ValueError("settled already"))
        await third.nack(requeue=False, reason="its own way")
        await subscription.fail(third, ValueError("settled already"))
        assert subscription.statistics().held == 1
    assert feed.told == [
        ("nack", 0, "", "KeyError: 'order'"),
        ("ack", 1, "", ""),
        ("reject", 2, "its own way", ""),
    ]


async def test_a_temporary_subscription_hears_of_failures_too(client: AsyncClient, feed: FakeFeed) -> None:
    """It retries for itself, so its feed has to be told; what it holds is not counted."""
    feed.put(0, 1, lease=0)
    async with client.subscribe("topic") as subscription:
        first, second = await subscription.fetch(2)
        await subscription.fail(first, ValueError("x"))
        await second.nack(delay_seconds=5, reason="why")
        assert subscription.statistics().held == 0
    assert feed.told == [("nack", 0, "", "ValueError: x"), ("nack", 1, "why", "")]
    assert feed.settled == [[("nack", 0, None)], [("nack", 1, 5)]]


@pytest.mark.parametrize("how", ["fail", "give back"])
async def test_a_lost_lease_is_not_the_listeners_fault(
    client: AsyncClient, feed: FakeFeed, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    feed.put(0)
    feed.lost = {0}
    async with consumer(client, auto_ack=False) as subscription:
        (message,) = await subscription.fetch(1)
        await (subscription.fail(message, ValueError()) if how == "fail" else subscription.give_back([message]))
        assert subscription.statistics().lost == 1
    assert "lease lost on 'topic' offset 0" in caplog.text


async def test_what_is_given_back_is_neither_done_nor_failed(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(*range(3))
    async with consumer(client, auto_ack=False) as subscription:
        found = await subscription.fetch(3)
        await found[0].ack()
        await subscription.give_back(found)
        counts = subscription.statistics()
        assert (counts.acked, counts.nacked, counts.held) == (1, 0, 0)
        assert not any(message.nacked for message in found)
    assert done(feed, "release") == [1, 2]


async def test_what_is_done_makes_room_for_who_waits(client: AsyncClient, feed: FakeFeed) -> None:
    """The reader of several workers waits with full hands: their acks are recorded at once, not with the next fetch."""
    feed.put(0, 1)
    async with consumer(client, prefetch=1, auto_ack=False) as subscription:
        (message,) = await subscription.fetch(1)
        waiting = asyncio.ensure_future(subscription.read_ahead())
        await asyncio.wait([waiting], timeout=0.02)
        subscription._later.stop()
        subscription.done(message)
        found: list[AsyncDelivery] = await asyncio.wait_for(waiting, 5)
        assert [each.data for each in found] == [1]
    assert done(feed, "ack") == [0]


async def test_a_reason_is_text(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put(0)
    wrong: Any = ValueError("x")
    async with consumer(client, auto_ack=False) as subscription:
        (message,) = await subscription.fetch(1)
        with pytest.raises(InvalidOption, match=r"^reason="):
            await message.nack(requeue=False, reason=wrong)
        assert not message.settled
    assert feed.told == []


async def test_nothing_can_be_committed_before_it_is_open(client: AsyncClient) -> None:
    never = consumer(client)
    with pytest.raises(Closed, match="never opened"):
        async with never.transaction([]) as transaction:
            await transaction.publish("a", 1)
