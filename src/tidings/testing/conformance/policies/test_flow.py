"""What bounds are promised: a full topic refuses, waits or drops, and a topic takes so many subscribers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tidings import AsyncClient, InvalidOption, TopicOptions
from tidings.errors import TooManySubscribers, TopicFull
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import expect_end, fill, manual, prepare, standing
from tidings.testing.conformance.stage.place import Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker

BOUNDED = (Capability.GROUPS, Capability.MAX_LENGTH)

SHORT = 0.15
"""Seconds that a publish waits for room in vain."""


async def settle_one(place: Place, client: AsyncClient, how: str = "ack") -> None:
    """Ack, or give up, the oldest message of the place's group."""
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        await (message.ack() if how == "ack" else message.nack(requeue=False))


# -- a full topic refuses


@case(*BOUNDED)
async def test_a_full_topic_refuses(place: Place) -> None:
    """With its bound and the group that is behind; nothing is stored, and what was settled makes room for as much."""
    client = place.client()
    await fill(place, client, range(3), max_length=3)
    for how in ("ack", "reject"):
        for _ in range(2):
            with pytest.raises(TopicFull) as caught:
                await client.publish(place.topic(), "too much")
            error = caught.value
            assert (error.topic, error.max_length, error.group) == (place.topic(), 3, place.group())
            assert error.retryable
        assert (await standing(place, client)).lag == 3
        await settle_one(place, client, how)
        assert (await client.publish(place.topic(), how)).offset in place.offsets([3, 4])
    async with manual(place, client) as subscription:
        found = await take(subscription, 3)
        assert data(found) == [2, "ack", "reject"]
        await subscription.ack(found)
    await expect_end(place, client)
    assert (await client.describe_topic(place.topic())).messages == place.messages(5)


@case(*BOUNDED, Capability.EXACT_LENGTH)
async def test_held_and_failed_messages_fill_a_topic(place: Place) -> None:
    """What is not settled counts, wherever it is."""
    client = place.client()
    await fill(place, client, range(3), max_length=3)
    async with manual(place, client) as subscription:
        held = await take(subscription, 3)
        await held[0].nack(delay_seconds=60)
        with pytest.raises(TopicFull):
            await client.publish(place.topic(), 3)
        await held[1].ack()
        await client.publish(place.topic(), 3)
        with pytest.raises(TopicFull):
            await client.publish(place.topic(), 4)


@case(*BOUNDED)
async def test_the_slowest_group_fills_a_topic(place: Place) -> None:
    """Another that is up to date does not help; when the slow one is dropped there is room."""
    client = place.client()
    await prepare(place, client, max_length=2)
    await client.create_group(place.topic(), place.group("slow"))
    await client.publish_batch(place.topic(), range(2))
    async with manual(place, client) as quick:
        await quick.ack(await take(quick, 2))
        with pytest.raises(TopicFull) as caught:
            await client.publish(place.topic(), 2)
        assert caught.value.group == place.group("slow")
        await client.drop_group(place.group("slow"))
        await client.publish(place.topic(), 2)
        assert data(await take(quick, 1)) == [2]


