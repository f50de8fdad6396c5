"""How topics and groups do: what is counted is what happened."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from tests.engines.conftest import Open
from tests.engines.redis.hands import PLAIN, consumer, publish, records, settle, tail, take
from tidings.brokers.registry import new_topic, to_json
from tidings.engines.redis.engine import RedisEngine
from tidings.engines.redis.standing import Standing
from tidings.model.options import Durability, PublishOptions, TopicOptions


async def test_a_topic_counts_what_it_has_and_what_was_removed(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(partitions=2, retention_messages=2))
    for number in range(10):
        await publish(engine, "orders", number)
    (info,) = await engine.topics(["orders"])
    assert [(each.partition, each.first_offset, each.next_offset) for each in info.partitions] == [(0, 3, 5), (1, 3, 5)]
    assert [each.bytes for each in info.partitions] == [2, 2]
    (statistics,) = await engine.statistics(["orders"], 60)
    assert statistics.published == 10


async def test_priorities_of_a_partition_are_counted_together(engine: RedisEngine) -> None:
    for priority in (1, 5, 9):
        await engine.publish("orders", records(1, 2), PublishOptions(Durability.MEMORY, priority))
    (info,) = await engine.topics()
    assert [(each.partition, each.next_offset) for each in info.partitions] == [(0, 6)]
    assert info.messages == 6


async def test_what_does_not_exist_is_left_out(engine: RedisEngine) -> None:
    for topic in ("b", "c", "a"):
        await publish(engine, topic, 1)
    assert [info.name for info in await engine.topics()] == ["a", "b", "c"]
    assert [info.name for info in await engine.topics(["c", "x", "a"])] == ["a", "c"]
    assert await engine.topics([]) == []
    assert await engine.groups("x") == []


async def test_a_group_counts_every_message_once(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(max_retries=5))
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(7))
    messages = await take(feed, 6)
    await settle(feed, messages[:2], "ack")
    await settle(feed, messages[2:3], "nack", 60)
    await settle(feed, messages[3:4], "reject")
    await settle(feed, messages[4:5], "release")
    (again,) = await take(feed, 1)
    assert (again.id, again.attempt) == (messages[4].id, 1)
    (group,) = await engine.groups("orders")
    assert (group.lag, group.held, group.retrying) == (4, 2, 1)
    assert (group.acked, group.dead, group.failed, group.redelivered) == (2, 1, 2, 0)
    assert (group.expired, group.skipped, group.filtered) == (0, 0, 0)
    assert group.lag + group.acked + group.dead == 7


async def test_a_consumer_is_named_with_what_it_holds(opened: Open) -> None:
    one, other = await opened(), await opened()
    first, second = await consumer(one, "orders"), await consumer(other, "orders", consumer="bob")
    await publish(one, "orders", *range(5))
    await take(first, 3)
    await take(second, 1)
    (group,) = await one.groups("orders")
    assert [(each.consumer, each.held, each.pid) for each in group.consumers] == [
        ("ann", 3, os.getpid()),
        ("bob", 1, os.getpid()),
    ]
    await second.close()
    (group,) = await one.groups("orders")
    assert [(each.consumer, each.held) for each in group.consumers] == [("ann", 3)]
    assert group.lag == 5


async def test_the_age_of_a_lag_is_that_of_its_oldest_message(engine: RedisEngine) -> None:
    begun = time.time()
    feed = await consumer(engine, "orders")
    (group,) = await engine.groups()
    assert (group.lag, group.lag_seconds) == (0, 0.0)
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    (group,) = await engine.groups()
    assert 0 < group.lag_seconds <= time.time() - begun + 0.1
    await settle(feed, messages, "ack")
    (group,) = await engine.groups()
    assert group.lag_seconds == 0.0


async def test_a_temporary_subscription_lags_by_what_it_has_not_fetched(engine: RedisEngine) -> None:
    await publish(engine, "orders", "before")
    feed = await tail(engine, "orders")
    await publish(engine, "orders", *range(5))
    (statistics,) = await engine.statistics(["orders"], 60)
    assert [(each.consumer, each.group, each.lag) for each in statistics.subscribers] == [("ann", None, 5)]
    await take(feed, 5)
    (statistics,) = await engine.statistics(["orders"], 60)
    assert [(each.lag, each.lag_seconds) for each in statistics.subscribers] == [(0, 0.0)]
    await feed.close()
    (statistics,) = await engine.statistics(["orders"], 60)
    assert statistics.subscribers == ()


async def test_rates_are_over_the_window(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(20))
    messages = await take(feed, 20)
    await settle(feed, messages[:15], "ack")
    await settle(feed, messages[15:], "nack", 60)
    (statistics,) = await engine.statistics(["orders"], 60)
    assert statistics.publish_rate == pytest.approx(20 / 60)
    assert statistics.consume_rate == pytest.approx(15 / 60)
    assert statistics.error_rate == pytest.approx(5 / 20)
    assert (statistics.consumed, statistics.pending, statistics.published) == (15, 5, 20)


async def test_what_is_for_later_is_scheduled(engine: RedisEngine) -> None:
    await engine.publish("orders", records(1, 2), PublishOptions(Durability.MEMORY, 5, time.time() + 60))
    await engine.publish("orders", records(3), PLAIN)
    (statistics,) = await engine.statistics(None, 60)
    assert (statistics.scheduled, statistics.published) == (2, 1)


def test_a_message_of_the_future_is_not_of_negative_age() -> None:
    """Another server's clock may have been ahead, before this one took over its data."""
    stored = to_json(new_topic("orders", TopicOptions(), 1.0))
    group: list[Any] = [b"billing", 1, 0, b"9000000", [], []]
    standing = Standing(5.0, [b"orders", stored, b"s", [[b"", 1, 0, 1, 3]], [group], [], [], 0, 1, 0, 0], {})
    assert standing.groups[0].lag_seconds == 0.0
