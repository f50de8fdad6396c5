"""Consumers of a group: what one has nobody else gets, until it leaves, dies or stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import PLAIN, SECONDS, consumer, data, now, publish, settle, take, told
from tidings.engines.redis.engine import RedisEngine
from tidings.engines.redis.reading import consumer as reading
from tidings.errors import StorageFull
from tidings.model.message import Record
from tidings.model.options import TopicOptions
from tidings.model.predicate import record
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


async def test_at_most_once_too_what_nobody_fetched_any_more_goes_to_others(opened: Open, topic: str) -> None:
    """It was settled when it was pulled, and is once more when it is handed out."""
    one, other = await opened(), await opened()
    await one.create_topic(topic, TopicOptions(delivery="at_most_once"))
    feed, living = await consumer(one, topic), await consumer(other, topic, consumer="bob")
    await now(feed)
    await publish(other, topic, *range(10))
    fetching = asyncio.create_task(feed.fetch(10, None))
    await asyncio.wait([fetching], timeout=0)  # it has asked
    fetching.cancel()
    await asyncio.wait([fetching])
    assert sorted(told(await take(living, 10))) == [(number, 1) for number in range(10)]
    assert [(group.lag, group.held, group.acked) for group in await one.groups(topic)] == [(0, 0, 10)]


async def test_at_most_once_what_nobody_has_seen_can_be_given_back(opened: Open, topic: str) -> None:
    one, other = await opened(), await opened()
    await one.create_topic(topic, TopicOptions(delivery="at_most_once"))
    feed, living = await consumer(one, topic), await consumer(other, topic, consumer="bob")
    await publish(one, topic, 1, 2)
    messages = await take(feed, 2)
    await settle(feed, messages[1:], "release")
    assert told(await take(living, 1)) == [(2, 1)]
    await settle(living, messages[:1], "ack")
    assert [(group.lag, group.held, group.acked) for group in await one.groups(topic)] == [(0, 0, 2)]


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


async def held(engine: RedisEngine) -> dict[str, int]:
    """How much each consumer has; whatever this engine has asked for before is in it."""
    (group,) = await engine.groups("orders")
    return {each.consumer: each.held for each in group.consumers}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is quick enough, however slow the machine."""
    monkeypatch.setattr(reading, "AHEAD_SECONDS", SECONDS)


@pytest.mark.usefixtures("unhurried")
async def test_who_fetches_quickly_has_the_next_batch_on_its_way(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders", prefetch=280)
    await publish(engine, "orders", *range(500))
    for begin, has in ((0, 200), (100, 280)):
        assert data(await take(feed, 100)) == [*range(begin, begin + 100)]
        assert await held(engine) == {"ann": has}, "what was fetched, and what the prefetch allows"


@pytest.mark.usefixtures("unhurried")
async def test_little_is_not_read_ahead(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(500))
    little = reading.AHEAD_LEAST - 1
    for has in (little, 2 * little):
        await take(feed, little)
        assert await held(engine) == {"ann": has}


@pytest.mark.usefixtures("unhurried")
async def test_where_not_all_is_wanted_nothing_is_read_ahead(engine: RedisEngine) -> None:
    """What is found too much goes back, and all that was read ahead would have to follow it."""
    wanted = record(lambda m: m.data["n"] < 200)
    feed = await consumer(engine, "orders", filter=wanted)
    bodies = [Record(f"id-{n}", "application/json", b'{"n":%d}' % n) for n in range(300)]
    await engine.publish("orders", bodies, PLAIN)
    for has in (100, 200):
        assert len(await take(feed, 100)) == 100
        assert await held(engine) == {"ann": has}


async def test_what_was_read_ahead_goes_to_others_when_nobody_comes_for_it(opened: Open) -> None:
    one, other = await opened(), await opened()
    feed, living = await consumer(one, "orders"), await consumer(other, "orders", consumer="bob")
    await publish(one, "orders", *range(300))
    messages = await take(feed, 100)
    assert sorted(told(await take(living, 200))) == [(number, 1) for number in range(100, 300)]
    await settle(feed, messages, "ack")
    assert await held(one) == {"ann": 0, "bob": 200}


async def test_for_who_comes_late_nothing_is_read_ahead(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(500))
    await take(feed, 100)
    await until(lambda: returned(engine))
    assert told(await take(feed, 100)) == [(number, 1) for number in range(100, 200)]
    assert await held(engine) == {"ann": 200}


async def returned(engine: RedisEngine) -> bool:
    return await held(engine) == {"ann": 100}


@pytest.mark.usefixtures("unhurried")
async def test_after_a_loop_that_was_held_up_nothing_comes_that_others_have(
    engine: RedisEngine, raw: Redis, prefix: str
) -> None:
    """Its timer was late, too, and others have taken over what was read ahead."""
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(500))
    await take(feed, 100)
    assert await held(engine) == {"ann": 200}
    stream = f"{prefix}:stream:orders"
    entries: Any = await raw.xrange(stream)
    await raw.xclaim(stream, "billing", "bob", 0, [entry for entry, _ in entries[100:200]])
    feed._source._handed_at -= SECONDS  # type: ignore[attr-defined]
    assert told(await take(feed, 100)) == [(number, 1) for number in range(200, 300)]


