"""What the delivery guarantees are: at most once never repeats, exactly once stores an id once within its window."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tidings import AsyncClient, InvalidOption, TopicOptions, UsageError
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    expect_end,
    expect_no_more,
    fill,
    lag_is,
    manual,
    pass_time,
    prepare,
    raise_at,
    standing,
)
from tidings.testing.conformance.stage.place import SECONDS, Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker

WINDOW = 1.0
"""The shortest window that a topic may have, in seconds: a case waits it out."""


async def once(place: Place, client: AsyncClient, **options: Any) -> None:
    """Make the place's topic one on which an id is stored once."""
    await client.create_topic(place.topic(), TopicOptions(delivery="exactly_once", **options))


# -- at most once


@case(Capability.GROUPS, Capability.AT_MOST_ONCE, Capability.DEAD_LETTERS)
async def test_at_most_once_is_settled_when_it_is_fetched(place: Place) -> None:
    """It is no lag then, and nobody's; acking it, or giving it up, does nothing and is no error."""
    client = place.client()
    await fill(place, client, range(6), delivery="at_most_once", max_retries=0)
    async with manual(place, client) as subscription:
        found = await take(subscription, 6)
        standings = await standing(place, client)
        assert (standings.lag, standings.held, standings.acked) == (0, 0, 6)
        await found[0].ack()
        await found[1].nack()
        await found[2].nack(requeue=False, reason="bad")
        await subscription.ack(found)
    await expect_end(place, client)
    standings = await standing(place, client)
    assert (standings.acked, standings.dead, standings.redelivered) == (6, 0, 0)
    assert await client.dead_letters(place.topic()).count() == 0


@case(Capability.GROUPS, Capability.AT_MOST_ONCE)
async def test_at_most_once_never_comes_again(place: Place) -> None:
    """Neither after an error out of the loop, nor when a handler fails."""
    client = place.client()
    await fill(place, client, range(4), delivery="at_most_once", retry_delay=0)
    with pytest.raises(RuntimeError):
        await raise_at(client.subscribe(place.topic(), consumer_group=place.group()), 1, RuntimeError())
    seen: list[int] = []

    def handle(message: Any) -> None:
        seen.append(message.data)
        raise RuntimeError("as the case wants it")

    listener = await client.listen(place.topic(), handle, consumer_group=place.group())
    await until(lambda: len(seen) == 2)
    await listener.stop()
    assert sorted(seen) == [2, 3]
    await expect_end(place, client)


@case(Capability.GROUPS, Capability.AT_MOST_ONCE)
async def test_at_most_once_gives_back_what_was_not_handed_out(place: Place) -> None:
    """A consumer that leaves properly in the middle loses nothing that its program did not see."""
    client = place.client()
    await fill(place, client, range(200), delivery="at_most_once")
    seen: list[int] = []
    for end in (1, 60, 150):
        async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
            async for message in subscription:
                seen.append(message.data)
                if len(seen) == end:
                    break
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        seen += data(await take(subscription, 50))
    assert sorted(seen) == list(range(200))
    found = await standing(place, client)
    assert (found.lag, found.acked) == (0, 200)


@case(Capability.GROUPS, Capability.AT_MOST_ONCE)
async def test_at_most_once_goes_to_one_consumer(place: Place) -> None:
    """Between several, each message comes once."""
    client = place.client()
    await fill(place, client, range(60), delivery="at_most_once")
    seen: list[int] = []

    async def consume() -> None:
        async with manual(place, client) as subscription:
            while len(seen) < 60:
                seen.extend(data(await subscription.fetch(4, timeout=0.02)))

    await asyncio.gather(*(consume() for _ in range(3)))
    assert sorted(seen) == list(range(60))


@case(Capability.PROCESSES, Capability.GROUPS, Capability.AT_MOST_ONCE)
async def test_at_most_once_dies_with_its_consumer(place: Place) -> None:
    """What a killed process had been handed is never delivered again; what it had not, is."""
    client = place.client()
    await fill(place, client, range(10), delivery="at_most_once")
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert len(await worker.ask("take", 4, SECONDS)) == 4
        await worker.kill()
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 6)) == [4, 5, 6, 7, 8, 9]
        await expect_no_more(client, subscription, place.topic())


# -- exactly once


