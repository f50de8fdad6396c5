"""Temporary subscriptions go on where they stopped, and say so when they cannot."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from tidings import AsyncClient, AsyncSubscription, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.engines.nats.reading.pulling import Reading
from tidings.engines.nats.reading.tail import start_policy
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import NatsServer


async def take(subscription: AsyncSubscription, count: int) -> list[object]:
    found: list[object] = []
    while len(found) < count:
        found += [each.data for each in await subscription.fetch(count - len(found), timeout=10)]
    return found


def test_a_start_is_told_to_the_server() -> None:
    assert start_policy("end") == {"deliver_policy": "new"}
    assert start_policy("beginning") == {"deliver_policy": "all"}
    assert start_policy(4) == {"deliver_policy": "by_start_sequence", "opt_start_seq": 5}
    assert start_policy(1.5)["opt_start_time"] == "1970-01-01T00:00:01.500000Z"


async def test_a_consumer_that_is_removed_is_made_again_where_it_was(
    client: AsyncClient, jetstream: JetStreamContext, engine: NatsEngine
) -> None:
    stream = f"{engine._names.bus}+a"
    async with client.subscribe("a") as subscription:
        for turn in range(3):
            await client.publish_batch("a", range(turn * 10, turn * 10 + 10))
            assert await take(subscription, 5) == [*range(turn * 10, turn * 10 + 5)]
            for consumer in await jetstream.consumers_info(stream):
                await jetstream.delete_consumer(stream, consumer.name)
            assert await take(subscription, 5) == [*range(turn * 10 + 5, turn * 10 + 10)]
        assert (subscription.gaps, subscription.statistics().skipped) == ((), 0)


async def test_what_was_on_its_way_when_the_connection_broke_comes_again(url: str, nats_url: str) -> None:
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        async with AsyncClient(url) as direct, AsyncClient(url.replace(port, str(proxy.port), 1)) as client:
            async with client.subscribe("a") as subscription:
                for turn in range(5):
                    await direct.publish_batch("a", [(turn, number) for number in range(300)])
                    begun = asyncio.ensure_future(take(subscription, 300))
                    await asyncio.sleep(0)
                    proxy.cut()
                    assert await begun == [[turn, number] for number in range(300)]
                assert subscription.gaps == ()


class Losses:
    """Loses messages between the server and a subscription, by their data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lost: bytes) -> None:
        self.left = set(lost)
        take_in = Reading._take_in

        async def take_what_is_not_lost(reading: Reading, message: Msg) -> None:
            if message.data in self.left:
                self.left.discard(message.data)
            else:
                await take_in(reading, message)

        monkeypatch.setattr(Reading, "_take_in", take_what_is_not_lost)


async def test_a_hole_in_what_comes_is_read_again(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Losses(monkeypatch, b"3", b"7")
    async with client.subscribe("a") as subscription:
        await client.publish_batch("a", range(10))
        assert await take(subscription, 10) == [*range(10)]


async def test_what_was_lost_with_the_connection_is_read_again(
    url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nothing comes after it that would tell."""
    losses = Losses(monkeypatch, b"1")
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        async with AsyncClient(url) as direct, AsyncClient(url.replace(port, str(proxy.port), 1)) as client:
            async with client.subscribe("a") as subscription:
                waiting = asyncio.ensure_future(take(subscription, 1))
                await direct.publish("a", 1)
                await until(lambda: not losses.left)
                proxy.cut()
                assert await waiting == [1]


async def test_what_retention_took_meanwhile_is_a_gap(nats_url: str, prefix: str) -> None:
    with NatsServer() as server:
        async with AsyncClient(server.url) as client:
            await client.create_topic("a", TopicOptions(retention_messages=10))
            async with client.subscribe("a") as subscription:
                await client.publish_batch("a", range(5))
                assert await take(subscription, 5) == [*range(5)]
                server.kill()
                await asyncio.to_thread(server.restart)
                async with AsyncClient(server.url) as other:
                    await other.publish_batch("a", range(5, 105))
                assert await take(subscription, 10) == [*range(95, 105)]
                assert subscription.statistics().skipped == 90


async def test_a_stream_that_was_lost_is_a_gap() -> None:
    with NatsServer() as server:
        async with AsyncClient(f"{server.url}?storage=memory") as client:
            async with client.subscribe("a") as subscription:
                await client.publish_batch("a", range(5))
                assert await take(subscription, 5) == [*range(5)]
                server.kill()
                await asyncio.to_thread(server.restart)
                await client.publish_batch("a", range(3))
                assert await take(subscription, 3) == [0, 1, 2]
                (gap,) = subscription.gaps
                assert "lost" in gap.reason
                assert gap.since <= gap.until


@pytest.mark.parametrize("topics", ["a/*", "a/1"])
async def test_a_topic_made_again_is_read_from_its_beginning(client: AsyncClient, topics: str) -> None:
    async with client.subscribe(topics) as subscription:
        for turn in range(3):
            await client.publish_batch("a/1", [turn, turn])
            assert await take(subscription, 2) == [turn, turn]
            await client.drop_topic("a/1")


async def test_nothing_is_left_at_the_server(
    client: AsyncClient, jetstream: JetStreamContext, engine: NatsEngine
) -> None:
    async with client.subscribe("a"):
        assert len(await jetstream.consumers_info(f"{engine._names.bus}+a")) == 1
    assert await jetstream.consumers_info(f"{engine._names.bus}+a") == []
