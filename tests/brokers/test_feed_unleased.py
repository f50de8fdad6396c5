"""The feed of what is not leased: temporary subscriptions, and groups on topics that deliver at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tests.brokers.line import NOW, Line, delivery, feed_of, numbers, say
from tidings.brokers.feed import Delivery
from tidings.errors import BrokerUnavailable
from tidings.lang import parse_filter
from tidings.model.message import Message
from tidings.model.options import MAX_PREFETCH, TopicOptions

EXPIRING = TopicOptions(max_retries=2, retry_delay=0, dead_letter_expired=True)


async def test_there_is_nothing_to_ack_in_a_temporary_subscription(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    found = await feed.fetch(1, 0)
    assert found[0].lease == 0
    await feed.settle(say("ack", *found))
    await feed.renew()
    assert (tail.acts, tail.renewed, await feed.fetch(1, 0)) == ([], [], [])


@pytest.mark.parametrize(("action", "attempt"), [("nack", 2), ("release", 1)])
async def test_what_is_given_back_comes_again(tail: Line, action: str, attempt: int) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    await feed.settle(say(action, *await feed.fetch(1, 0)))
    tail.put(delivery(2))
    assert [(each.offset, each.attempt) for each in await feed.fetch(5, 0)] == [(1, attempt)]
    assert numbers(await feed.fetch(5, 0)) == [2]


async def test_what_comes_again_is_not_filtered_again(tail: Line) -> None:
    feed = feed_of(tail, group=None, filter=parse_filter("total = 1"))
    tail.put(delivery(1))
    found = await feed.fetch(1, 0)
    found[0].record.value = {"total": 2}
    for action in ("release", "nack"):
        await feed.settle(say(action, *found))
        found = await feed.fetch(1, 0)
        assert numbers(found) == [1]


@pytest.mark.parametrize("seconds", [None, 0.0, 0.02])
async def test_what_is_given_back_wakes_who_waits(tail: Line, seconds: float | None) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    found = await feed.fetch(1, 0)
    fetching = asyncio.create_task(feed.fetch(1, None))
    await tail.waiting.wait()
    await feed.settle([*say("nack", *found, seconds=seconds)])
    assert [(each.offset, each.attempt) for each in await asyncio.wait_for(fetching, 10)] == [(1, 2)]


async def test_being_woken_twice_and_cancelled_loses_nothing(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1), delivery(2))
    a, b = await feed.fetch(2, 0)
    fetching = asyncio.create_task(feed.fetch(1, None))
    await tail.waiting.wait()
    await feed.settle(say("nack", a, seconds=0.0))
    await feed.settle(say("nack", b, seconds=0.0))
    fetching.cancel()
    tail.put(delivery(3))
    await asyncio.wait([fetching])
    found = [] if fetching.cancelled() else fetching.result()
    while more := await feed.fetch(1, 0):
        found += more
    assert sorted(numbers(found)) == [1, 2, 3]


async def test_being_woken_while_it_wakes_is_once(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1), delivery(2))
    a, b = await feed.fetch(2, 0)
    waking, go_on = asyncio.Event(), asyncio.Event()

    async def slow(limit: int, timeout: float | None) -> list[Delivery]:
        tail.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            waking.set()
            await go_on.wait()
        return []

    tail.pull = slow  # type: ignore[method-assign]
    fetching = asyncio.create_task(feed.fetch(2, None))
    await tail.waiting.wait()
    await feed.settle(say("nack", a, seconds=0.0))
    await waking.wait()
    await feed.settle(say("nack", b, seconds=0.0))
    go_on.set()
    assert numbers(await fetching) == [1, 2]


async def test_a_timeout_of_the_source_is_no_waking(tail: Line) -> None:
    async def slow(limit: int, timeout: float | None) -> list[object]:
        raise TimeoutError("of the driver")

    tail.pull = slow  # type: ignore[method-assign,assignment]
    with pytest.raises(TimeoutError, match="of the driver"):
        await feed_of(tail, group=None).fetch(1, None)


async def test_what_waits_does_not_come_before_its_time_and_a_fetch_does_not_wait_longer(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    await feed.settle(say("nack", *await feed.fetch(1, 0), seconds=60.0))
    assert await feed.fetch(1, 0) == []
    assert await feed.fetch(1, 0.01) == []
    tail.put(delivery(2))
    assert numbers(await feed.fetch(1, None)) == [2]


async def test_what_waits_is_bounded(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(*map(delivery, range(MAX_PREFETCH + 1)))
    found = await feed.fetch(MAX_PREFETCH + 1, 0)
    await feed.settle(say("nack", *found[:-1], seconds=60.0))
    assert await feed.fetch(10, 0) == []
    await feed.settle(say("nack", found[-1], seconds=60.0))
    assert len(await feed.fetch(10, 0)) == 1


async def test_what_is_given_up_is_a_dead_letter(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(*(delivery(number, attempt=3) for number in range(3)))
    a, b, c = await feed.fetch(3, 0)
    await feed.settle([*say("nack", a), *say("reject", b), *say("ack", c)])
    assert [letter.record.id for letter in tail.letters] == ["id0", "id1"]
    assert await feed.fetch(1, 0) == []


async def test_what_has_expired_is_not_delivered_and_no_letter(tail: Line) -> None:
    feed = feed_of(tail, EXPIRING, group=None)
    tail.put(delivery(1, expires=NOW), delivery(2, expires=NOW + 1))
    found = await feed.fetch(2, 0)
    assert numbers(found) == [2]
    found[0].record.extra = {"expires": NOW}
    await feed.settle(say("nack", *found, seconds=0.0))
    assert await feed.fetch(2, 0) == []
    assert (tail.acts, tail.letters) == ([], [])


async def test_what_is_delivered_at_most_once_is_not_tried_again_but_can_be_given_back(tail: Line) -> None:
    """In a group, too: there it counts as settled."""
    for group in (None, "billing"):
        feed = feed_of(tail, TopicOptions(delivery="at_most_once"), group=group)
        tail.put(*map(delivery, range(4)))
        a, b, c, d = await feed.fetch(4, 0)
        await feed.settle([*say("nack", a), *say("reject", b), *say("release", c), *say("ack", d)])
        assert [(each.offset, each.attempt) for each in await feed.fetch(4, 0)] == [(2, 1)]
    assert (tail.acts, tail.letters) == ([], [])


async def test_what_expires_in_a_group_without_leases_is_a_letter(tail: Line) -> None:
    feed = feed_of(tail, EXPIRING)
    tail.put(delivery(1, expires=NOW), delivery(2))
    assert numbers(await feed.fetch(2, 0)) == [2]
    assert await feed.fetch(2, 0) == []
    assert [letter.record.id for letter in tail.letters] == ["id1"]


async def test_what_nobody_has_seen_goes_to_others_where_the_source_can(tail: Line) -> None:
    tail.taken_back = []
    feed = feed_of(tail, TopicOptions(delivery="at_most_once"))
    tail.put(*map(delivery, range(3)))
    a, b, c = await feed.fetch(3, 0)
    await feed.settle([*say("release", a, b), *say("nack", c)])
    assert (tail.taken_back, await feed.fetch(3, 0)) == ([0, 1], [])


async def test_what_a_temporary_subscription_gives_back_concerns_nobody_else(tail: Line) -> None:
    tail.taken_back = []
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    await feed.settle(say("release", *await feed.fetch(1, 0)))
    assert (numbers(await feed.fetch(1, 0)), tail.taken_back) == ([1], [])


async def test_what_was_settled_when_it_was_pulled_has_a_handle_to_be_counted_by(line: Line) -> None:
    """It is delivered without a lease; what is not delivered is told to the source."""
    feed = feed_of(line, TopicOptions(delivery="at_most_once"), filter=parse_filter("total <> 1"))
    line.put(*(replace(delivery(number), settled=True) for number in range(3)))
    found = await feed.fetch(3, 0)
    assert [(message.offset, message.lease) for message in found] == [(0, 0), (2, 0)]
    assert [(act.handle, act.count) for act in line.acts] == [(1, "filtered")]
    await feed.settle(say("ack", *found))
    await feed.renew()
    assert (len(line.acts), line.renewed) == (1, [])


async def test_what_was_found_at_most_once_and_not_handed_out_is_for_others(tail: Line) -> None:
    feed = feed_of(tail, filter=parse_filter("total > 0"))
    tail.taken_back = []
    tail.put(*map(delivery, range(4)))
    assert numbers(await feed.fetch(2, 0)) == [1, 2]
    await feed.close()
    assert tail.taken_back == [3]


async def test_it_closes_when_the_broker_is_away(tail: Line) -> None:
    async def fail(messages: Sequence[Message]) -> bool:
        raise BrokerUnavailable("away")

    feed = feed_of(tail, filter=parse_filter("total > 0"))
    tail.take_back = fail  # type: ignore[method-assign]
    tail.put(*map(delivery, range(4)))
    assert numbers(await feed.fetch(2, 0)) == [1, 2]
    await feed.close()
    assert tail.is_closed