@case(Capability.DEDUPLICATION)
async def test_an_id_is_stored_once(place: Place) -> None:
    """Whoever publishes it again gets the receipt of the first; the data that came later is nowhere."""
    client, other = place.client(), place.client()
    await once(place, client)
    async with client.subscribe(place.topic()) as subscription:
        first = await client.publish(place.topic(), "first", message_id="a")
        again = [await each.publish(place.topic(), "later", message_id="a") for each in (client, other, client)]
        second = await other.publish(place.topic(), "second", message_id="b")
        assert data(await take(subscription, 2)) == ["first", "second"]
        assert (await client.describe_topic(place.topic())).messages == place.messages(2)
        await expect_no_more(client, subscription, place.topic())
    assert (first.duplicate, second.duplicate) == (False, False)
    for receipt in again:
        assert receipt.duplicate
        assert (receipt.message_id, receipt.topic) == ("a", place.topic())
        assert (receipt.partition, receipt.offset) == (first.partition, first.offset)
        assert receipt.durability == first.durability


@case(Capability.DEDUPLICATION)
async def test_a_batch_stores_each_id_once(place: Place) -> None:
    """Within itself, and against what was there; receipts come in the order of the batch, each with its own truth."""
    client = place.client()
    await once(place, client)
    await client.publish(place.topic(), "old", message_id="b")
    async with client.subscribe(place.topic()) as subscription:
        ids = ["a", "b", "c", "a", "d", "b"]
        receipts = await client.publish_batch(place.topic(), range(6), message_ids=ids)
        again = await client.publish_batch(place.topic(), range(6), message_ids=ids, batch_size=2)
        found = await take(subscription, 3)
        await expect_no_more(client, subscription, place.topic())
    assert [(message.data, message.id) for message in found] == [(0, "a"), (2, "c"), (4, "d")]
    assert [receipt.message_id for receipt in receipts] == ids
    assert [receipt.duplicate for receipt in receipts] == [False, True, False, True, False, True]
    assert [receipt.offset for receipt in receipts] == [1, 0, 2, 1, 3, 0]
    assert [(receipt.duplicate, receipt.offset) for receipt in again] == [(True, at) for at in (1, 0, 2, 1, 3, 0)]


@case(Capability.DEDUPLICATION, Capability.PARTITIONS)
async def test_an_id_is_stored_once_wherever_its_key_leads(place: Place) -> None:
    """With the same key it finds its partition, and the first of its kind there."""
    client = place.client()
    await once(place, client, partitions=4)
    keys = [f"key{number}" for number in range(12)]
    firsts = [await client.publish(place.topic(), key, partition_key=key, message_id=f"id-{key}") for key in keys]
    again = [await client.publish(place.topic(), "?", partition_key=key, message_id=f"id-{key}") for key in keys]
    assert [(r.partition, r.offset, r.duplicate) for r in again] == [(r.partition, r.offset, True) for r in firsts]
    assert len({receipt.partition for receipt in firsts}) > 1
    assert (await client.describe_topic(place.topic())).messages == place.messages(12)


@case(Capability.DEDUPLICATION)
async def test_publishers_that_race_store_one(place: Place) -> None:
    """Many at once, from several clients: one receipt is no duplicate, and all name the same place."""
    clients = [place.client() for _ in range(3)]
    await once(place, clients[0])
    for turn in range(5):
        publishing = [client.publish(place.topic(), turn, message_id=f"id-{turn}") for client in clients * 4]
        receipts = await asyncio.gather(*publishing)
        assert sum(not receipt.duplicate for receipt in receipts) == 1
        assert {receipt.offset for receipt in receipts} == {turn}
    assert (await clients[0].describe_topic(place.topic())).messages == place.messages(5)


@case(Capability.DEDUPLICATION, Capability.GROUPS)
async def test_a_new_client_knows_the_old_ids(place: Place) -> None:
    """Memory of ids is the topic's, and not the publisher's; also of those that were consumed long since."""
    keeper, client = place.client(), place.client()
    await prepare(place, keeper, delivery="exactly_once")
    await client.publish_batch(place.topic(), range(500), message_ids=[f"id-{number}" for number in range(500)])
    async with manual(place, keeper) as subscription:
        await subscription.ack(await take(subscription, 500))
    await client.close()
    late = place.client()
    for number in (0, 250, 499):
        receipt = await late.publish(place.topic(), "?", message_id=f"id-{number}")
        assert (receipt.duplicate, receipt.offset) == (True, number)
    assert await lag_is(place, keeper, 0)


