"""Consumers of a group: sharing, giving back, and what is never buried because it was given back."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from tests.brokers.faults.stage import proxy_for
from tests.engines.conftest import Open
from tests.engines.rabbitmq.conftest import Bus
from tests.engines.redis import hands
from tidings import AsyncClient, AsyncSubscription, GroupNotFound, LeaseLost, TopicOptions
from tidings.engines.rabbitmq.channel import Parcel
from tidings.engines.rabbitmq.messages import COUNTED, TOPIC
from tidings.engines.rabbitmq.reading import groups
from tidings.errors import BrokerUnavailable
from tidings.model.topics import parse_topics
from tidings.testing.conformance.stage.place import until


async def take(subscription: AsyncSubscription, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        more = await subscription.fetch(count - len(found), timeout=20)
        assert more, f"{len(found)} of {count} came"
        found += more
    return found


def consumer(client: AsyncClient, **options: Any) -> AsyncSubscription:
    return client.subscribe("jobs", consumer_group="workers", auto_ack=False, **options)


async def test_what_was_given_back_often_is_not_buried(url: str) -> None:
    """The broker counts each return; its count alone would bury the message after the second one."""
    async with AsyncClient(url) as client:
        await client.create_topic("jobs", TopicOptions(max_retries=1, retry_delay=0, retry_max_delay=0))
        await client.create_group("jobs", "workers")
        await client.publish("jobs", "job")
        for _ in range(6):
            async with consumer(client) as subscription:
                (message,) = await take(subscription, 1)
                assert message.attempt <= 2
        async with consumer(client) as subscription:
            (message,) = await take(subscription, 1)
            await message.nack(delay_seconds=0)
            (message,) = await take(subscription, 1)
            assert message.attempt == 2
            await message.nack(delay_seconds=0)
        assert [dead.story.reason for dead in await client.dead_letters("jobs").list()] == ["retries exhausted"]


async def test_what_comes_back_in_order_is_what_a_consumer_left(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.create_group("jobs", "workers")
        await client.publish_batch("jobs", range(200))
        async with consumer(client) as subscription:
            await subscription.ack(await take(subscription, 20))
        async with consumer(client) as subscription:
            assert [message.data for message in await take(subscription, 180)] == list(range(20, 200))


async def test_a_fetch_that_does_not_wait_gets_all_that_there_is(url: str) -> None:
    """Also what comes in place of what was just acked, and what another one has just left."""
    async with AsyncClient(url) as client:
        await client.create_group("jobs", "workers")
        for _ in range(10):
            await client.publish_batch("jobs", range(30))
            async with consumer(client, prefetch=10) as subscription:
                for first in range(0, 30, 10):
                    found = await subscription.fetch(10, timeout=0)
                    assert [message.data for message in found] == list(range(first, first + 10))
                    if first < 20:
                        await subscription.ack(found)
            async with consumer(client) as heir:
                found = await heir.fetch(100, timeout=0)
                assert [message.data for message in found] == list(range(20, 30))
                await heir.ack(found)


async def test_an_ack_whose_answer_was_lost_is_not_refused(url: str) -> None:
    """Who believed that another one gets the message would undo what was done, and nobody did it."""
    with proxy_for(url) as proxy:
        async with AsyncClient(proxy.url(url)) as client, AsyncClient(url) as other:
            await client.create_group("jobs", "workers")
            await client.publish("jobs", "job")
            async with consumer(client) as subscription, consumer(other) as heir:
                (message,) = await take(subscription, 1)
                proxy.drop_reply()
                with pytest.raises(BrokerUnavailable):
                    await message.ack()
                await message.ack()
                assert await heir.fetch(1, timeout=0.5) == []


async def test_an_ack_that_was_never_sent_is_refused(url: str) -> None:
    with proxy_for(url) as proxy:
        async with AsyncClient(proxy.url(url)) as client, AsyncClient(url) as other:
            await client.create_group("jobs", "workers")
            await client.publish("jobs", "job")
            async with consumer(client) as subscription, consumer(other) as heir:
                (message,) = await take(subscription, 1)
                proxy.cut()
                with pytest.raises(LeaseLost, match="to another consumer, for the connection to the broker was lost"):
                    await message.ack()
                (again,) = await take(heir, 1)
                assert again.data == "job"


async def test_a_lease_that_ran_out_is_not_said_to_be_lost_with_the_connection(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.create_group("jobs", "workers")
        await client.publish("jobs", "job")
        async with consumer(client) as subscription:
            (message,) = await take(subscription, 1)
            await message.extend(0.05)
            await take(subscription, 1)
            with pytest.raises(LeaseLost) as lost:
                await message.ack()
            assert "connection" not in str(lost.value)


async def test_messages_do_not_wait_for_a_consumer_that_asks_for_none(url: str) -> None:
    """One fetches one message and goes on working; what came to it ahead goes to the other."""
    async with AsyncClient(url) as one, AsyncClient(url) as other:
        await one.create_group("jobs", "workers")
        await one.publish_batch("jobs", range(10))
        async with consumer(one) as busy, consumer(other) as idle:
            (held,) = await take(busy, 1)
            assert sorted(message.data for message in await take(idle, 9)) == list(range(1, 10))
            await held.ack()


async def test_a_prefetch_leaves_the_rest_to_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "IDLE_SECONDS", 1000.0)
    async with AsyncClient(url) as client:
        await client.create_group("jobs", "workers")
        await client.publish_batch("jobs", range(10))
        async with consumer(client, prefetch=3) as one, consumer(client) as other:
            await take(one, 1)
            assert [message.data for message in await take(other, 7)] == list(range(3, 10))


async def test_a_group_that_is_dropped_is_told_to_its_consumers(url: str) -> None:
    async with AsyncClient(url) as client:
        async with consumer(client) as subscription:
            assert await subscription.fetch(1, timeout=0) == []
            await client.drop_group("workers")
            with pytest.raises(GroupNotFound):
                await subscription.fetch(1, timeout=10)


async def test_a_queue_that_is_made_again_has_its_consumer_again(
    opened: Open, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came ahead from the old one is nobody's any more; what came ahead from the others stays."""
    monkeypatch.setattr(groups, "IDLE_SECONDS", 1000.0)
    engine, other = await opened(), await opened()
    feed: Any = await hands.consumer(engine, "jobs", "bills")
    await hands.publish(engine, "jobs", *range(20))
    await hands.publish(engine, "bills", *range(30, 35))
    held = await hands.take(feed, 5)
    source = feed._source
    await until(lambda: len(source._arrived) == 20)
    await bus.link.once(commands.Queue.Delete(queue=bus.names.group("billing", "jobs")))
    await until(lambda: source._gone)
    await other.create_group(hands.spec("jobs", "bills", group="billing"))
    await other._catalog._make_queues("billing", parse_topics(["jobs"]), False)
    await hands.publish(other, "jobs", "new")
    found = await hands.take(feed, 6)
    assert sorted(message.record.id for message in found) == [*(f"id-{bill}" for bill in range(30, 35)), "id-new"]
    await hands.settle(feed, [*found, *held], "ack")  # also what was held, as long as nobody else could have it
    assert await hands.now(feed) == []
    assert source._outstanding == {}