@case(Capability.MAX_LENGTH)
async def test_without_groups_a_topic_is_never_full(place: Place) -> None:
    """A temporary subscription slows nobody down."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(max_length=2))
    async with client.subscribe(place.topic()) as subscription:
        for number in range(10):
            await client.publish(place.topic(), number)
        assert data(await take(subscription, 10)) == list(range(10))


@case(*BOUNDED)
async def test_a_batch_is_stored_whole_or_not(place: Place) -> None:
    """One append at a time: what does not fit is refused whole, and the error says how many were stored before."""
    client = place.client()
    await prepare(place, client, max_length=5)
    with pytest.raises(TopicFull):
        await client.publish_batch(place.topic(), range(6))
    assert (await standing(place, client)).lag == 0
    with pytest.raises(TopicFull) as caught:
        await client.publish_batch(place.topic(), range(8), batch_size=2)
    assert any("4 of 8" in note for note in caught.value.__notes__)
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 4)) == [0, 1, 2, 3]
        assert (await standing(place, client)).lag == 4


# -- a full topic waits


@case(*BOUNDED)
async def test_a_full_topic_may_let_publishers_wait(place: Place) -> None:
    """Until there is room, which ends the wait at once; messages come in the order in which they were stored."""
    client, consumer = place.client(), place.client()
    await fill(place, client, range(2), max_length=2, overflow="block", overflow_timeout=30)
    waiting = asyncio.ensure_future(client.publish(place.topic(), 2))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    async with manual(place, consumer) as subscription:
        (message,) = await take(subscription, 1)
        assert not waiting.done() or Capability.EXACT_LENGTH not in place.subject.capabilities
        await message.ack()
        acked = time.monotonic()
        receipt = await asyncio.wait_for(waiting, 10)
        assert time.monotonic() - acked < 5
        assert [receipt.offset] == place.offsets([2])
        assert data(await take(subscription, 2)) == [1, 2]


@case(*BOUNDED)
async def test_a_publisher_waits_no_longer_than_told(place: Place) -> None:
    """Then it is refused, with nothing stored; with no time at all, at once."""
    client = place.client()
    await fill(place, client, ["x"], max_length=1, overflow="block", overflow_timeout=SHORT)
    begun = time.monotonic()
    with pytest.raises(TopicFull):
        await client.publish(place.topic(), "y")
    assert SHORT <= time.monotonic() - begun < 5
    await settle_one(place, client)
    await client.publish(place.topic(), "z")
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 1)) == ["z"]
        assert (await standing(place, client)).lag == 1


@case(*BOUNDED)
async def test_many_who_wait_all_get_through(place: Place) -> None:
    """Publishers that are faster than the consumer: nothing is lost, nothing refused, and the bound holds roughly."""
    client, consumer = place.client(), place.client()
    await prepare(place, client, max_length=4, overflow="block", overflow_timeout=30)

    async def publish(who: int) -> None:
        for number in range(6):
            await client.publish(place.topic(), [who, number])

    publishing = [asyncio.ensure_future(publish(who)) for who in range(4)]
    found: list[Any] = []
    async with manual(place, consumer) as subscription:
        while len(found) < 24:
            more = await take(subscription, 1)
            assert (await standing(place, consumer)).lag <= 4 + 4
            await subscription.ack(more)
            found += data(more)
    await asyncio.gather(*publishing)
    for who in range(4):
        assert [number for publisher, number in found if publisher == who] == list(range(6))


@case(Capability.PROCESSES, *BOUNDED, Capability.EXACT_LENGTH)
async def test_room_made_by_another_process_is_seen(place: Place) -> None:
    """A publisher that waits here goes on when a consumer there acks, or dies with what it had rejected."""
    client = place.client()
    await fill(place, client, range(2), max_length=2, overflow="block", overflow_timeout=30)
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert await worker.ask("take", 2, 10.0) == [[0, 1], [1, 1]]
        waiting = asyncio.ensure_future(client.publish(place.topic(), 2))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        assert await worker.ask("ack", 1) == 1
        await asyncio.wait_for(waiting, 10)


# -- a full topic drops


@case(*BOUNDED)
async def test_a_full_topic_may_drop_the_oldest(place: Place) -> None:
    """Those that nobody has fetched, for the group that is behind; they are counted as skipped, and the newest stay."""
    client = place.client()
    await prepare(place, client, max_length=4, overflow="drop_oldest")
    for number in range(10):
        await client.publish(place.topic(), number)
        assert (await standing(place, client)).lag <= 4
    found = await standing(place, client)
    assert (found.lag, found.skipped, found.acked) == (4, 6, 0)
    async with manual(place, client) as subscription:
        messages = await take(subscription, 4)
        assert data(messages) == [6, 7, 8, 9]
        await subscription.ack(messages)
    found = await standing(place, client)
    assert (found.lag, found.skipped, found.acked) == (0, 6, 4)


@case(*BOUNDED, Capability.EXACT_LENGTH)
async def test_what_is_held_is_not_dropped(place: Place) -> None:
    """It can be acked as ever; a group that is up to date loses nothing."""
    client = place.client()
    await prepare(place, client, max_length=3, overflow="drop_oldest")
    await client.create_group(place.topic(), place.group("quick"))
    async with (
        manual(place, client) as slow,
        client.subscribe(place.topic(), consumer_group=place.group("quick"), auto_ack=False) as quick,
    ):
        seen: list[int] = []
        held: list[Any] = []
        for number in range(8):
            await client.publish(place.topic(), number)
            held = held or await take(slow, 1)
            (message,) = await take(quick, 1)
            seen.append(message.data)
            await message.ack()
        assert seen == list(range(8))
        assert data(held) == [0]
        await held[0].ack()
        rest = await take(slow, 2)
        assert data(rest) == [6, 7]
        await slow.ack(rest)
    found = await standing(place, client)
    assert (found.acked, found.skipped, found.lag) == (3, 5, 0)


@case(*BOUNDED)
async def test_a_batch_may_drop_the_oldest_too(place: Place) -> None:
    """One beyond the bound leaves its own end."""
    client = place.client()
    await fill(place, client, range(3), max_length=5, overflow="drop_oldest")
    await client.publish_batch(place.topic(), range(3, 7))
    found = await standing(place, client)
    assert (found.lag, found.skipped) == (5, 2)
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 5)) == [2, 3, 4, 5, 6]


# -- subscribers


@case(Capability.MAX_SUBSCRIBERS, Capability.GROUPS)
async def test_a_topic_takes_so_many_subscribers(place: Place) -> None:
    """In and outside of groups; who leaves makes room, and the one too many changed nothing."""
    clients = [place.client(), place.client()]
    await clients[0].create_topic(place.topic(), TopicOptions(max_subscribers=2))
    async with clients[0].subscribe(place.topic()) as one:
        async with clients[1].subscribe(place.topic(), consumer_group=place.group()):
            for group in (None, place.group(), place.group("new")):
                with pytest.raises(TooManySubscribers) as caught:
                    await clients[1].subscribe(place.topic(), consumer_group=group).open()
                assert (caught.value.topic, caught.value.limit) == (place.topic(), 2)
            await clients[0].publish(place.topic(), "x")
            assert data(await take(one, 1)) == ["x"]
        async with clients[1].subscribe(place.topic()) as other:
            await clients[0].publish(place.topic(), "y")
            assert data(await take(other, 1)) == ["y"]
    async with clients[0].subscribe(place.topic("other")) as elsewhere:
        assert await elsewhere.fetch(1, timeout=0) == []


@case(Capability.PATTERNS, Capability.MAX_SUBSCRIBERS)
async def test_a_pattern_counts_on_each_of_its_topics(place: Place) -> None:
    """A subscription to a pattern is a subscriber of every topic that it matches."""
    client = place.client()
    await client.create_topic(place.topic("a/1"), TopicOptions(max_subscribers=1))
    async with client.subscribe(place.topic("a/*")):
        with pytest.raises(TooManySubscribers):
            await client.subscribe(place.topic("a/1")).open()
    async with client.subscribe(place.topic("a/1")):
        with pytest.raises(TooManySubscribers):
            await client.subscribe(place.topic("a/*")).open()


@case(Capability.PROCESSES, Capability.MAX_SUBSCRIBERS)
async def test_subscribers_of_all_processes_count(place: Place) -> None:
    """One that was killed does not."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(max_subscribers=1))
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic())
        with pytest.raises(TooManySubscribers):
            await client.subscribe(place.topic()).open()
        await worker.kill()

        async def opens() -> bool:
            try:
                await client.subscribe(place.topic()).open()
            except TooManySubscribers:
                return False
            return True

        await until(opens)
    async with Worker(place.kind, place.url) as worker:
        assert await worker.ask("subscribe", place.topic()) == {"error": "TooManySubscribers"}


@case()
async def test_what_is_no_bound_is_refused_by_name(place: Place) -> None:
    """And no topic is made."""
    client = place.client()
    wrong: list[tuple[str, Any]] = [
        *(("max_length", value) for value in (0, -1, "5", True, 2.5, 10**10)),
        *(("max_subscribers", value) for value in (0, -1, "5", True, 2.5, 10**6)),
        *(("overflow", value) for value in ("drop", "", None, 7)),
        *(("overflow_timeout", value) for value in (-1, "5", True, None)),
    ]
    for name, value in wrong:
        with pytest.raises(InvalidOption) as caught:
            await client.create_topic(place.topic(), TopicOptions(**{name: value}))
        assert caught.value.name == name, (name, value)
    assert not await place.is_known(client, place.topic())
