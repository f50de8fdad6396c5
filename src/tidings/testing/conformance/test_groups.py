"""What a consumer group is promised: each group gets everything, its consumers share it, and it keeps its place."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidings import AsyncSubscription, GroupNotFound, InvalidOption, LeaseLost, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import lag_is, standing, told
from tidings.testing.conformance.stage.place import Place, data, expect_nothing, take, until


@case(Capability.GROUPS)
async def test_each_group_gets_everything(place: Place) -> None:
    """Two groups do not take anything from each other, nor from a temporary subscription."""
    client = place.client()
    async with (
        client.subscribe(place.topic(), consumer_group=place.group("one")) as one,
        client.subscribe(place.topic(), consumer_group=place.group("two")) as two,
        client.subscribe(place.topic()) as temporary,
    ):
        await client.publish_batch(place.topic(), range(50))
        for subscription in (one, two, temporary):
            assert data(await take(subscription, 50)) == list(range(50))


@case(Capability.GROUPS)
async def test_consumers_of_a_group_share_its_messages(place: Place) -> None:
    """Each message goes to one of them; what one holds, no other gets; after the acks nothing more comes to anybody."""
    clients = [place.client() for _ in range(3)]
    seen: list[list[int]] = [[], [], []]

    async def consume(who: int, subscription: AsyncSubscription) -> None:
        while sum(map(len, seen)) < 300:
            found = await subscription.fetch(7, timeout=0.05)
            seen[who] += data(found)
            await subscription.ack(found)

    subscriptions = [
        client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) for client in clients
    ]
    for subscription in subscriptions:
        await subscription.open()
    for start in range(0, 300, 20):
        await clients[0].publish_batch(place.topic(), range(start, start + 20))
    held = [await take(subscription, 5) for subscription in subscriptions]
    for who, (subscription, messages) in enumerate(zip(subscriptions, held)):
        seen[who] += data(messages)
        await subscription.ack(messages)
    await asyncio.gather(*(consume(who, subscription) for who, subscription in enumerate(subscriptions)))
    assert sorted(itertools.chain(*seen)) == list(range(300))
    assert await lag_is(place, clients[0], 0)
    for subscription in subscriptions:
        await expect_nothing(subscription)


@case(Capability.GROUPS)
async def test_a_group_collects_before_anybody_comes(place: Place) -> None:
    """From the moment of `create_group`, which may be repeated; not what was there before."""
    client = place.client()
    await client.publish(place.topic(), "before")
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(5))
    await client.create_group(place.topic(), place.group())
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        assert data(await take(subscription, 5)) == list(range(5))
        await expect_nothing(subscription)


@case(Capability.GROUPS, Capability.REPLAY, Capability.GROUP_REPLAY)
async def test_a_new_group_starts_where_it_is_told_to(place: Place) -> None:
    """Made by `create_group` or by its first consumer; a group that has a place keeps it."""
    client = place.client()
    await client.publish_batch(place.topic(), range(10))
    starts: list[tuple[dict[str, Any], int]] = [
        ({"from_beginning": True}, 0),
        ({"from_offset": 7}, 7),
        ({"since": timedelta(hours=1)}, 0),
        ({"since": datetime.now(UTC)}, 10),
    ]
    for number, (options, first) in enumerate(starts):
        made, implied = place.group(f"made{number}"), place.group(f"implied{number}")
        await client.create_group(place.topic(), made, **options)
        for group in (made, implied):
            async with client.subscribe(place.topic(), consumer_group=group, **options) as subscription:
                wanted = list(range(first, 10))
                assert data(await take(subscription, len(wanted))) == wanted, options
            async with client.subscribe(place.topic(), consumer_group=group, from_beginning=True) as again:
                assert await again.fetch(1, timeout=0.01) == []


@case(Capability.GROUPS)
async def test_a_group_goes_on_where_it_stopped(place: Place) -> None:
    """Consumers that come one after the other, each leaving in the middle, get everything once between them."""
    publisher = place.client()
    await publisher.create_group(place.topic(), place.group())
    await publisher.publish_batch(place.topic(), range(100))
    found: list[int] = []
    for size in (30, 1, 19, 40, 10):
        client = place.client()
        async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
            found += data(await take(subscription, size))
        await client.close()
    assert found == list(range(100))
    async with publisher.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        await expect_nothing(subscription)


@case(Capability.GROUPS)
async def test_a_long_loop_with_automatic_acks_repeats_nothing(place: Place) -> None:
    """Left after each of several parts and entered again: every message once, and in order."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(1000))
    found: list[int] = []
    for end in (1, 400, 401, 1000):
        async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
            async for message in subscription:
                assert told(place, [message]) == [(message.data, 1)]
                found.append(message.data)
                if len(found) == end:
                    break
    assert found == list(range(1000))
    assert await lag_is(place, client, 0)