@case(Capability.PROCESSES, Capability.DEDUPLICATION)
async def test_processes_know_each_others_ids(place: Place) -> None:
    """Also when everybody who saw the first one is dead."""
    async with Worker(place.kind, place.url) as worker:
        client = place.client()
        await once(place, client)
        assert await worker.ask("send", place.topic(), 1, {"message_id": "a"}) == [0, False, False]
        assert (await client.publish(place.topic(), 2, message_id="a")).duplicate
        assert not (await client.publish(place.topic(), 3, message_id="b")).duplicate
        assert await worker.ask("send", place.topic(), 4, {"message_id": "b"}) == [1, True, False]
        await client.close()
        await worker.kill()
    async with Worker(place.kind, place.url) as worker:
        assert await worker.ask("send", place.topic(), 5, {"message_id": "b"}) == [1, True, False]
        assert await worker.ask("send", place.topic(), 6, {"message_id": "c"}) == [2, False, False]


@case(Capability.DEDUPLICATION, clients=["blocking"])
async def test_an_id_is_forgotten_after_its_window(place: Place) -> None:
    """Then it is a message like any other; within it, each later one is measured against the first."""
    client = place.client()
    await once(place, client, dedup_window=WINDOW)
    first = await client.publish(place.topic(), 1, message_id="a")
    assert (await client.publish(place.topic(), 2, message_id="a")).duplicate
    await pass_time(place, client, WINDOW + 0.1)
    later = await client.publish(place.topic(), 3, message_id="a")
    assert (later.duplicate, later.offset) == (False, first.offset + 1)
    assert (await client.publish(place.topic(), 4, message_id="a")).offset == later.offset


@case(Capability.DEDUPLICATION, Capability.AT_MOST_ONCE)
async def test_other_topics_store_every_publish(place: Place) -> None:
    """An id is the publisher's business there; and without one each message of an exactly-once topic is its own."""
    client = place.client()
    for topic, delivery in (("a", "at_least_once"), ("b", "at_most_once"), ("c", "exactly_once")):
        await client.create_topic(place.topic(topic), TopicOptions(delivery=delivery))
    for topic in ("a", "b"):
        receipts = [await client.publish(place.topic(topic), 1, message_id="same") for _ in range(3)]
        assert [(receipt.offset, receipt.duplicate) for receipt in receipts] == [(0, False), (1, False), (2, False)]
    receipts = [await client.publish(place.topic("c"), 1) for _ in range(3)]
    receipts += await client.publish_batch(place.topic("c"), [1, 1])
    assert [(receipt.offset, receipt.duplicate) for receipt in receipts] == [(at, False) for at in range(5)]


@case(Capability.GROUPS, Capability.DEDUPLICATION)
async def test_exactly_once_is_delivered_until_it_is_acked(place: Place) -> None:
    """Storing once takes nothing from the delivery: what failed comes again."""
    client = place.client()
    await prepare(place, client, delivery="exactly_once")
    await client.publish(place.topic(), "x", message_id="a")
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        await message.nack(delay_seconds=0)
        assert (await client.publish(place.topic(), "y", message_id="a")).duplicate
        (message,) = await take(subscription, 1)
        assert (message.data, message.attempt) == ("x", 2)
        await message.ack()
    await expect_end(place, client)


@case()
async def test_ids_of_a_batch_are_as_many_as_its_messages(place: Place) -> None:
    """Each valid on its own; what is wrong is refused by name, and nothing of the batch is stored."""
    client = place.client()
    wrong: list[Any] = [["a"], ["a", "b", "c"], "ab", ["a", 7], ["a", ""], ["a", "x" * 200], ["a", "b\n"], 5]
    async with client.subscribe(place.topic()) as subscription:
        for ids in wrong:
            with pytest.raises(InvalidOption) as caught:
                await client.publish_batch(place.topic(), [1, 2], message_ids=ids, batch_size=1)
            assert caught.value.name in ("message_ids", "message_id"), ids
        await client.publish_batch(place.topic(), [3, 4], message_ids=["a", "b"])
        found = await take(subscription, 2)
    first, second = place.offsets(range(2))
    assert [(message.data, message.id, message.offset) for message in found] == [(3, "a", first), (4, "b", second)]


@case()
@pytest.mark.parametrize("options", [{"delivery": "twice"}, {"dedup_window": 0}, {"dedup_window": "1h"}])
async def test_what_is_no_guarantee_is_refused_by_name(place: Place, options: dict[str, Any]) -> None:
    """And no topic is made."""
    client = place.client()
    with pytest.raises(InvalidOption) as caught:
        await client.create_topic(place.topic(), TopicOptions(**options))
    assert [caught.value.name] == list(options)
    with pytest.raises(UsageError):
        await client.describe_topic(place.topic())
