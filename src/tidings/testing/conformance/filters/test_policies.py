"""What filters of groups do together with the policies of topics: order, guarantees, transactions, bounds."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, TopicOptions
from tidings.errors import TopicFull
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    counted,
    expect_end,
    expect_no_more,
    manual,
    patience,
    standing,
    told,
)
from tidings.testing.conformance.stage.place import SECONDS, Place, data, expect_nothing, take, until

FILTERS = (Capability.FILTERS, Capability.GROUPS)

SQL = "_data % 3 = 0"
"""What the groups here want of the numbers that are published."""


def wanted(numbers: range) -> list[int]:
    return [number for number in numbers if number % 3 == 0]


async def prepare(place: Place, client: AsyncClient, filter: Any = SQL, **options: Any) -> None:
    """Make the place's topic, with these options, and its group, with the filter."""
    await client.create_topic(place.topic(), TopicOptions(**options))
    await client.create_group(place.topic(), place.group(), filter=filter)


async def counts(place: Place, client: AsyncClient) -> tuple[int, ...]:
    """Return the group's messages: left, acked, given up, skipped, passed over."""
    found = await standing(place, client)
    return found.lag, found.acked, found.dead, found.skipped, found.filtered


async def drain(place: Place, client: AsyncClient, *subscriptions: AsyncSubscription) -> list[list[Any]]:
    """Take and ack until nothing is left; return what came to each."""
    found: list[list[Any]] = [[] for _ in subscriptions]

    async def is_empty() -> bool:
        before = sum(map(len, found))
        for subscription, mine in zip(subscriptions, found):
            more = await subscription.fetch(5, timeout=patience(place))
            await subscription.ack(more)
            mine.extend(more)
        return sum(map(len, found)) == before and (await standing(place, client)).lag == 0

    await until(is_empty)
    return found


# -- order


@case(*FILTERS, Capability.PRIORITY)
async def test_groups_keep_publish_order_over_priorities(place: Place) -> None:
    """Of what matches, however few messages each fetch asks for, and wherever the rest is."""
    client = place.client()
    await prepare(place, client)
    for number in range(200):
        await client.publish(place.topic(), number, priority=(5, 5, 8, 0, 5, 8, 5)[number % 7])
    found: list[int] = []
    async with manual(place, client) as subscription:
        for size in itertools.cycle((1, 4, 13)):
            more = await subscription.fetch(size, timeout=0)
            assert len(more) == min(size, 67 - len(found))
            if not more:
                break
            await subscription.ack(more)
            found += data(more)
    assert found == wanted(range(200))
    assert await counts(place, client) == (0, 67, 0, 0, 133)