@pytest.mark.parametrize("action", ["release", "nack"])
async def test_what_comes_again_at_once_comes_before_what_was_read_ahead(engine: RedisEngine, action: str) -> None:
    await engine.create_topic("orders", TopicOptions(max_retries=5))
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(300))
    messages = await take(feed, 100)
    await settle(feed, messages[98:], action)
    assert data(await take(feed, 102)) == [98, 99, *range(100, 200)]


async def test_who_leaves_gives_back_what_was_read_ahead(opened: Open) -> None:
    one, other = await opened(), await opened()
    feed, living = await consumer(one, "orders"), await consumer(other, "orders", consumer="bob")
    await publish(one, "orders", *range(300))
    await take(feed, 100)
    await feed.close()
    assert told(await take(living, 300)) == [(number, 1) for number in range(300)]


class Moment:
    """Has something happen when a consumer is about to read ahead."""

    def __init__(self, feed: Any, happens: Callable[[], Any]) -> None:
        self._holds = feed._source.holds
        self._happens = happens
        feed._source.holds = self

    def __call__(self) -> Any:
        self._happens()
        return self._holds()


async def test_a_fetch_that_is_cancelled_while_it_asks_ahead_loses_nothing(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(300))
    fetching = asyncio.create_task(feed.fetch(100, None))
    Moment(feed, fetching.cancel)
    await asyncio.wait([fetching])
    assert fetching.cancelled()
    assert told(await take(feed, 300)) == [(number, 1) for number in range(300)]


async def test_what_is_handed_out_is_not_taken_for_lost_when_the_connection_breaks_then(engine: RedisEngine) -> None:
    """What came by an answer that was lost is given back; what is known here is kept."""
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(300))
    Moment(feed, feed._source._failed)  # type: ignore[attr-defined]
    messages = await take(feed, 100)
    await settle(feed, messages, "ack")
    assert told(await take(feed, 200)) == [(number, 1) for number in range(100, 300)]
    assert [group.acked for group in await engine.groups()] == [100]


async def test_a_connection_that_breaks_while_it_reads_ahead_loses_and_repeats_nothing(
    distant: RedisEngine, engine: RedisEngine, proxy: FaultProxy
) -> None:
    feed = await consumer(distant, "orders")
    await publish(engine, "orders", *range(300))
    Moment(feed, proxy.cut)
    messages = await take(feed, 100)
    assert told(messages + await take(feed, 200)) == [(number, 1) for number in range(300)]


async def test_what_comes_again_out_of_its_order_is_given_back_as_well(opened: Open) -> None:
    one, other = await opened(), await opened()
    await one.create_topic("orders", TopicOptions(max_retries=5))
    feed, living = await consumer(one, "orders"), await consumer(other, "orders", consumer="bob")
    await publish(one, "orders", 1, 2)
    first, second = await take(feed, 2)
    await settle(feed, [second], "nack", 0)
    await settle(feed, [first], "nack", 0.01)  # later than the second
    await until(lambda: all_due(other))
    fetching = asyncio.create_task(feed.fetch(10, None))
    await asyncio.wait([fetching], timeout=0)  # it has asked
    fetching.cancel()
    await asyncio.wait([fetching])
    assert sorted(told(await take(living, 2))) == [(1, 2), (2, 2)]


async def all_due(engine: RedisEngine) -> bool:
    return [group.retrying for group in await engine.groups("orders")] == [0]


async def test_what_could_not_be_given_back_comes_with_the_next_fetch(
    engine: RedisEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(300))
    await take(feed, 100)
    tried = asyncio.Event()

    async def refuse(*_: Any) -> None:
        tried.set()
        raise StorageFull("redis: its memory is full (maxmemory)")

    with monkeypatch.context() as full:
        full.setattr(engine._settler, "give_back", refuse)
        await tried.wait()
    assert sorted(told(await take(feed, 200))) == [(number, 1) for number in range(100, 300)]
