"""What order is promised in groups: who reads a partition, who waits for a failure, and what is not for a consumer."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, InvalidOption, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import AT_ONCE, expect_end, manual, prepare, standing
from tidings.testing.conformance.stage.place import SECONDS, Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker

ORDERING = (Capability.GROUPS, Capability.ORDERING, Capability.PARTITIONS)

KEYS = [f"key{number}" for number in range(16)]
"""Enough that each of a few partitions has some."""


async def publish_rounds(place: Place, client: AsyncClient, rounds: int, first: int = 0) -> None:
    """Publish a number for each key, round after round."""
    for number, key in itertools.product(range(first, first + rounds), KEYS):
        await client.publish(place.topic(), number, partition_key=key)


async def drain(subscriptions: list[AsyncSubscription], wanted: int) -> list[list[Any]]:
    """Take and ack until so many came; return what came to each."""
    found: list[list[Any]] = [[] for _ in subscriptions]

    async def look() -> bool:
        for subscription, mine in zip(subscriptions, found):
            more = await subscription.fetch(50, timeout=0.01)
            await subscription.ack(more)
            mine += more
        return sum(map(len, found)) >= wanted

    await until(look)
    return found


# -- partitions have one reader


@case(*ORDERING)
async def test_partitions_are_shared_out_evenly(place: Place) -> None:
    """Each belongs to one consumer, and all of them have as many; one too many has none."""
    client = place.client()
    await prepare(place, client, partitions=4)
    for count, shares in ((2, [2, 2]), (3, [1, 1, 2]), (5, [0, 1, 1, 1, 1])):
        subscriptions = [manual(place, client, ordering=True) for _ in range(count)]
        for subscription in subscriptions:
            await subscription.open()
        await drain(subscriptions, 0)
        await publish_rounds(place, client, 2)
        found = await drain(subscriptions, 2 * len(KEYS))
        partitions = [{message.partition for message in mine} for mine in found]
        assert sorted(map(len, partitions)) == shares
        assert set().union(*partitions) == set(range(4))
        for subscription in subscriptions:
            await subscription.close()


@case(*ORDERING)
async def test_a_partition_moves_when_consumers_come_and_go(place: Place) -> None:
    """To the one who came once its messages are settled, and back; nothing comes twice, and keys keep their order."""
    client = place.client()
    await prepare(place, client, partitions=4)
    first = manual(place, client, ordering=True)
    await first.open()
    await publish_rounds(place, client, 3)
    found = (await drain([first], 3 * len(KEYS)))[0]
    async with manual(place, client, ordering=True) as second:
        for start in (3, 4):
            await publish_rounds(place, client, 1, first=start)
            both = await drain([first, second], len(KEYS))
            found += [*both[0], *both[1]]
        assert [len({message.partition for message in mine}) for mine in both] == [2, 2]
        await publish_rounds(place, client, 1, first=5)
    await first.close()
    async with manual(place, client, ordering=True) as third:
        await publish_rounds(place, client, 2, first=6)
        found += (await drain([third], 3 * len(KEYS)))[0]
    for key in KEYS:
        assert [message.data for message in found if message.key == key] == list(range(8))
    await expect_end(place, client)


@case(*ORDERING)
async def test_what_a_consumer_held_comes_first_to_its_heir(place: Place) -> None:
    """In the order of its keys, before what was published later."""
    client = place.client()
    await prepare(place, client, partitions=2)
    await publish_rounds(place, client, 2)
    async with manual(place, client, ordering=True) as leaver:
        assert len(await take(leaver, 20)) == 20
        await publish_rounds(place, client, 1, first=2)
    async with manual(place, client, ordering=True) as heir:
        found = await take(heir, 3 * len(KEYS))
    for key in KEYS:
        assert [message.data for message in found if message.key == key] == [0, 1, 2]


@case(Capability.PROCESSES, *ORDERING)
async def test_keys_keep_their_order_when_a_process_is_killed(place: Place) -> None:
    """What it had not acked comes to the heirs, in order, before what follows."""
    client = place.client()
    await prepare(place, client, partitions=2)
    async with Worker(place.kind, place.url) as worker, manual(place, client, ordering=True) as heir:
        await worker.ask("subscribe", place.topic(), place.group(), {"ordering": True})
        for _ in range(3):
            assert await heir.fetch(1, timeout=0.01) == []
            assert await worker.ask("take", 1, 0.01) == []
        await publish_rounds(place, client, 3)
        assert await worker.ask("take", 3, SECONDS)
        found = await take(heir, 10)
        await heir.ack(found)
        await publish_rounds(place, client, 2, first=3)
        await worker.kill()
        while (await standing(place, client)).lag:
            more = await heir.fetch(50, timeout=SECONDS)
            await heir.ack(more)
            found += more
    for key in KEYS:
        assert [message.data for message in found if message.key == key] == list(range(5))


# -- a failure holds back its key


@case(*ORDERING)
async def test_a_failed_message_holds_back_its_key(place: Place) -> None:
    """Those of other keys go on; when it gets through, the others of its key follow in their order."""
    client = place.client()
    await prepare(place, client)
    for value, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")):
        await client.publish(place.topic(), value, partition_key=key)
    async with manual(place, client, ordering=True) as subscription:
        (failed,) = await take(subscription, 1)
        nacked = time.monotonic()
        await failed.nack(delay_seconds=0.4)
        others = await take(subscription, 2)
        assert data(others) == ["b1", "b2"]
        await subscription.ack(others)
        assert time.monotonic() - nacked < 5
        found = await take(subscription, 3)
        assert time.monotonic() - nacked >= 0.4
        assert [(message.data, message.attempt) for message in found] == [("a1", 2), ("a2", 1), ("a3", 1)]
        await subscription.ack(found)
    await expect_end(place, client)


@case(*ORDERING)
async def test_messages_without_a_key_wait_for_each_other(place: Place) -> None:
    """They count as one key."""
    client = place.client()
    await prepare(place, client)
    for value, key in (("1", None), ("a", "a"), ("2", None), ("3", None)):
        await client.publish(place.topic(), value, partition_key=key)
    async with manual(place, client, ordering=True) as subscription:
        (failed,) = await take(subscription, 1)
        await failed.nack(delay_seconds=0.4)
        assert data(await take(subscription, 4)) == ["a", "1", "2", "3"]


@case(*ORDERING, Capability.DEAD_LETTERS)
async def test_a_dead_message_frees_its_key(place: Place) -> None:
    """Rejected, or tried as often as it may be: those behind it go on."""
    client = place.client()
    await prepare(place, client, max_retries=1)
    for value in ("bad", "worse", "good"):
        await client.publish(place.topic(), value, partition_key="k")
    async with manual(place, client, ordering=True) as subscription:
        for attempt in (1, 2):
            (bad,) = await take(subscription, 1)
            assert (bad.data, bad.attempt) == ("bad", attempt)
            await bad.nack(delay_seconds=0.05)
        (worse,) = await take(subscription, 1)
        await worse.nack(requeue=False)
        (good,) = await take(subscription, 1)
        assert (good.data, good.attempt) == ("good", 1)
        await good.ack()
    assert (await standing(place, client)).dead == 2
    await expect_end(place, client)


@case(*ORDERING)
async def test_a_handler_that_fails_sees_each_key_in_order(place: Place) -> None:
    """A listener never goes past a message that failed, though it fetched those behind it before."""
    client = place.client()
    await prepare(place, client, retry_delay=0.01, retry_max_delay=0.02)
    await publish_rounds(place, client, 4)
    dice, done = random.Random(5), defaultdict[Any, list[int]](list)

    def handle(message: Any) -> None:
        if dice.random() < 0.2:
            raise RuntimeError("as the case wants it")
        done[message.key].append(message.data)

    listener = await client.listen(place.topic(), handle, consumer_group=place.group(), ordering=True)
    await until(lambda: sum(map(len, done.values())) == 4 * len(KEYS))
    await listener.stop()
    assert done == {key: list(range(4)) for key in KEYS}
    await expect_end(place, client)


@case(*ORDERING, Capability.DEAD_LETTERS)
async def test_order_survives_consumers_that_fail_come_and_go(place: Place) -> None:
    """Several at once, each for a short while: what is acked of a key is acked in its order, once."""
    client = place.client()
    await prepare(place, client, partitions=3, max_retries=1000, **AT_ONCE)
    await publish_rounds(place, client, 5)
    dice, done = random.Random(11), defaultdict[Any, list[int]](list)

    async def work() -> None:
        while sum(map(len, done.values())) < 5 * len(KEYS):
            async with manual(place, client, ordering=True) as subscription:
                for _ in range(dice.randint(1, 30)):
                    for message in await subscription.fetch(1, timeout=0.01):
                        if dice.random() < 0.2:
                            await message.nack()
                        else:
                            await message.ack()
                            done[message.key].append(message.data)

    await asyncio.gather(*(work() for _ in range(3)))
    assert done == {key: list(range(5)) for key in KEYS}
    await expect_end(place, client)


@case(Capability.GROUPS, Capability.ORDERING)
async def test_consumers_of_a_group_agree_on_the_order(place: Place) -> None:
    """Who wants another one than those that are attached is refused by name; when they are gone, it may."""
    client = place.client()
    await prepare(place, client)
    for attached in (True, False):
        async with manual(place, client, ordering=attached):
            with pytest.raises(InvalidOption) as caught:
                await manual(place, client, ordering=not attached).open()
            assert caught.value.name == "ordering"


# -- only some partitions, only some keys


@case(Capability.PARTITIONS, Capability.REPLAY)
async def test_a_subscription_may_read_some_partitions(place: Place) -> None:
    """One, or several; live and from the beginning."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(partitions=4))
    async with client.subscribe(place.topic(), partition=[0, 2]) as live:
        await publish_rounds(place, client, 1)
        found = await take(live, await stored(place, client, 0, 2))
        assert await live.fetch(1, timeout=0) == []
    assert {message.partition for message in found} == {0, 2}
    async with client.subscribe(place.topic(), partition=3, from_beginning=True) as replay:
        found = await take(replay, await stored(place, client, 3))
        assert await replay.fetch(1, timeout=0) == []
    assert {message.partition for message in found} == {3}