@case(*FILTERS, Capability.PRIORITY)
async def test_groups_put_the_highest_priority_first_where_asked_for(place: Place) -> None:
    """Of what matches; in each priority in the order of publishing."""
    client = place.client()
    await prepare(place, client)
    for number in range(90):
        await client.publish(place.topic(), number, priority=number // 3 % 3 * 4)
    expected = sorted(wanted(range(90)), key=lambda number: (-(number // 3 % 3), number))
    async with manual(place, client, priority_order=True) as subscription:
        found: list[int] = []
        while len(found) < 30:
            more = await take(subscription, 2)
            await subscription.ack(more)
            found += data(more)
        assert found == expected
        assert await subscription.fetch(1, timeout=0) == []
    assert await counts(place, client) == (0, 30, 0, 0, 60)


@case(*FILTERS, Capability.PARTITIONS, Capability.PATTERNS)
async def test_groups_filter_all_partitions_and_later_topics(place: Place) -> None:
    """What matches of each partition comes in its order."""
    client = place.client()
    await client.create_topic(place.topic("t/0"), TopicOptions(partitions=4))
    await client.create_group(place.topic("t/*"), place.group(), filter=SQL)
    async with client.subscribe(place.topic("t/*"), consumer_group=place.group()) as subscription:
        for number in range(180):
            await client.publish(place.topic(f"t/{number // 90}"), number, partition_key=f"k{number % 7}")
        found = await take(subscription, 60)
        assert sorted(data(found)) == wanted(range(180))
        places: dict[Any, list[int]] = defaultdict(list)
        for message in found:
            places[message.topic, message.partition].append(message.offset)
        assert all(offsets == sorted(offsets) for offsets in places.values())
        await expect_no_more(client, subscription, place.topic("t/new"), 3)
    infos = [counted(place, info) for info in await client.groups() if info.group == place.group()]
    assert sum(info.filtered for info in infos) == 120


@case(*FILTERS, Capability.ORDERING, Capability.PARTITIONS)
async def test_order_in_groups_is_that_of_what_matches(place: Place) -> None:
    """Each partition has one reader; what failed holds back what matches behind it, of its key."""
    client = place.client()
    await prepare(place, client, partitions=4, **AT_ONCE)
    async with manual(place, client, ordering=True) as one, manual(place, client, ordering=True) as two:
        for number, key in itertools.product(range(18), range(8)):
            await client.publish(place.topic(), number, partition_key=f"k{key}", durability=None)
        done: dict[str, list[int]] = defaultdict(list)

        async def is_done() -> bool:
            for subscription in (one, two):
                for message in await subscription.fetch(1, timeout=0):
                    if message.attempt == 1 and message.data % 4 == 0:
                        await message.nack(delay_seconds=0)
                    else:
                        done[str(message.key)].append(message.data)
                        await message.ack()
            return (await standing(place, client)).lag == 0

        await until(is_done)
    assert dict(done) == {f"k{key}": wanted(range(18)) for key in range(8)}
    assert (await standing(place, client)).filtered == 8 * 12


@case(*FILTERS)
async def test_a_key_and_a_filter_both_have_to_match(place: Place) -> None:
    """What matches and has another key is acked, what does not match is passed over."""
    client = place.client()
    await prepare(place, client)
    for number in range(60):
        await client.publish(place.topic(), number, partition_key=f"k{number % 2}")
    async with manual(place, client, partition_key_filter="k1") as subscription:
        (found,) = await drain(place, client, subscription)
    assert data(found) == [number for number in wanted(range(60)) if number % 2]
    assert await counts(place, client) == (0, 20, 0, 0, 40)


# -- guarantees


@case(*FILTERS, Capability.AT_MOST_ONCE)
async def test_at_most_once_acks_what_matches_when_it_is_fetched(place: Place) -> None:
    """And what a consumer read ahead and never handed out comes to the next one, alone."""
    client = place.client()
    await prepare(place, client, delivery="at_most_once")
    await client.publish_batch(place.topic(), range(60))
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 5)) == [0, 3, 6, 9, 12]
        assert (await standing(place, client)).acked == 5
    seen: list[int] = []
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        async for message in subscription:
            seen.append(message.data)
            if len(seen) == 4:
                break
    assert seen == [15, 18, 21, 24]
    async with manual(place, client) as subscription:
        rest = data(await take(subscription, 11))
        assert sorted(rest) == [*range(27, 60, 3)]
        assert rest == sorted(rest) or Capability.EXACT_ATTEMPTS not in place.subject.capabilities
        assert await subscription.fetch(1, timeout=0) == []
    await expect_end(place, client)
    assert await counts(place, client) == (0, 20, 0, 0, 40)


@case(*FILTERS, Capability.AT_MOST_ONCE)
async def test_consumers_share_what_matches_at_most_once(place: Place) -> None:
    """Each of it comes to one of them, once."""
    clients = [place.client() for _ in range(2)]
    await prepare(place, clients[0], delivery="at_most_once")
    async with manual(place, clients[0]) as one, manual(place, clients[1]) as two:
        for start in range(0, 200, 10):
            await clients[0].publish_batch(place.topic(), range(start, start + 10))
        found = await drain(place, clients[0], one, two)
    assert sorted(data([*found[0], *found[1]])) == wanted(range(200))
    assert await counts(place, clients[0]) == (0, 67, 0, 0, 133)


@case(*FILTERS, Capability.DEDUPLICATION)
async def test_exactly_once_counts_an_id_once(place: Place) -> None:
    """Of what matches and of what does not."""
    client = place.client()
    await prepare(place, client, delivery="exactly_once")
    for number in [*range(30), *range(30)]:
        await client.publish(place.topic(), number, message_id=f"id-{number}")
    async with manual(place, client) as subscription:
        (found,) = await drain(place, client, subscription)
    assert data(found) == wanted(range(30))
    assert await counts(place, client) == (0, 10, 0, 0, 20)


# -- transactions and dead letters


@case(*FILTERS, Capability.TRANSACTIONS)
async def test_transactions_go_from_filter_to_filter(place: Place) -> None:
    """What one publishes the next group judges; what was undone comes again, alone."""
    client = place.client()
    await prepare(place, client, **AT_ONCE)
    await client.create_group(place.topic("out"), place.group("out"), filter="_data % 2 = 0")
    await client.publish_batch(place.topic(), range(12))
    async with manual(place, client) as subscription:
        undone = False
        while (await standing(place, client)).lag:
            for message in await subscription.fetch(2, timeout=0.05):
                try:
                    async with message.transaction() as transaction:
                        await transaction.publish(place.topic("out"), message.data)
                        await transaction.ack()
                        if message.data == 6 and not undone:
                            undone = True
                            raise ValueError("undone")
                except ValueError:
                    await message.nack(delay_seconds=0)
    assert await counts(place, client) == (0, 4, 0, 0, 8)
    async with client.subscribe(place.topic("out"), consumer_group=place.group("out")) as subscription:
        assert sorted(data(await take(subscription, 2))) == [0, 6]
        await expect_no_more(client, subscription, place.topic("out"), 2)
    (info,) = [counted(place, info) for info in await client.groups(place.topic("out"))]
    assert (info.filtered, info.lag) == (2, 0)


@case(*FILTERS, Capability.DEAD_LETTERS, Capability.TRANSACTIONS)
async def test_only_what_matches_can_die(place: Place) -> None:
    """It is a dead letter like any other; sent back it is judged like any other, and can be filtered itself."""
    client = place.client()
    await prepare(place, client, max_retries=1, **AT_ONCE)
    await client.create_group(f"dead-letters/{place.topic()}", place.group("undertaker"), filter="_data % 2 = 1")
    await client.publish_batch(place.topic(), range(12))
    async with manual(place, client) as subscription:
        for message in await take(subscription, 4):
            await message.nack(requeue=False, reason="no") if message.data < 6 else await message.nack()
        for message in await take(subscription, 2):
            assert message.attempt == 2
            await message.nack()
        assert await subscription.fetch(1, timeout=0) == []
        assert await counts(place, client) == (0, 0, 4, 0, 8)
        dead = client.dead_letters(place.topic())
        assert sorted(each.message.data for each in await dead.list()) == [0, 3, 6, 9]
        async with client.subscribe(
            f"dead-letters/{place.topic()}", consumer_group=place.group("undertaker")
        ) as undertaker:
            assert sorted(data(await take(undertaker, 2))) == [3, 9]
        assert await dead.redrive() == 4
        found = await take(subscription, 4)
        assert sorted(told(place, found)) == [(0, 1), (3, 1), (6, 1), (9, 1)]
        await subscription.ack(found)
    assert await counts(place, client) == (0, 4, 4, 0, 8)


# -- bounds


@case(*FILTERS, Capability.MAX_LENGTH, Capability.EXACT_LENGTH)
async def test_a_full_topic_is_refused_by_name_only_for_what_is_left(place: Place) -> None:
    """A bound counts what the group has not looked at yet; what it passes over frees room."""
    client = place.client()
    await prepare(place, client, max_length=3)
    await client.publish_batch(place.topic(), [1, 2, 3])
    with pytest.raises(TopicFull):
        await client.publish(place.topic(), 4)
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 1)) == [3]
        await client.publish_batch(place.topic(), [4, 5])
        assert await subscription.fetch(1, timeout=0) == []
        await client.publish_batch(place.topic(), [6, 7])
        with pytest.raises(TopicFull):
            await client.publish(place.topic(), 8)
        assert data(await take(subscription, 1)) == [6]
    assert (await standing(place, client)).filtered == 4


