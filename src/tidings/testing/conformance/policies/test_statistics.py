"""What numbers are promised: every message of a group is accounted for, rates are those of late, and health is told."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from tidings import AsyncClient, InvalidOption, InvalidTopic, TopicNotFound
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import AT_ONCE, fill, manual, pass_time, prepare, standing
from tidings.testing.conformance.stage.place import Place, take
from tidings.testing.conformance.stage.worker import Worker


async def account(place: Place, client: AsyncClient, published: int) -> None:
    """Fail unless each message of the group is in exactly one place."""
    found = await standing(place, client)
    parts = (found.lag, found.acked, found.dead, found.expired, found.skipped)
    assert sum(parts) == published, parts


@case(Capability.STATISTICS, Capability.GROUPS)
async def test_a_new_topic_has_nothing(place: Place) -> None:
    """All counts and rates are zero, and there is nobody."""
    client = place.client()
    await client.create_topic(place.topic())
    found = await client.statistics(place.topic())
    assert (found.topic, found.window, found.groups, found.subscribers) == (place.topic(), 60.0, (), ())
    counts = (found.published, found.consumed, found.pending, found.scheduled, found.expired, found.dead)
    assert (*counts, found.skipped, found.redelivered) == (0,) * 8
    assert (found.lag_seconds, found.publish_rate, found.consume_rate, found.error_rate) == (0.0,) * 4
    assert await client.get_throughput(place.topic()) == 0
    assert await client.get_error_rate(place.topic()) == 0


@case(Capability.STATISTICS, Capability.GROUPS, Capability.DEAD_LETTERS, Capability.DELAY)
async def test_counts_are_what_happened(place: Place) -> None:
    """Published, acked, failed, delivered again, given up, and still to be done; the topic sums its groups up."""
    client = place.client()
    await fill(place, client, range(10), **AT_ONCE)
    await client.create_group(place.topic(), place.group("idle"), from_beginning=True)
    await client.publish(place.topic(), "late", delay_seconds=60)
    async with manual(place, client) as subscription:
        found = await take(subscription, 6)
        await subscription.ack(found[:3])
        await found[3].nack(requeue=False)
        await found[4].nack(delay_seconds=0)
        (again,) = await take(subscription, 1)
        assert again.attempt == 2
        mine = await standing(place, client)
        assert (mine.acked, mine.dead, mine.failed, mine.redelivered, mine.expired, mine.skipped) == (3, 1, 2, 1, 0, 0)
        assert (mine.lag, mine.held, mine.retrying) == (6, 2, 0)
        await account(place, client, 10)
        total = await client.statistics(place.topic())
        assert (total.published, total.consumed, total.pending, total.scheduled) == (10, 3, 10, 1)
        assert (total.dead, total.redelivered, total.expired, total.skipped) == (1, 1, 0, 0)
        assert sorted(each.group for each in total.groups) == sorted([place.group(), place.group("idle")])
        assert mine in total.groups or mine.acked == sum(each.acked for each in total.groups)
        assert await client.get_consumer_lag(place.topic(), place.group()) == 6


@case(Capability.STATISTICS, Capability.GROUPS, Capability.DEAD_LETTERS, Capability.EXPIRY, Capability.MAX_LENGTH)
async def test_every_message_is_accounted_for(place: Place) -> None:
    """Whatever happens to them, at every moment: acked, failed, given up, expired, dropped, or still to be done."""
    client = place.client()
    await prepare(place, client, max_retries=1, max_length=12, overflow="drop_oldest", **AT_ONCE)
    dice, published = random.Random(3), 0
    async with manual(place, client) as subscription:
        for _ in range(25):
            for _ in range(dice.randint(0, 5)):
                await client.publish(place.topic(), published, ttl_seconds=dice.choice([None, None, 0.001]))
                published += 1
            await account(place, client, published)
            for message in await subscription.fetch(4, timeout=0):
                act = dice.choice(["ack", "ack", "nack", "reject", "hold"])
                if act == "ack":
                    await message.ack()
                elif act != "hold":
                    await message.nack(requeue=act == "nack")
            await account(place, client, published)
    await account(place, client, published)
    async with manual(place, client) as subscription:
        while (await standing(place, client)).lag:
            await subscription.ack(await subscription.fetch(50, timeout=0.05))
    await account(place, client, published)
    found = await standing(place, client)
    assert 0 not in (found.acked, found.dead, found.expired, found.skipped)
    assert await client.dead_letters(place.topic()).count() == found.dead


@case(Capability.GROUPS, Capability.LAG)
async def test_the_age_of_the_oldest_is_told(place: Place) -> None:
    """Of a group, of what it has not settled; nothing when it is up to date."""
    client = place.client()
    await prepare(place, client)
    assert (await standing(place, client)).lag_seconds == 0
    begun = time.time()
    await client.publish(place.topic(), "old")
    await pass_time(place, client, 0.1)
    await client.publish(place.topic(), "new")
    async with manual(place, client) as subscription:
        old, new = await take(subscription, 2)
        found = await standing(place, client)
        assert 0.1 <= found.lag_seconds <= time.time() - begun
        await old.ack()
        assert (await standing(place, client)).lag_seconds < found.lag_seconds
        await new.ack()
        assert (await standing(place, client)).lag_seconds == 0


@case(Capability.STATISTICS, Capability.GROUPS)
async def test_subscribers_are_listed(place: Place) -> None:
    """Those that are there, with what they are called, whose they are, their process, and since when."""
    client = place.client()
    await client.create_topic(place.topic())
    before = time.time()
    options: dict[str, Any] = {"consumer_group": place.group(), "consumer_id": "w1"}
    async with client.subscribe(place.topic(), consumer_id="viewer"), client.subscribe(place.topic(), **options):
        found = (await client.statistics(place.topic())).subscribers
        assert [(each.consumer, each.group, each.pid) for each in found] == [
            ("viewer", None, os.getpid()),
            ("w1", place.group(), os.getpid()),
        ]
        assert all(before - 1 <= each.since <= time.time() + 1 for each in found)
    assert (await client.statistics(place.topic())).subscribers == ()


@case(Capability.PROCESSES, Capability.STATISTICS, Capability.GROUPS)
async def test_numbers_are_those_of_all_processes(place: Place) -> None:
    """What another one publishes, holds and acks is seen here."""
    client = place.client()
    await prepare(place, client)
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("publish", place.topic(), 0, 5)
        await worker.ask("subscribe", place.topic(), place.group())
        assert len(await worker.ask("take", 4, 10.0)) == 4
        await worker.ask("ack", 3)
        total = await client.statistics(place.topic())
        assert (total.published, total.consumed, total.pending) == (5, 3, 2)
        assert [(each.group, each.pid) for each in total.subscribers] == [(place.group(), worker.process.pid)]
        found = await standing(place, client)
        assert [(each.pid, each.held) for each in found.consumers] == [(worker.process.pid, 1)]
        await worker.kill()
    async with manual(place, client) as subscription:
        await take(subscription, 2)
        found = await standing(place, client)
        assert [each.pid for each in found.consumers] == [os.getpid()]


@case(Capability.STATISTICS, Capability.GROUPS)
async def test_rates_are_those_of_late(place: Place) -> None:
    """Messages per second over the window; what was published before it does not count."""
    client = place.client()
    await fill(place, client, range(50))
    for window in (10.0, 100.0):
        assert await client.get_throughput(place.topic(), window) == pytest.approx(50 / window)
        assert (await client.statistics(place.topic(), window=window)).window == window
    await pass_time(place, client, 0.1)
    await client.publish(place.topic(), "late")
    found = await client.statistics(place.topic(), window=0.09)
    assert found.published == 51
    assert found.publish_rate <= 2 / 0.09


@case(Capability.STATISTICS, Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_the_error_rate_is_a_share(place: Place) -> None:
    """Of failed deliveries among those acked or failed; 0 while nothing failed, 1 when everything did."""
    client = place.client()
    await fill(place, client, range(10))
    async with manual(place, client) as subscription:
        found = await take(subscription, 8)
        await subscription.ack(found[:2])
        assert await client.get_error_rate(place.topic()) == 0
        for message in found[2:5]:
            await message.nack(delay_seconds=60)
        for message in found[5:]:
            await message.nack(requeue=False)
        rate = await client.get_error_rate(place.topic())
        assert rate == pytest.approx(6 / 8)
        assert (await client.statistics(place.topic())).error_rate == pytest.approx(6 / 8)
        assert (await client.statistics(place.topic())).consume_rate > 0


@case(Capability.STATISTICS)
async def test_health_is_told(place: Place) -> None:
    """An engine that can store and deliver has no problems."""
    client = place.client()
    await client.publish(place.topic(), 1)
    found = await client.health()
    assert (found.ok, found.engine, found.problems) == (True, place.subject.name, ())


@case(Capability.STATISTICS)
async def test_what_cannot_be_told_is_refused_by_name(place: Place) -> None:
    """A window that is no period, a name that is none, a topic that is not there; asking makes no topic."""
    client = place.client()
    await client.create_topic(place.topic())
    window: Any
    for ask in (client.statistics, client.get_error_rate, client.get_throughput):
        for window in (0, -1, "60", True, None, float("nan")):
            with pytest.raises(InvalidOption) as caught:
                await ask(place.topic(), window)
            assert caught.value.name == "window"
        with pytest.raises(TopicNotFound):
            await ask(place.topic("nowhere"))
        with pytest.raises(InvalidTopic):
            await ask("a//b")
    assert [info.name for info in await client.topics() if info.name.startswith(place.topic())] == [place.topic()]