async def stored(place: Place, client: AsyncClient, *partitions: int) -> int:
    """Return how many messages these partitions have."""
    info = await client.describe_topic(place.topic())
    return sum(each.next_offset - each.first_offset for each in info.partitions if each.partition in partitions)


@case(Capability.GROUPS, Capability.PARTITIONS)
async def test_consumers_may_take_partitions_of_a_group(place: Place) -> None:
    """The others are left to other consumers."""
    client = place.client()
    await prepare(place, client, partitions=3)
    await publish_rounds(place, client, 2)
    async with manual(place, client, partition=1) as one, manual(place, client, partition=[0, 2]) as others:
        mine = await take(one, await stored(place, client, 1))
        theirs = await take(others, await stored(place, client, 0, 2))
        assert {message.partition for message in mine} == {1}
        assert {message.partition for message in theirs} == {0, 2}
        assert await one.fetch(1, timeout=0) == []
        await one.ack(mine)
        await others.ack(theirs)
    await expect_end(place, client)


@case(Capability.PARTITIONS, Capability.REPLAY)
async def test_a_subscription_may_read_one_key(place: Place) -> None:
    """Nothing else comes, also not other keys of its partition, or messages without one."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(partitions=2))
    async with client.subscribe(place.topic(), partition_key_filter="key3") as live:
        await publish_rounds(place, client, 3)
        await client.publish(place.topic(), "none")
        assert [(m.key, m.data) for m in await take(live, 3)] == [("key3", at) for at in range(3)]
        assert await live.fetch(1, timeout=0) == []
    async with client.subscribe(place.topic(), partition_key_filter="key3", from_beginning=True) as replay:
        assert data(await take(replay, 3)) == [0, 1, 2]
        assert await replay.fetch(1, timeout=0) == []


@case(Capability.GROUPS, Capability.PARTITIONS)
async def test_a_group_may_read_one_key(place: Place) -> None:
    """The messages of other keys are acked for it: they are no lag."""
    client = place.client()
    await prepare(place, client, partitions=2)
    await publish_rounds(place, client, 3)
    async with manual(place, client, partition_key_filter="key7") as subscription:
        found = await take(subscription, 3)
        assert [(message.key, message.data) for message in found] == [("key7", at) for at in range(3)]

        async def others_are_acked() -> bool:
            assert await subscription.fetch(50, timeout=0.01) == []
            return (await standing(place, client)).lag == 3

        await until(others_are_acked)
        await subscription.ack(found)
    await expect_end(place, client)
    assert (await standing(place, client)).acked == 3 * len(KEYS)


@case(*ORDERING, Capability.PRIORITY)
async def test_what_cannot_be_read_is_refused_by_name(place: Place) -> None:
    """When the subscription is asked for, or opened."""
    client = place.client()
    await client.create_topic(place.topic())
    wrong: list[tuple[str, Any]] = [
        *(("partition", value) for value in (-1, 256, "0", 1.5, True, [], [0, -1], [0, "1"])),
        *(("partition_key_filter", value) for value in ("", 7, "k" * 2000, b"k")),
        *(("ordering", value) for value in ("yes", 1, None)),
        *(("priority_order", value) for value in ("yes", 1, None)),
    ]
    options: dict[str, Any]
    for name, value in wrong:
        options = {name: value}
        with pytest.raises(InvalidOption) as caught:
            await client.subscribe(place.topic(), consumer_group=place.group(), **options).open()
        assert caught.value.name == name, (name, value)
    assert await client.groups(place.topic()) == []
