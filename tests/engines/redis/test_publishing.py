"""Publishing: one call for a batch, by the options that the topic has now, and receipts that are true."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import PLAIN, consumer, data, publish, records, settle, tail, take
from tidings.engines.redis import publishing
from tidings.engines.redis.engine import RedisEngine
from tidings.errors import PublishUnknown, SchemaMismatch, TopicFull
from tidings.model.compression import Compression
from tidings.model.message import Record
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.testing.proxy import FaultProxy


@pytest.mark.parametrize("count", [1, 2, 2500])
async def test_a_batch_is_stored_in_order(engine: RedisEngine, raw: Redis, prefix: str, count: int) -> None:
    await publish(engine, "orders", "first")
    receipts = await publish(engine, "orders", *range(count))
    assert [receipt.offset for receipt in receipts] == list(range(1, count + 1))
    assert [receipt.message_id for receipt in receipts] == [f"id-{number}" for number in range(count)]
    stored: Any = await raw.xrange(f"{prefix}:stream:orders")
    assert [fields[b"data"] for _, fields in stored[1:]] == [b"%d" % number for number in range(count)]


async def test_a_receipt_names_the_level_that_was_asked_for_or_the_best(engine: RedisEngine) -> None:
    assert engine._link.server.level is Durability.DISK, "so the server of the tests is started"
    levels = {}
    for asked in (Durability.MEMORY, Durability.OS, Durability.DISK):
        (receipt,) = await engine.publish("orders", records(1), PublishOptions(asked))
        levels[asked] = receipt.durability
    assert levels == {asked: Durability.DISK if asked is Durability.MEMORY else asked for asked in levels}


async def test_what_has_a_key_stays_together_and_the_rest_goes_round(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(partitions=3))
    receipts = await publish(engine, "orders", *range(4)) + await publish(engine, "orders", *range(5))
    assert [receipt.partition for receipt in receipts] == [number % 3 for number in range(9)]
    assert [receipt.offset for receipt in receipts] == [number // 3 for number in range(9)]
    keyed = await publish(engine, "orders", *range(6), key="k")
    assert len({receipt.partition for receipt in keyed}) == 1


async def test_an_id_is_stored_once_where_that_is_promised(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(delivery="exactly_once", partitions=2))
    first = await publish(engine, "orders", 1, 2, 3)
    again = await publish(engine, "orders", 3, 4)
    assert [receipt.duplicate for receipt in first + again] == [False, False, False, True, False]
    assert (again[0].partition, again[0].offset) == (first[2].partition, first[2].offset)
    assert (await engine.topics(["orders"]))[0].messages == 4


@pytest.mark.parametrize("listening", [False, True], ids=["nobody", "a group"])
async def test_at_most_once_is_only_said_and_kept_for_groups(
    engine: RedisEngine, raw: Redis, prefix: str, topic: str, listening: bool
) -> None:
    await engine.create_topic(topic, TopicOptions(delivery="at_most_once"))
    if listening:
        await consumer(engine, topic)
    async with raw.pubsub() as channel:
        await channel.subscribe(topic)
        await engine.publish(topic, [Record("0123456789ab-1", "application/json", b"{}")], PLAIN)
        said = [await channel.get_message(timeout=5) for _ in range(2)]
    assert [each["data"] for each in said if each] == [1, b"{}"]
    assert await raw.xlen(f"{prefix}:stream:{topic}") == int(listening)


async def test_options_that_others_changed_hold(opened: Open) -> None:
    one, other = await opened(), await opened()
    await publish(one, "orders", 0)
    await consumer(one, "orders")
    await other.alter_topic("orders", TopicOptions(max_length=2, overflow="reject"))
    await publish(one, "orders", 1, 2)
    with pytest.raises(TopicFull, match="orders"):
        await publish(one, "orders", 3)
    await other.drop_topic("orders")
    await other.create_topic("orders", TopicOptions(partitions=2))
    assert [receipt.partition for receipt in await publish(one, "orders", 1, 2)] in ([0, 1], [1, 0])


async def test_a_schema_is_the_one_that_the_topic_has_now(opened: Open) -> None:
    one, other = await opened(), await opened()
    order = [Record("a", "application/json", b'{"number": 1}')]
    await one.create_topic("orders", TopicOptions(schema="number STRING"))
    with pytest.raises(SchemaMismatch):
        await one.publish("orders", order, PLAIN)
    await other.alter_topic("orders", TopicOptions(schema="number INT"))
    await one.publish("orders", order, PLAIN)
    await one.admit("orders", order)
    await other.alter_topic("orders", TopicOptions(schema="number BOOL"))
    with pytest.raises(SchemaMismatch):
        await one.admit("orders", order)
    with pytest.raises(SchemaMismatch):
        await one.publish("orders", order, PLAIN)
    assert (await one.topics(["orders"]))[0].messages == 1


async def test_who_waits_for_room_goes_on_when_there_is_some(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in another process; it is told, and does not look again and again."""
    monkeypatch.setattr(publishing, "ROOM_SECONDS", 60.0)
    one, other = await opened(), await opened()
    await one.create_topic("orders", TopicOptions(max_length=1, overflow="block", overflow_timeout=30))
    feed = await consumer(other, "orders")
    await publish(one, "orders", 1)
    waiting = asyncio.create_task(publish(one, "orders", 2))
    messages = await take(feed, 1)
    assert not (await asyncio.wait([waiting], timeout=0.05))[0]
    await settle(feed, messages, "ack")
    async with asyncio.timeout(5):
        assert [receipt.offset for receipt in await waiting] == [1]


