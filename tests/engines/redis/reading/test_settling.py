"""Settling: a batch is one call, only by whoever has the messages, and all of a transaction or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import consumer, data, now, publish, records, settle, tail, take, told
from tidings.engines.redis.engine import RedisEngine
from tidings.engines.redis.reading.settling import SENDINGS, _order
from tidings.engines.redis.server.link import AnswerLost
from tidings.errors import BrokerUnavailable, LeaseLost, PublishUnknown, TopicFull
from tidings.model.message import Message
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.spi import Output, Settlement
from tidings.testing.proxy import FaultProxy

PLAIN = PublishOptions(Durability.MEMORY)


def outputs(topic: str, *numbers: int) -> list[Output]:
    return [Output(topic, record, PLAIN) for record in records(*numbers)]


def acks(messages: list[Message]) -> list[Settlement]:
    return [Settlement(message, "ack") for message in messages]


@pytest.fixture
async def behind(opened: Open, proxy: FaultProxy, url: str) -> AsyncIterator[RedisEngine]:
    """An engine behind `proxy` that waits for answers for long: it hears at once of a connection that was reset."""
    engine: RedisEngine = await opened(proxy.url(url))
    yield engine
    await engine.close()  # as long as there is the proxy


def test_ids_are_ordered_as_numbers() -> None:
    ids = {"1700000000001-20000", "1700000000000-1000", "1700000000001-0", "1700000000000-999"}
    ordered = ["1700000000000-999", "1700000000000-1000", "1700000000001-0", "1700000000001-20000"]
    assert sorted(ids, key=_order) == ordered


async def test_each_delivery_ends_as_was_said(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(max_retries=3))
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(5))
    messages = await take(feed, 5)
    actions = ("ack", "nack", "release", "reject", "extend")
    await feed.settle([Settlement(message, action, 0) for message, action in zip(messages, actions, strict=True)])
    assert sorted(told(await take(feed, 3))) == [(1, 2), (2, 1), (4, 2)]
    letters = await tail(engine, "dead-letters/orders", start="beginning")
    assert data(await take(letters, 1)) == [3]
    assert [(group.acked, group.dead, group.lag) for group in await engine.groups("orders")] == [(1, 1, 3)]


async def test_a_retry_comes_when_it_is_due(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(max_retries=3))
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", 1)
    begun = time.monotonic()
    await settle(feed, await take(feed, 1), "nack", 0.2)
    assert await now(feed) == []
    assert told(await take(feed, 1)) == [(1, 2)]
    assert time.monotonic() - begun >= 0.2


async def test_what_is_extended_is_kept_so_long(opened: Open) -> None:
    """However dead its consumer looks: it said how long it would be away."""
    one, other = await opened(lease_seconds=0.1), await opened()
    feed, living = await consumer(one, "orders"), await consumer(other, "orders")
    await publish(one, "orders", 1)
    messages = await take(feed, 1)
    begun = time.monotonic()
    await settle(feed, messages, "extend", 0.5)
    assert told(await take(living, 1)) == [(1, 2)]
    assert time.monotonic() - begun >= 0.5


async def test_what_another_has_is_refused_and_the_rest_is_done(opened: Open) -> None:
    one, other = await opened(lease_seconds=0.1), await opened()
    feed, thief = await consumer(one, "orders"), await consumer(other, "orders")
    await publish(one, "orders", 1, 2)
    messages = await take(feed, 1)
    assert told(await take(thief, 2)) in ([(1, 2), (2, 1)], [(2, 1), (1, 2)])
    await publish(one, "orders", 3)
    messages += await take(feed, 1)
    with pytest.raises(LeaseLost, match="orders"):
        await settle(feed, messages, "ack")
    assert [(group.lag, group.held, group.acked) for group in await other.groups()] == [(2, 2, 1)]


async def test_acks_in_any_order_are_one_call(engine: RedisEngine, raw: Redis) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(2500))
    messages = await take(feed, 2500)
    sent = []
    there = engine._link.run

    async def counted(script: str, *arguments: object, **options: bool) -> object:
        sent.append(script)
        return await there(script, *arguments, **options)

    engine._link.run = counted  # type: ignore[method-assign]
    await settle(feed, messages[1::2] + messages[::2], "ack")
    assert len(sent) == 1
    assert [(group.lag, group.acked) for group in await engine.groups()] == [(0, 2500)]


async def test_an_answer_that_was_lost_is_asked_for_again(
    engine: RedisEngine, distant: RedisEngine, proxy: FaultProxy
) -> None:
    feed = await consumer(distant, "orders")
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    proxy.drop_reply(request=b"orders")
    await settle(feed, messages, "ack")
    assert distant._link._lost_at, "the answer was lost"
    assert [(group.lag, group.acked) for group in await engine.groups()] == [(0, 1)]


@pytest.mark.parametrize(
    ("action", "sent", "counted"),
    [("nack", b"retry", (1, 0)), ("release", b"release", (0, 0)), ("reject", b"dead-letters", (1, 1))],
)
async def test_what_was_said_twice_is_done_and_counted_once(
    engine: RedisEngine, behind: RedisEngine, proxy: FaultProxy, action: str, sent: bytes, counted: tuple[int, int]
) -> None:
    feed = await consumer(behind, "orders")
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    proxy.drop_reply(request=sent)
    await settle(feed, messages, action, 60)
    assert behind._link._lost_at, "the answer was lost"
    assert [(group.failed, group.dead, group.held) for group in await engine.groups("orders")] == [(*counted, 0)]


async def test_acks_whose_answers_are_lost_again_and_again_may_be_done(
    engine: RedisEngine, behind: RedisEngine, proxy: FaultProxy
) -> None:
    """That is told; said once more, they are."""
    feed = await consumer(behind, "orders")
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    proxy.drop_reply(SENDINGS, request=b"orders")
    with pytest.raises(BrokerUnavailable):
        await settle(feed, messages, "ack")
    await settle(feed, messages, "ack")
    assert [(group.lag, group.acked) for group in await engine.groups()] == [(0, 1)]


async def test_what_was_put_off_is_not_taken_from_who_has_it_by_now(
    engine: RedisEngine, behind: RedisEngine, proxy: FaultProxy
) -> None:
    """Nobody answers who says so again: meanwhile it was its turn, and another has it."""
    feed, other = await consumer(behind, "orders"), await consumer(engine, "orders", consumer="bob")
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    proxy.refuse()  # what comes back waits
    proxy.drop_reply(request=b"retry")
    settling = asyncio.create_task(settle(feed, messages, "nack", 0))
    assert told(await take(other, 1)) == [(1, 2)]
    proxy.accept()
    await settling
    assert [(group.held, group.failed) for group in await engine.groups("orders")] == [(1, 1)]


async def test_what_may_be_given_back_already_is_not_taken_from_who_has_it_by_now(
    engine: RedisEngine, behind: RedisEngine, proxy: FaultProxy
) -> None:
    """At most once nobody has a lease that could be looked up: so it is said once."""
    await engine.create_topic("orders", TopicOptions(delivery="at_most_once"))
    feed, other = await consumer(behind, "orders"), await consumer(engine, "orders", consumer="bob")
    await publish(engine, "orders", 1, 2)
    messages = await take(feed, 2)
    proxy.refuse()  # what comes back waits
    proxy.drop_reply(request=b"give")
    settling = asyncio.create_task(settle(feed, messages, "release"))
    assert data(await take(other, 2)) == [1, 2]
    proxy.accept()
    await settling
    assert behind._link._lost_at, "the answer was lost"
    assert await now(other) == []
    assert [(group.lag, group.acked) for group in await engine.groups("orders")] == [(0, 2)]


async def test_an_ack_that_did_not_arrive_is_refused_when_another_has_the_message(
    engine: RedisEngine, behind: RedisEngine, proxy: FaultProxy
) -> None:
    feed, other = await consumer(behind, "orders"), await consumer(engine, "orders", consumer="bob")
    await publish(engine, "orders", 1)
    messages = await take(feed, 1)
    there = behind._link.run

    async def lost(script: str, *arguments: Any, **options: Any) -> Any:
        if script != "ack":
            return await there(script, *arguments, **options)
        behind._link.run = there  # type: ignore[method-assign]
        proxy.refuse()
        proxy.cut()
        assert told(await take(other, 1)) == [(1, 2)]
        proxy.accept()
        raise AnswerLost("the connection was cut before it")

    behind._link.run = lost  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        await settle(feed, messages, "ack")
    assert [(group.held, group.acked) for group in await engine.groups("orders")] == [(1, 0)]


async def test_a_transaction_is_done_as_one(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", 1)
    await feed.commit(acks(await take(feed, 1)), outputs("bills", 1, 2) + outputs("mails", 3), Durability.DISK)
    assert [(info.name, info.messages) for info in await engine.topics()] == [("bills", 2), ("mails", 1), ("orders", 1)]
    assert [(group.lag, group.acked) for group in await engine.groups()] == [(0, 1)]


async def test_a_transaction_that_may_not_do_one_thing_does_nothing(opened: Open) -> None:
    one, other = await opened(), await opened()
    feed = await consumer(one, "orders")
    await consumer(one, "bills", group="accounting")
    await publish(one, "orders", 1)
    messages = await take(feed, 1)
    await other.alter_topic("bills", TopicOptions(max_length=1, overflow="reject"))
    with pytest.raises(TopicFull, match="bills"):
        await feed.commit(acks(messages), outputs("mails", 1) + outputs("bills", 1, 2), Durability.MEMORY)
    assert [info.messages for info in await one.topics(["bills", "mails"])] == [0, 0]
    assert [(group.held, group.acked) for group in await one.groups("orders")] == [(1, 0)]
    await other.seek_group("orders", "billing", "end")  # it has it no more
    for more in outputs("mails", 1), []:
        with pytest.raises(LeaseLost):
            await feed.commit(acks(messages), more, Durability.MEMORY)
    assert [info.messages for info in await one.topics(["mails"])] == [0]


async def test_a_transaction_without_an_answer_is_unknown(
    engine: RedisEngine, distant: RedisEngine, proxy: FaultProxy
) -> None:
    feed = await consumer(distant, "orders")
    await publish(distant, "orders", 1)
    await publish(distant, "bills", 1)
    messages = await take(feed, 1)
    proxy.drop_reply(request=b"id-77")
    with pytest.raises(PublishUnknown) as unknown:
        await feed.commit(acks(messages), outputs("bills", 77), Durability.MEMORY)
    assert unknown.value.message_ids == ("id-77",)
    assert [info.messages for info in await engine.topics(["bills"])] == [2]
    assert [group.acked for group in await engine.groups("orders")] == [1]