async def test_what_a_dropped_group_had_is_not_published_to_the_next_one(opened: Open, bus: Bus) -> None:
    """Also not by a consumer that gives back by publishing, as it does what the broker counts the deaths of."""
    engine, other = await opened(), await opened()
    feed: Any = await hands.consumer(engine, "jobs")
    assert await hands.now(feed) == []
    properties = commands.Basic.Properties(message_id="counted", headers={TOPIC: "jobs", COUNTED: 1})
    await bus.publisher.send([Parcel("", bus.names.group("billing", "jobs"), properties, b"1")], "jobs")
    await until(lambda: feed._source._arrived)
    await other.drop_group("billing")
    await until(lambda: feed._source._gone)
    heir = await hands.consumer(other, "jobs")
    await engine.close()
    assert await hands.now(heir) == []


async def test_a_message_that_two_patterns_match_comes_once(url: str) -> None:
    async with AsyncClient(url) as client:
        topics = ["jobs/*", "jobs/new", "**"]
        async with client.subscribe(topics, consumer_group="workers") as subscription:
            for topic in ("jobs/new", "jobs/old", "other"):
                await client.publish(topic, topic)
            found = await take(subscription, 3)
            assert sorted(message.data for message in found) == ["jobs/new", "jobs/old", "other"]
            assert await subscription.fetch(1, timeout=0.1) == []


async def test_a_name_of_any_kind_is_a_queue(url: str) -> None:
    """Letters that AMQP does not know, a name as long as it may be, wildcards."""
    async with AsyncClient(url) as client:
        for topic in ("größe/ø", "x" * 250, "a b/%41~"):
            async with client.subscribe(topic, consumer_group="☃ snow/man") as subscription:
                await client.publish(topic, topic)
                (message,) = await take(subscription, 1)
                assert (message.topic, message.data) == (topic, topic)
