"""Consumers of a group: what one has nobody else gets, until it leaves, dies or stops."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from tests.engines.redis.conftest import Open
from tests.engines.redis.hands import consumer, data, now, publish, settle, take, told
from tidings.engines.redis.engine import RedisEngine
from tidings.model.options import TopicOptions
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy


async def pending(raw: Redis, prefix: str) -> list[tuple[bytes, int]]:
    """Who has what is not settled, and how often it was delivered."""
    found: list[dict[str, Any]] = await raw.xpending_range(f"{prefix}:stream:orders", "billing", "-", "+", 100)
    return [(each["consumer"], each["times_delivered"]) for each in found]


async def test_each_message_goes_to_one(opened: Open) -> None:
    feeds = [await consumer(await opened(), "orders", consumer=name) for name in ("ann", "bob")]
    await publish(await opened(), "orders", *range(10))
    first, second = await take(feeds[0], 4), await take(feeds[1], 6)
    assert sorted(data(first + second)) == list(range(10))
    assert await now(feeds[0]) == []


async def test_what_is_acked_is_of_the_past(engine: RedisEngine, raw: Redis, prefix: str) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", 1, 2)
    messages = await take(feed, 2)
    assert [times for _, times in await pending(raw, prefix)] == [1, 1]
    await settle(feed, messages, "ack")
    assert await pending(raw, prefix) == []


async def test_who_leaves_gives_back_at_once_and_uncounted(opened: Open) -> None:
    one, other = await opened(), await opened()
    first, second = await consumer(one, "orders"), await consumer(other, "orders")
    await publish(one, "orders", *range(5))
    await take(first, 3)
    assert data(await take(second, 2)) == [3, 4]
    fetching = asyncio.create_task(take(second, 3))
    await first.close()
    assert told(await fetching) == [(0, 1), (1, 1), (2, 1)]


async def test_who_dies_is_missed(opened: Open, distant: RedisEngine, proxy: FaultProxy) -> None:
    """At once: its lease of half a minute has just begun."""
    other = await opened()
    dead, living = await consumer(distant, "orders"), await consumer(other, "orders")
    await publish(other, "orders", 1, 2)
    await take(dead, 2)
    proxy.refuse()
    proxy.cut()
    assert told(await take(living, 2)) == [(1, 2), (2, 2)]


async def test_who_stops_loses_what_it_has_when_its_lease_ends(opened: Open) -> None:
    stopped, other = await opened(lease_seconds=0.2), await opened()
    feed, living = await consumer(stopped, "orders"), await consumer(other, "orders")
    await publish(other, "orders", 1)
    await take(feed, 1)
    assert told(await take(living, 1)) == [(1, 2)]


async def test_who_renews_keeps_it(opened: Open) -> None:
    working, other = await opened(lease_seconds=0.3), await opened()
    feed, living = await consumer(working, "orders"), await consumer(other, "orders")
    await publish(other, "orders", 1)
    messages = await take(feed, 1)
    for _ in range(4):
        assert await living.fetch(1, 0.15) == []
        await feed.renew()
    await settle(feed, messages, "ack")
    assert [(group.lag, group.acked) for group in await other.groups()] == [(0, 1)]


async def test_what_nobody_fetched_any_more_goes_to_others(opened: Open) -> None:
    """A fetch that was cancelled while its answer was under way holds nothing back."""
    one, other = await opened(), await opened()
    feed, living = await consumer(one, "orders"), await consumer(other, "orders", consumer="bob")
    await now(feed)
    await publish(other, "orders", *range(10))
    fetching = asyncio.create_task(feed.fetch(10, None))
    await asyncio.wait([fetching], timeout=0)  # it has asked
    fetching.cancel()
    await asyncio.wait([fetching])
    assert sorted(told(await take(living, 10))) == [(number, 1) for number in range(10)]


async def test_at_most_once_is_settled_when_it_is_handed_out(engine: RedisEngine, raw: Redis, topic: str) -> None:
    await engine.create_topic(topic, TopicOptions(delivery="at_most_once"))
    feed = await consumer(engine, topic)
    await publish(engine, topic, 1, 2)
    assert data(await take(feed, 2)) == [1, 2]
    assert [(group.lag, group.held, group.acked) for group in await engine.groups(topic)] == [(0, 0, 2)]


async def test_what_dies_unseen_at_most_once_is_not_delivered_twice(opened: Open, topic: str) -> None:
    one, other = await opened(), await opened()
    await one.create_topic(topic, TopicOptions(delivery="at_most_once"))
    feed, living = await consumer(one, topic), await consumer(other, topic)
    await publish(one, topic, 1, 2, 3)
    assert data(await take(feed, 2)) == [1, 2]
    await feed.close()
    assert data(await take(living, 1)) == [3]
    assert await now(living) == []


async def test_only_its_partitions_come(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(partitions=3))
    feed = await consumer(engine, "orders", partitions=(0, 2))
    await publish(engine, "orders", *range(9))
    assert sorted(data(await take(feed, 6))) == [0, 2, 3, 5, 6, 8]
    assert await now(feed) == []


async def test_leaving_leaves_no_trace_of_a_consumer(engine: RedisEngine, raw: Redis, prefix: str) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", 1)
    await take(feed, 1)
    await feed.close()
    await until(lambda: no_consumers(raw, prefix))
    assert [times for _, times in await pending(raw, prefix)] == [0]


async def no_consumers(raw: Redis, prefix: str) -> bool:
    found = await raw.xinfo_consumers(f"{prefix}:stream:orders", "billing")
    return {each["name"] for each in found} <= {b"~"} and not await raw.exists(f"{prefix}:leases")