@case(Capability.GROUPS, Capability.LAG)
async def test_lag_counts_what_is_not_acked(place: Place) -> None:
    """Not yet delivered, held, and waiting for a retry; each in the listing of the group."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(10))
    assert await client.get_consumer_lag(place.topic(), place.group()) == 10
    options: dict[str, Any] = {"consumer_group": place.group(), "consumer_id": "w1", "auto_ack": False}
    async with client.subscribe(place.topic(), **options) as subscription:
        found = await take(subscription, 6)
        await subscription.ack(found[:3])
        await found[3].nack(delay_seconds=60)
        assert await client.get_consumer_lag(place.topic(), place.group()) == 7
        info = await standing(place, client)
        assert (info.group, info.topic, info.lag, info.held) == (place.group(), place.topic(), 7, 2)
        assert (info.retrying, info.skipped) == (1, 0)
        if Capability.STATISTICS in place.subject.capabilities:
            assert [(consumer.consumer, consumer.held) for consumer in info.consumers] == [("w1", 2)]
    info = await standing(place, client)
    assert (info.lag, info.held, info.consumers) == (7, 0, ())


@case(Capability.GROUPS)
async def test_a_group_that_does_not_exist_is_named(place: Place) -> None:
    """`GroupNotFound` from whatever needs one; bad names raise `InvalidOption`."""
    client = place.client()
    await client.create_topic(place.topic())
    with pytest.raises(GroupNotFound):
        await client.drop_group(place.group())
    if Capability.LAG in place.subject.capabilities:
        with pytest.raises(GroupNotFound):
            await client.get_consumer_lag(place.topic(), place.group())
    if Capability.SEEK in place.subject.capabilities:
        with pytest.raises(GroupNotFound):
            await client.seek_group(place.topic(), place.group(), "beginning")
    for name in ("", " a", "x" * 200):
        with pytest.raises(InvalidOption):
            await client.create_group(place.topic(), name)
    with pytest.raises(InvalidOption):
        await client.seek_group(place.topic(), place.group(), "middle")


@case(Capability.GROUPS, Capability.SEEK)
async def test_a_group_can_be_moved(place: Place) -> None:
    """To the beginning, the end, an offset, a time, or a while back; also while a consumer is attached."""
    client = place.client()
    await client.publish_batch(place.topic(), range(10))
    middle = datetime.now(UTC)
    await client.publish_batch(place.topic(), range(10, 20))
    moves: list[tuple[Any, int]] = [
        ("beginning", 0),
        (13, 13),
        (middle, 10),
        (timedelta(hours=1), 0),
        ("end", 20),
        (19, 19),
    ]
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        for to, first in moves:
            await client.seek_group(place.topic(), place.group(), to)
            wanted = list(range(first, 20))
            assert data(await take(subscription, len(wanted))) == wanted, to
            await expect_nothing(subscription)


@case(Capability.GROUPS, Capability.SEEK)
async def test_moving_a_group_takes_what_its_consumers_hold(place: Place) -> None:
    """Their acks are refused with `LeaseLost`; the messages come again, counted from the first attempt."""
    client = place.client()
    async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as subscription:
        await client.publish_batch(place.topic(), ["a", "b"])
        held = await take(subscription, 2)
        await client.seek_group(place.topic(), place.group(), "beginning")
        with pytest.raises(LeaseLost) as caught:
            await subscription.ack(held)
        assert (caught.value.topic, caught.value.offsets) == (place.topic(), (0, 1))
        again = await take(subscription, 2)
        assert told(place, again) == [("a", 1), ("b", 1)]
        await subscription.ack(again)


@case(Capability.GROUPS)
async def test_a_dropped_group_is_forgotten(place: Place) -> None:
    """It holds nothing and collects nothing; one of the same name made later starts anew."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish(place.topic(), "for nobody")
    await client.drop_group(place.group())
    with pytest.raises(GroupNotFound):
        await client.drop_group(place.group())
    assert await client.groups(place.topic()) == []
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        await client.publish(place.topic(), "news")
        assert data(await take(subscription, 1)) == ["news"]


