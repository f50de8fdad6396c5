"""What priorities are promised: a number that comes along, the highest first where asked for, else publish order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tidings import InvalidOption
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import expect_end, expect_no_more, manual, prepare, standing
from tidings.testing.conformance.stage.place import Place, data, take

MIXED: list[int | str] = [5, 0, "high", 9, "low", "normal", 1, 9, 3, 0, 8, 5]
"""Priorities of a case's messages, in the order of publishing."""

NAMES = {"low": 1, "normal": 5, "high": 8}


def number(priority: int | str) -> int:
    return NAMES[priority] if isinstance(priority, str) else priority


BY_PRIORITY = sorted(range(len(MIXED)), key=lambda at: -number(MIXED[at]))
"""The order in which they come highest first, each level in the order of publishing."""


async def publish_mixed(place: Place, client: Any) -> None:
    for at, priority in enumerate(MIXED):
        await client.publish(place.topic(), at, priority=priority)


@case(Capability.PRIORITY)
async def test_a_priority_comes_along(place: Place) -> None:
    """A number from 0 to 9, or one of three names for it; 5 when nothing is said."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        await client.publish(place.topic(), None)
        await publish_mixed(place, client)
        await client.publish_batch(place.topic(), [None, None], priority="low")
        found = await take(subscription, len(MIXED) + 3)
    assert [message.priority for message in found] == [5, *map(number, MIXED), 1, 1]


@case(Capability.PRIORITY, Capability.REPLAY, Capability.GROUPS)
async def test_without_more_they_come_in_publish_order(place: Place) -> None:
    """Over all priorities, to whoever reads: live, from the beginning, in a group."""
    client = place.client()
    await prepare(place, client)
    async with client.subscribe(place.topic()) as live:
        await publish_mixed(place, client)
        assert data(await take(live, len(MIXED))) == list(range(len(MIXED)))
    async with client.subscribe(place.topic(), from_beginning=True) as replay:
        assert data(await take(replay, len(MIXED))) == list(range(len(MIXED)))
    async with manual(place, client) as group:
        found = await take(group, len(MIXED))
        assert data(found) == list(range(len(MIXED)))
        await group.ack(found)
    await expect_end(place, client)


@case(Capability.PRIORITY, Capability.GROUPS)
async def test_the_highest_comes_first_where_asked_for(place: Place) -> None:
    """In a group, however much is fetched at a time; messages of one priority in the order of publishing."""
    client = place.client()
    for amount in (1, 5, 100):
        place.fork()
        await prepare(place, client)
        await publish_mixed(place, client)
        async with manual(place, client, priority_order=True) as subscription:
            found: list[Any] = []
            while len(found) < len(MIXED):
                more = await subscription.fetch(amount, timeout=5)
                assert more
                await subscription.ack(more)
                found += more
            assert data(found) == BY_PRIORITY
        await expect_end(place, client)


@case(Capability.PRIORITY, Capability.REPLAY)
async def test_the_highest_comes_first_outside_a_group_too(place: Place) -> None:
    """Of what is there when it is asked for."""
    client = place.client()
    async with client.subscribe(place.topic(), priority_order=True) as live:
        await publish_mixed(place, client)
        assert data(await take(live, len(MIXED))) == BY_PRIORITY
    async with client.subscribe(place.topic(), priority_order=True, from_beginning=True) as replay:
        assert data(await take(replay, len(MIXED))) == BY_PRIORITY


@case(Capability.PRIORITY, Capability.GROUPS)
async def test_what_is_urgent_overtakes_what_waits(place: Place) -> None:
    """A message of higher priority comes before all of lower priority that were not fetched yet."""
    client = place.client()
    await prepare(place, client)
    await client.publish_batch(place.topic(), range(50), priority="low")
    async with manual(place, client, priority_order=True) as subscription:
        assert data(await take(subscription, 3)) == [0, 1, 2]
        await client.publish(place.topic(), "urgent", priority=9)
        await client.publish(place.topic(), "usual")
        assert data(await take(subscription, 3)) == ["urgent", "usual", 3]


@case(Capability.PRIORITY, Capability.GROUPS)
async def test_a_loop_works_by_priority(place: Place) -> None:
    """Also where messages are fetched ahead: what is published meanwhile waits for a few at most."""
    client = place.client()
    await prepare(place, client)
    await client.publish_batch(place.topic(), range(20), priority=0)
    seen: list[Any] = []
    async with client.subscribe(place.topic(), consumer_group=place.group(), priority_order=True, prefetch=4) as reader:
        async for message in reader:
            seen.append(message.data)
            if message.data == 5:
                await client.publish_batch(place.topic(), ["a", "b"], priority="high")
            if len(seen) == 22:
                break
    assert [value for value in seen if isinstance(value, int)] == list(range(20))
    assert seen.index("a") + 1 == seen.index("b") or seen.index("b") - seen.index("a") <= 4
    assert seen.index("b") <= 6 + 2 + 4


@case(Capability.PRIORITY, Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_retry_keeps_its_priority(place: Place) -> None:
    """When it is due it comes before what is less urgent; as a dead letter it still has it."""
    client = place.client()
    await prepare(place, client, max_retries=1)
    await client.publish(place.topic(), "urgent", priority="high")
    await client.publish_batch(place.topic(), ["a", "b"])
    async with manual(place, client, priority_order=True) as subscription:
        (urgent,) = await take(subscription, 1)
        await urgent.nack(delay_seconds=0)
        (urgent,) = await take(subscription, 1)
        assert (urgent.data, urgent.priority, urgent.attempt) == ("urgent", 8, 2)
        await urgent.nack(delay_seconds=0)
        assert data(await take(subscription, 2)) == ["a", "b"]
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.message.priority) == ("urgent", 8)


@case(Capability.PRIORITY, Capability.GROUPS)
async def test_all_priorities_count(place: Place) -> None:
    """As messages of the topic and as lag of the group; an ack of one is no ack of another at the same offset."""
    client = place.client()
    await prepare(place, client)
    receipts = [await client.publish(place.topic(), level, priority=level) for level in range(10)]
    offsets = [receipt.offset for receipt in receipts]
    assert offsets == place.offsets([0] * 10) or len(set(offsets)) == 10
    assert (await client.describe_topic(place.topic())).messages == place.messages(10)
    async with manual(place, client) as subscription:
        found = await take(subscription, 10)
        await subscription.ack([message for message in found if message.priority % 2])
        assert (await standing(place, client)).lag == 5
    async with manual(place, client) as subscription:
        found = await take(subscription, 5)
        assert data(found) == [0, 2, 4, 6, 8]
        await subscription.ack(found)
    await expect_end(place, client)


@case(Capability.PRIORITY, Capability.GROUPS, Capability.SEEK)
async def test_a_group_is_moved_in_all_priorities(place: Place) -> None:
    """To the end, and to the beginning."""
    client = place.client()
    await prepare(place, client)
    await publish_mixed(place, client)
    await client.seek_group(place.topic(), place.group(), "end")
    assert (await standing(place, client)).lag == 0
    await client.seek_group(place.topic(), place.group(), "beginning")
    async with manual(place, client) as subscription:
        assert data(await take(subscription, len(MIXED))) == list(range(len(MIXED)))


@case(Capability.PRIORITY, Capability.PARTITIONS)
async def test_equal_keys_of_one_priority_keep_their_order(place: Place) -> None:
    """Whatever the partition and the priority."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        for turn, key, level in itertools.product(range(4), "abc", (1, 5, 8)):
            await client.publish(place.topic(), turn, partition_key=key, priority=level)
        found = await take(subscription, 36)
    for key, level in itertools.product("abc", (1, 5, 8)):
        assert [m.data for m in found if (m.key, m.priority) == (key, level)] == list(range(4))


@case()
async def test_what_is_no_priority_is_refused_by_name(place: Place) -> None:
    """And nothing is stored."""
    client = place.client()
    wrong: list[Any] = [-1, 10, 1.5, "urgent", "5", "", True, None, [5]]
    async with client.subscribe(place.topic()) as subscription:
        for priority in wrong:
            with pytest.raises(InvalidOption) as caught:
                await client.publish(place.topic(), 1, priority=priority)
            assert caught.value.name == "priority"
            with pytest.raises(InvalidOption) as caught:
                await client.publish_batch(place.topic(), [1, 2], priority=priority)
            assert caught.value.name == "priority"
        await expect_no_more(client, subscription, place.topic())
