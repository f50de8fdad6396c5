"""The engine for Redis as clients see it: what the server that it finds can do, what is refused, and the end."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import PLAIN, consumer, data, publish, records, settle, spec, tail, take, told
from tidings.engines.redis.engine import CAPABILITIES, RedisEngine, open_async, open_blocking
from tidings.errors import (
    Closed,
    GroupExists,
    GroupNotFound,
    InvalidOption,
    StorageFull,
    TooManySubscribers,
    UnsupportedFeature,
)
from tidings.model.capability import Capability
from tidings.model.message import Receipt
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.model.predicate import record
from tidings.model.url import parse_url
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RedisServer

ALONE = CAPABILITIES - {Capability.QUORUM_DURABILITY}
"""What a server can do that is proven to keep everything, and has no replicas."""


async def test_it_can_do_what_the_server_is_proven_for(engine: RedisEngine, opened: Open) -> None:
    assert engine.capabilities == ALONE
    with RedisServer() as server:
        forgetful = await opened(f"{server.url}?prefix=x")
        assert ALONE - forgetful.capabilities == {Capability.OS_DURABILITY, Capability.DISK_DURABILITY}
        await forgetful.close()


async def test_what_it_cannot_do_is_refused_by_name(engine: RedisEngine) -> None:
    with pytest.raises(UnsupportedFeature, match="redis"):
        await consumer(engine, "orders", ordering=True)
    with pytest.raises(UnsupportedFeature, match="quorum"):
        await engine.publish("orders", records(1), PublishOptions(Durability.QUORUM))


async def test_nothing_is_published_by_an_empty_batch(engine: RedisEngine) -> None:
    assert await engine.publish("orders", [], PLAIN) == []
    assert await engine.topics() == []


async def test_a_scheduled_message_is_taken_back_once(engine: RedisEngine) -> None:
    later = PublishOptions(Durability.MEMORY, 5, time.time() + 60)
    (receipt,) = await engine.publish("orders", records(1), later)
    assert [await engine.cancel(receipt) for _ in range(2)] == [True, False]
    assert not await engine.cancel(Receipt("id-1", "orders", 0, 0, Durability.MEMORY))
    assert [each.scheduled for each in await engine.statistics(["orders"], 60)] == [0]


async def test_buses_of_other_prefixes_are_left_alone(engine: RedisEngine, opened: Open, url: str) -> None:
    other = await opened(url + "x")
    await publish(engine, "orders", 1)
    await publish(other, "orders", 2, 3)
    assert [(info.name, info.messages) for info in await engine.topics()] == [("orders", 1)]
    await other.drop_topic("orders")
    assert (await engine.topics(["orders"]))[0].messages == 1


async def test_a_partition_that_is_not_there_is_refused(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(partitions=2))
    with pytest.raises(InvalidOption, match="0 to 1"):
        await tail(engine, "orders", partitions=(2,))
    feed = await tail(engine, "orders", partitions=(1,))
    await publish(engine, "orders", *range(4))
    assert data(await take(feed, 2)) == [1, 3]


async def test_no_more_subscribe_than_may_and_who_leaves_makes_room(opened: Open) -> None:
    one, other = await opened(), await opened()
    await one.create_topic("orders", TopicOptions(max_subscribers=1))
    first = await tail(one, "orders")
    with pytest.raises(TooManySubscribers, match="orders"):
        await consumer(other, "orders")
    await first.close()
    await consumer(other, "orders")


@pytest.mark.parametrize(
    ("start", "found"), [("beginning", [0, 1, 2, 3]), ("end", [3]), (1, [1, 2, 3]), (99, [3]), (0.0, [0, 1, 2, 3])]
)
async def test_reading_starts_where_it_is_told_to(
    engine: RedisEngine, start: str | int | float, found: list[int]
) -> None:
    await publish(engine, "orders", 0, 1, 2)
    feeds = await tail(engine, "orders", start=start), await consumer(engine, "orders", start=start)
    await publish(engine, "orders", 3)
    for feed in feeds:
        assert data(await take(feed, len(found))) == found


async def test_a_group_is_moved(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", 1, 2, 3)
    await settle(feed, await take(feed, 3), "ack")
    await engine.seek_group("orders", "billing", 1)
    assert data(await take(feed, 2)) == [2, 3]
    with pytest.raises(GroupNotFound):
        await engine.seek_group("bills", "billing", "end")


async def test_a_group_is_made_without_a_consumer_and_dropped_everywhere(
    engine: RedisEngine, raw: Redis, prefix: str
) -> None:
    await engine.create_group(spec("orders", "bills", group="billing"))
    await publish(engine, "orders", 1)
    await publish(engine, "bills", 1)
    assert [(info.topic, info.lag, info.consumers) for info in await engine.groups()] == [
        ("bills", 1, ()),
        ("orders", 1, ()),
    ]
    assert await engine.has_group("billing")
    await engine.drop_group("billing")
    assert not await engine.has_group("billing")
    assert await engine.groups() == []
    assert await raw.xinfo_groups(f"{prefix}:stream:orders") == []
    with pytest.raises(GroupNotFound):
        await engine.drop_group("billing")


async def test_who_joins_knows_the_group_as_it_is_now(opened: Open) -> None:
    """Others have dropped it, and made one with another filter."""
    one, other = await opened(), await opened()
    filters = record(lambda m: m.key == "a"), record(lambda m: m.key == "b")
    for wanted in filters:
        await one.create_group(spec("orders", group="billing", filter=wanted))
        await (await consumer(other, "orders", filter=wanted)).close()
        await one.drop_group("billing")
    await one.create_group(spec("orders", group="billing", filter=filters[0]))
    with pytest.raises(GroupExists):
        await consumer(other, "orders", filter=filters[1])


async def test_what_failed_is_judged_by_the_options_of_now(opened: Open) -> None:
    one, other = await opened(), await opened()
    await one.create_topic("orders", TopicOptions(max_retries=0))
    feed = await consumer(one, "orders")
    await publish(one, "orders", 1)
    messages = await take(feed, 1)
    await other.alter_topic("orders", TopicOptions(max_retries=1))
    await settle(feed, messages, "nack")
    again = await take(feed, 1)
    assert told(again) == [(1, 2)]
    await other.alter_topic("orders", TopicOptions(max_retries=5))
    await settle(feed, again, "reject")
    letters = await tail(one, "dead-letters/orders", start="beginning")
    assert told(await take(letters, 1)) == [(1, 1)]


async def test_problems_are_those_of_the_way_to_the_server(distant: RedisEngine, proxy: FaultProxy) -> None:
    assert await distant.problems() == []
    proxy.refuse()
    proxy.cut()
    while not (problems := await distant.problems()):  # it may not have noticed yet
        pass
    assert "127.0.0.1" in problems[0]


async def _fill(engine: RedisEngine) -> None:
    while True:
        await publish(engine, "orders", "x" * 20_000)


async def test_a_memory_that_is_full_is_a_problem(opened: Open) -> None:
    with RedisServer(maxmemory="4mb") as server:
        engine = await opened(f"{server.url}?prefix=x")
        assert await engine.problems() == []
        with pytest.raises(StorageFull):
            await _fill(engine)
        (problem,) = await engine.problems()
        assert "maxmemory" in problem
        await engine.close()


async def test_what_refuses_every_publish_is_a_problem(opened: Open) -> None:
    with RedisServer() as server:
        engine = await opened(f"{server.url}?prefix=x")
        async with Redis.from_url(server.url) as raw:
            assert await engine.problems() == []
            assert await raw.keys() == [], "asking leaves nothing behind"
            await raw.config_set("min-replicas-to-write", 1)
        (problem,) = await engine.problems()
        assert "NOREPLICAS" in problem
        await engine.close()


async def test_the_end_gives_back(opened: Open) -> None:
    one, other = await opened(), await opened()
    feed = await consumer(one, "orders")
    await publish(one, "orders", 1)
    await take(feed, 1)
    await one.close()
    assert told(await take(await consumer(other, "orders"), 1)) == [(1, 1)]
    with pytest.raises(Closed):
        await publish(one, "orders", 2)
    await one.close()


@pytest.mark.parametrize("reading", [tail, consumer])
async def test_the_end_is_told_to_who_waits(opened: Open, reading: type) -> None:
    one = await opened()
    feed = await reading(one, "orders")
    fetching = asyncio.create_task(feed.fetch(1, None))
    await asyncio.wait([fetching], timeout=0)
    await one.close()
    with pytest.raises(Closed):
        await fetching


async def test_a_cancelled_end_is_an_end(opened: Open) -> None:
    one, other = await opened(), await opened()
    feed = await consumer(one, "orders")
    await publish(one, "orders", 1)
    await take(feed, 1)
    closing = asyncio.create_task(one.close())
    await asyncio.wait([closing], timeout=0)
    closing.cancel()
    await asyncio.wait([closing])
    await one.close()
    assert told(await take(await consumer(other, "orders"), 1)) == [(1, 1)]
    assert [len(group.consumers) for group in await other.groups()] == [1]


def test_blocking_and_async_are_one_engine(url: str) -> None:
    engine = open_blocking(parse_url(url))
    try:
        engine.open()
        assert engine.capabilities == ALONE
        assert [receipt.offset for receipt in engine.publish("orders", records(1, 2), PLAIN)] == [0, 1]
    finally:
        engine.close()
    assert isinstance(open_async(parse_url(url)), RedisEngine)