@case(Capability.GROUPS, Capability.PATTERNS)
async def test_a_group_on_a_pattern_collects_from_later_topics(place: Place) -> None:
    """From their first message on, attached or not, and it lists each of them."""
    client, other = place.client(), place.client()
    await client.create_group(place.topic("late/*"), place.group())
    for number in range(5):
        await other.publish_batch(place.topic(f"late/{number}"), [number, number])
    async with client.subscribe(place.topic("late/*"), consumer_group=place.group()) as subscription:
        await other.publish(place.topic("late/9"), 9)
        found = sorted(data(await take(subscription, 11)))
        await expect_nothing(subscription)
    assert found == sorted([*range(5), *range(5), 9])
    assert len([info for info in await client.groups() if info.group == place.group()]) == 6


@case(Capability.GROUPS, Capability.PARTITIONS)
async def test_first_deliveries_follow_each_partition(place: Place) -> None:
    """To one consumer in the order of publishing, key by key; between several, each one's part is in order."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(partitions=3))
    await client.create_group(place.topic(), place.group())
    for number in range(200):
        await client.publish(place.topic(), number, partition_key=f"key{number % 16}", durability=None)
    found: list[list[Any]] = [[], []]

    async def consume(who: int) -> None:
        async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
            while sum(map(len, found)) < 200:
                found[who] += await subscription.fetch(5, timeout=0.05)

    await asyncio.gather(consume(0), consume(1))
    for messages in found:
        for partition in range(3):
            offsets = [message.offset for message in messages if message.partition == partition]
            assert offsets == sorted(offsets)
    assert sorted(data([*found[0], *found[1]])) == list(range(200))


@case(Capability.GROUPS, Capability.RETENTION_COUNT)
async def test_what_retention_takes_from_a_group_is_counted(place: Place) -> None:
    """What was removed before the group had read it is skipped, shown as such, and is lag no more."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(retention_messages=50))
    await client.create_group(place.topic(), place.group())
    for start in range(0, 500, 10):
        await client.publish_batch(place.topic(), range(start, start + 10))
    kept = (await client.describe_topic(place.topic())).messages
    async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as subscription:
        found = await take(subscription, kept)
        await subscription.ack(found)
        assert data(found) == list(range(500 - kept, 500))
        assert subscription.statistics().skipped == 500 - kept
        await expect_nothing(subscription)
    info = await standing(place, client)
    assert (info.lag, info.skipped) == (0, 500 - kept)


@case(Capability.GROUPS)
async def test_a_topic_made_again_is_new_to_its_groups(place: Place) -> None:
    """A group whose topic was dropped reads the next one of this name from its first message."""
    client = place.client()
    async with client.subscribe(place.topic(), consumer_group=place.group(), prefetch=1) as subscription:
        await client.publish_batch(place.topic(), ["old", "older"])
        assert data(await take(subscription, 1)) == ["old"]
        await client.drop_topic(place.topic())
        await client.publish(place.topic(), "new")
        assert data(await take(subscription, 1)) == ["new"]
        await expect_nothing(subscription)


@case(Capability.GROUPS)
async def test_consumers_come_and_go_while_messages_flow(place: Place) -> None:
    """Ten come and leave with their hands full, one stays: nothing is lost and nothing acked comes again."""
    client = place.client()
    options: dict[str, Any] = {"consumer_group": place.group(), "auto_ack": False}
    acked: list[int] = []

    async def visit() -> None:
        async with client.subscribe(place.topic(), **options) as subscription:
            found = await subscription.fetch(5, timeout=0.05)
            await subscription.ack(found[:2])
            acked.extend(data(found[:2]))

    async with client.subscribe(place.topic(), **options) as steady:
        await client.publish_batch(place.topic(), range(100))
        await asyncio.gather(*(visit() for _ in range(10)))

        async def rest() -> bool:
            found = await steady.fetch(10, timeout=0.05)
            await steady.ack(found)
            acked.extend(data(found))
            return len(acked) >= 100

        await until(rest)
        await expect_nothing(steady)
    assert sorted(acked) == list(range(100))
