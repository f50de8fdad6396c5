"""Members of groups: leases, giving back, and what is told to the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.js.client import JetStreamContext

from tests.conftest import WaitUntil
from tests.engines.nats.conftest import Open
from tidings import AsyncClient, LeaseLost, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.testing.servers import NatsServer


async def test_a_lease_is_that_of_the_consumer_who_holds(url: str) -> None:
    """The server knows one for the group; a consumer with another one tells it so."""
    async with AsyncClient(url) as usual, AsyncClient(f"{url}&lease_seconds=0.3") as short:
        await usual.create_group("a", "g")
        await usual.publish_batch("a", range(3))
        held = short.subscribe("a", consumer_group="g", auto_ack=False)
        await held.open()
        assert held._ticker is not None
        held._ticker.stop()  # as if the process were stopped
        late = await held.fetch(3, timeout=5)
        async with usual.subscribe("a", consumer_group="g", auto_ack=False) as heir:
            found: list[Any] = []
            while len(found) < 3:
                found += await heir.fetch(3, timeout=5)
            assert [(each.data, each.attempt) for each in found] == [(0, 2), (1, 2), (2, 2)]
            with pytest.raises(LeaseLost) as lost:
                await held.ack(late)
            assert lost.value.offsets == (0, 1, 2)
            await heir.ack(found)
        await held.close()


async def test_what_is_given_back_is_not_an_attempt(url: str) -> None:
    for turn in range(4):
        async with AsyncClient(url) as client, client.subscribe("a", consumer_group="g", auto_ack=False) as member:
            if not turn:
                await client.publish_batch("a", range(40))
            found = await member.fetch(40, timeout=5)
            assert [(each.data, each.attempt) for each in found] == [(number, 1) for number in range(40)]


async def test_what_is_released_by_hand_is_not_an_attempt(client: AsyncClient) -> None:
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish("a", 1)
        for _ in range(3):
            (message,) = await member.fetch(1, timeout=5)
            assert message.attempt == 1
            await member.give_back([message])


async def test_a_failure_between_is_counted_once(client: AsyncClient) -> None:
    await client.create_topic("a", TopicOptions(retry_delay=0, retry_max_delay=0))
    attempts = []
    await client.create_group("a", "g")
    await client.publish("a", 1)
    for turn in range(6):
        async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
            (message,) = await member.fetch(1, timeout=5)
            attempts.append(message.attempt)
            if turn % 2:
                await message.nack()
    assert attempts == [1, 1, 2, 2, 3, 3]


async def test_at_most_once_is_not_delivered_again_whatever_was_recorded(
    client: AsyncClient, engine: NatsEngine, url: str
) -> None:
    """A consumer that dies before the server hears that it had the message has had it."""
    await client.create_topic("a", TopicOptions(delivery="at_most_once"))
    async with AsyncClient(f"{url}&lease_seconds=0.2") as other:
        await other.create_group("a", "g")
        await client.publish_batch("a", range(3))
        dead = other.subscribe("a", consumer_group="g")
        assert len(await dead.fetch(3, timeout=5)) == 3
        feed = dead._feed
        assert feed is not None
        feed._source._once.clear()  # type: ignore[attr-defined]
        async with other.subscribe("a", consumer_group="g") as heir:
            assert await heir.fetch(3, timeout=0.6) == []
        await dead.close()
        (info,) = await client.groups()
        assert info.lag == 0


async def test_acks_are_recorded_when_they_return(
    client: AsyncClient, engine: NatsEngine, jetstream: JetStreamContext
) -> None:
    """All of a batch by one answer: of several streams, and in any order."""
    await client.create_topic("a", TopicOptions(partitions=3))
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("a", range(600))
        found: list[Any] = []
        while len(found) < 600:
            found += await member.fetch(600, timeout=5)
        await member.ack([each for each in found if each.data % 2])
        assert await client.get_consumer_lag("a", "g") == 300
        await member.ack([each for each in reversed(found) if not each.data % 2])
        assert await client.get_consumer_lag("a", "g") == 0


async def test_a_consumer_that_was_removed_takes_what_is_held_with_it(
    client: AsyncClient, engine: NatsEngine, jetstream: JetStreamContext
) -> None:
    stream = f"{engine._names.bus}+a"
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("a", range(3))
        found = await member.fetch(3, timeout=5)
        (consumer,) = await jetstream.consumers_info(stream)
        await jetstream.delete_consumer(stream, consumer.name)
        with pytest.raises(LeaseLost):
            await member.ack(found)


async def test_acks_wait_for_the_server_to_come_back() -> None:
    with NatsServer() as server:
        async with AsyncClient(server.url) as client:
            async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
                await client.publish_batch("a", range(10))
                found = await member.fetch(10, timeout=5)
                server.kill()
                acking = asyncio.ensure_future(member.ack(found))
                await asyncio.to_thread(server.restart)
                await acking
                assert await client.get_consumer_lag("a", "g") == 0


async def test_what_retention_takes_is_counted(client: AsyncClient) -> None:
    await client.create_topic("a", TopicOptions(retention_messages=10))
    async with client.subscribe("a", consumer_group="g") as member:
        await client.publish_batch("a", range(100))
        assert [each.data for each in await member.fetch(100, timeout=5)] == [*range(90, 100)]
        assert member.statistics().skipped == 90


async def test_members_share_without_losing_any(opened: Open, url: str, wait_until: WaitUntil) -> None:
    found: list[int] = []

    async def work(number: int) -> None:
        async with AsyncClient(url) as client, client.subscribe("a/*", consumer_group="g", auto_ack=False) as member:
            while messages := await member.fetch(1 + number * 5, timeout=0.5):
                found.extend(each.data for each in messages)
                await member.ack(messages)

    async with AsyncClient(url) as client:
        await client.create_group("a/*", "g")
        for topic in range(3):
            await client.publish_batch(f"a/{topic}", range(topic * 100, topic * 100 + 100))
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
    assert sorted(found) == [*range(300)]