@case(*FILTERS, Capability.MAX_LENGTH)
async def test_who_waits_for_room_gets_it_when_messages_are_passed_over(place: Place) -> None:
    """At once, as by an ack: a consumer that gets nothing of all this does not slow its publishers down."""
    client, consumer = place.client(), place.client()
    await prepare(place, client, max_length=2, overflow="block", overflow_timeout=30)
    await client.publish_batch(place.topic(), [1, 2])
    waiting = asyncio.ensure_future(client.publish(place.topic(), 4))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    async with manual(place, consumer) as subscription:
        fetching = asyncio.ensure_future(subscription.fetch(1, timeout=SECONDS))
        begun = time.monotonic()
        await waiting
        for _ in range(20):
            await client.publish_batch(place.topic(), [1, 1])
        assert time.monotonic() - begun < 5
        await client.publish(place.topic(), 3)
        assert data(await fetching) == [3]


@case(*FILTERS, Capability.MAX_LENGTH, Capability.EXACT_LENGTH)
async def test_a_full_topic_drops_what_nobody_has_looked_at(place: Place) -> None:
    """Whether it matches or not, as long as nobody knows; what was looked at is counted as passed over."""
    client = place.client()
    await prepare(place, client, max_length=6, overflow="drop_oldest")
    for number in range(20):
        await client.publish(place.topic(), number)
    assert await counts(place, client) == (6, 0, 0, 14, 0)
    async with manual(place, client) as subscription:
        found = await take(subscription, 2)
        assert data(found) == [15, 18]
        assert await subscription.fetch(1, timeout=0) == []
        await client.publish_batch(place.topic(), range(20, 24))
        assert await counts(place, client) == (6, 0, 0, 14, 4)
        await client.publish(place.topic(), 24)
        assert await counts(place, client) == (6, 0, 0, 15, 4)
        await subscription.ack(found)
        (found,) = await drain(place, client, subscription)
        assert data(found) == [21, 24]
    assert await counts(place, client) == (0, 4, 0, 15, 6)


@case(*FILTERS, Capability.RETENTION_COUNT)
async def test_what_retention_takes_is_counted_as_skipped(place: Place) -> None:
    """What the group had not looked at when it went, whether it would have matched or not."""
    client = place.client()
    await prepare(place, client, retention_messages=50)
    for start in range(0, 500, 10):
        await client.publish_batch(place.topic(), range(start, start + 10))
    kept = (await client.describe_topic(place.topic())).messages
    expected = wanted(range(500 - kept, 500))
    async with manual(place, client) as subscription:
        (found,) = await drain(place, client, subscription)
        assert data(found) == expected
        await expect_nothing(subscription)
    assert await counts(place, client) == (0, len(expected), 0, 500 - kept, kept - len(expected))