async def test_nothing_is_kept_for_topics_without_end(engine: RedisEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "TURNS_KEPT", 2)
    for number in range(4):
        await engine.create_topic(f"parted{number}", TopicOptions(partitions=2))
        await publish(engine, f"parted{number}", 1)
        await engine.create_topic(f"full{number}", TopicOptions(max_length=1, overflow="block", overflow_timeout=0.01))
        await consumer(engine, f"full{number}")
        with pytest.raises(TopicFull):
            await publish(engine, f"full{number}", 1, 2)
    publisher = engine._publisher
    assert (list(publisher._turns), list(publisher._room)) == (["parted2", "parted3"], [])
    assert [(await publish(engine, f"parted{number}", 1))[0].partition for number in (2, 0)] == [1, 0]


async def test_waiting_for_room_ends(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(max_length=1, overflow="block", overflow_timeout=0.1))
    await consumer(engine, "orders")
    await publish(engine, "orders", 1)
    begun = time.monotonic()
    with pytest.raises(TopicFull, match="billing"):
        await publish(engine, "orders", 2)
    assert 0.1 <= time.monotonic() - begun < 5
    assert (await engine.topics(["orders"]))[0].messages == 1


async def test_what_is_for_later_has_a_number_and_comes_when_it_is_due(engine: RedisEngine) -> None:
    feed = await tail(engine, "orders")
    due = time.time() + 0.2
    receipts = await engine.publish("orders", records(1, 2), PublishOptions(Durability.MEMORY, 5, due))
    assert [(receipt.partition, receipt.offset) for receipt in receipts] == [(-1, -1)] * 2
    assert len({receipt.scheduled for receipt in receipts} - {None}) == 2
    (soon,) = await publish(engine, "orders", 3)
    assert soon.offset == 0
    messages = await take(feed, 3)
    assert data(messages) == [3, 1, 2]
    assert messages[1].published_at >= due


async def test_a_body_is_stored_compressed(engine: RedisEngine, raw: Redis, prefix: str) -> None:
    body = b'"%b"' % (b"x" * 10_000)
    record = Record(uuid4().hex, "application/json", body)
    await engine.publish("orders", [record], PublishOptions(Durability.MEMORY, compression=Compression.GZIP))
    stored: Any = await raw.xrange(f"{prefix}:stream:orders")
    ((_, fields),) = stored
    assert len(fields[b"data"]) < 1000
    (message,) = await take(await tail(engine, "orders", start="beginning"), 1)
    assert (message.data, message.id) == ("x" * 10_000, record.id)


async def test_a_publish_without_an_answer_is_unknown(distant: RedisEngine, proxy: FaultProxy) -> None:
    await publish(distant, "orders", 0)
    proxy.drop_reply(request=b"the one in question")
    with pytest.raises(PublishUnknown) as unknown:
        await distant.publish("orders", [Record("a", "text", b"the one in question"), Record("b", "text", b"")], PLAIN)
    assert unknown.value.message_ids == ("a", "b")
