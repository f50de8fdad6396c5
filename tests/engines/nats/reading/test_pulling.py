"""Pulling: what is there, what comes, how long to wait, many lanes, and a server that goes away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.engines.conftest import Open
from tidings import AsyncClient, AsyncSubscription, Closed, TopicOptions
from tidings.engines.nats.reading import pulling
from tidings.engines.nats.reading.pulling import Place, read_place
from tidings.testing.conformance.stage.place import take, until
from tidings.testing.servers import NatsServer


def test_the_address_for_acks_says_where_a_message_is() -> None:
    short = read_place("$JS.ACK.s.c.2.7.9.1795260751537760117.4")
    long = read_place("$JS.ACK._.account.s.c.2.7.9.1795260751537760117.4.random")
    assert short == long == Place("s", "c", 2, 7, 9, 1795260751.537760)
    assert read_place("_INBOX.x.1") is None


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_fetch_returns_what_is_there_up_to_its_limit(client: AsyncClient, group: str | None) -> None:
    async with client.subscribe("a", consumer_group=group) as subscription:
        await client.publish_batch("a", range(100))
        assert len(await take(subscription, 30)) == 30
        assert len(await take(subscription, 70)) == 70
        begun = time.monotonic()
        assert await subscription.fetch(1, timeout=0.1) == []
        assert 0.09 <= time.monotonic() - begun < 1


async def test_a_fetch_that_does_not_wait_sees_all_that_was_published(client: AsyncClient) -> None:
    """Also when a request of the fetch before still waits at the server."""
    async with client.subscribe(["a", "b", "c"]) as subscription:
        assert await subscription.fetch(1, timeout=0) == []
        await client.publish("c", -1)
        assert [each.data for each in await subscription.fetch(5, timeout=0)] == [-1]
        for number in range(20):
            waiting = asyncio.ensure_future(subscription.fetch(1))
            await asyncio.sleep(0)
            await client.publish("a", number)
            assert [each.data for each in await waiting] == [number]
            await client.publish("b", number)
            assert [each.data for each in await subscription.fetch(5, timeout=0)] == [number]


async def test_one_feed_reads_many_streams(client: AsyncClient) -> None:
    for number in range(20):
        await client.create_topic(f"t/{number}", TopicOptions(partitions=2))
    async with client.subscribe("t/*", consumer_group="g") as subscription:
        for number in range(20):
            await client.publish_batch(f"t/{number}", range(10))
        found = 0
        while found < 200:
            found += len(await subscription.fetch(50, timeout=5))
        assert await subscription.fetch(1, timeout=0) == []


async def test_what_nobody_fetches_is_not_taken_from_others(opened: Open, client: AsyncClient) -> None:
    """A request that waited for a fetch which was cancelled may bring a message: it goes back, uncounted."""
    async with (
        client.subscribe("a", consumer_group="g", auto_ack=False) as idle,
        client.subscribe("a", consumer_group="g", auto_ack=False) as busy,
    ):
        waiting = asyncio.ensure_future(idle.fetch(1))
        for _ in range(50):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await client.publish_batch("a", range(3))
        found: list[Any] = []
        while len(found) < 3:
            found += await busy.fetch(3, timeout=5)
        assert sorted((each.data, each.attempt) for each in found) == [(0, 1), (1, 1), (2, 1)]


async def test_what_came_beside_is_not_kept_from_others(client: AsyncClient) -> None:
    """A consumer that reads several streams waits at all of them; what comes while it works goes to others soon."""
    topics = ["a", "b"]
    async with client.subscribe(topics, consumer_group="g", auto_ack=False) as slow:
        waiting = asyncio.ensure_future(slow.fetch(1))
        await until_asked(slow, 2)
        await client.publish("a", 1)
        assert [each.data for each in await waiting] == [1]
        await client.publish("b", 2)
        async with client.subscribe(topics, consumer_group="g", auto_ack=False) as quick:
            assert [(each.data, each.attempt) for each in await quick.fetch(1, timeout=5)] == [(2, 1)]


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_topic_that_is_dropped_is_no_error_of_the_fetch(
    client: AsyncClient, url: str, group: str | None
) -> None:
    """Also when that its stream is gone is seen before it is heard why."""
    async with AsyncClient(url) as other, client.subscribe(["a", "b"], consumer_group=group) as subscription:
        await client.publish("b", 1)
        source: Any = subscription._feed._source  # type: ignore[union-attr]
        known, old = source._wanted, source._wanted()
        source._wanted = lambda: old
        await other.drop_topic("a")
        assert [each.data for each in await subscription.fetch(1, timeout=5)] == [1]
        source._lanes[next(name for name in source._lanes if name.endswith("+a"))].lose()
        assert await subscription.fetch(1, timeout=0.3) == []
        source._wanted = known
        await client.publish("b", 2)
        assert [each.data for each in await subscription.fetch(1, timeout=5)] == [2]


@pytest.mark.parametrize("group", [None, "g"])
async def test_a_topic_that_appears_is_read_at_once(
    client: AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch, group: str | None
) -> None:
    """Who waits hears of it, and does not look by itself only."""
    monkeypatch.setattr(pulling, "HEARTBEAT_SECONDS", 60.0)
    async with AsyncClient(url) as publisher, client.subscribe("a/*", consumer_group=group) as subscription:
        for number in range(2):
            fetching = asyncio.ensure_future(subscription.fetch(1))
            await until_asked(subscription, number)
            await publisher.publish(f"a/{number}", number)
            assert [each.data for each in await asyncio.wait_for(fetching, 15)] == [number]


async def until_asked(subscription: AsyncSubscription, count: int) -> None:
    """Return when so many streams are waited for."""
    source = subscription._feed._source  # type: ignore[union-attr]
    await until(lambda: sum(lane.scouting for lane in source._lanes.values()) == count)


async def test_a_fetch_outlives_the_server(tmp_path: object) -> None:
    """It waits as long as it was told to; nothing is lost and nothing comes twice."""
    with NatsServer() as server:
        async with AsyncClient(server.url) as client:
            async with client.subscribe("a") as subscription:
                await client.publish("a", 1)
                assert [each.data for each in await subscription.fetch(5, timeout=5)] == [1]
                waiting = asyncio.ensure_future(subscription.fetch(5))
                server.kill()
                await asyncio.to_thread(server.restart)
                await client.publish("a", 2)
                assert [each.data for each in await waiting] == [2]
                assert subscription.gaps == ()
                server.kill()
                assert await subscription.fetch(1, timeout=0.1) == []
                assert await subscription.fetch(1, timeout=0) == []


async def test_closing_ends_a_fetch_that_waits(opened: Open, client: AsyncClient) -> None:
    subscription = client.subscribe("a", consumer_group="g")
    await subscription.open()
    waiting = asyncio.ensure_future(subscription.fetch(1))
    for _ in range(20):
        await asyncio.sleep(0)
    await subscription.close()
    with pytest.raises(Closed):
        await waiting
