"""Reading from streams: asked when something is there, nothing lost on the way, entries of others as they are."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import consumer, data, now, publish, settle, tail, take, told
from tidings.engines.redis.engine import RedisEngine
from tidings.engines.redis.reading import reader
from tidings.engines.redis.reading.reader import place_of, suffix_of
from tidings.model.options import TopicOptions
from tidings.testing.proxy import FaultProxy


@pytest.fixture
def no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers do not look by themselves: what they find they were told of."""
    monkeypatch.setattr(reader, "RECHECK_SECONDS", 600.0)


@given(st.integers(0, 4096), st.integers(0, 9))
def test_a_suffix_says_partition_and_priority(partition: int, priority: int) -> None:
    assert place_of(suffix_of(partition, priority)) == (partition, priority)


def test_the_first_partition_has_the_streams_own_name() -> None:
    assert suffix_of(0, 5) == ""


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_who_waits_is_woken(opened: Open, reading: type) -> None:
    one, other = await opened(), await opened()
    feed = await reading(one, "orders")
    for number in range(3):
        fetching = asyncio.create_task(take(feed, 1))
        await asyncio.wait([fetching], timeout=0.02)
        await publish(other, "orders", number)
        assert data(await fetching) == [number]


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_a_topic_that_appears_is_read_from_its_first_message(opened: Open, reading: type) -> None:
    one, other = await opened(), await opened()
    feed = await reading(one, "orders/*")
    assert await now(feed) == []
    fetching = asyncio.create_task(take(feed, 3))
    await publish(other, "orders/a", 1, 2)
    await publish(other, "bills/a", 3)
    await publish(other, "orders/b", 4)
    assert sorted(data(await fetching)) == [1, 2, 4]


@pytest.mark.usefixtures("no_looking")
@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_a_topic_that_is_made_anew_is_read_on(opened: Open, reading: type) -> None:
    one, other = await opened(), await opened()
    feed = await reading(one, "orders/*")
    await publish(other, "orders/a", 1)
    assert data(await take(feed, 1)) == [1]
    await other.drop_topic("orders/a")
    await publish(other, "orders/a", 2, 3)
    assert data(await take(feed, 2)) == [2, 3]


@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_what_a_plain_program_adds_is_found(engine: RedisEngine, raw: Redis, prefix: str, reading: type) -> None:
    await publish(engine, "orders", 0)
    feed = await reading(engine, "orders")
    await raw.xadd(f"{prefix}:stream:orders", {"temperature": "25"})
    (message,) = await take(feed, 1)
    assert (message.data, message.partition, message.offset, message.attempt) == ({"temperature": "25"}, 0, -1, 1)


@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_fetching_in_pieces_leaves_nothing_out(engine: RedisEngine, reading: type) -> None:
    await engine.create_topic("orders", TopicOptions(partitions=3))
    feed = await reading(engine, "orders", start="beginning")
    await publish(engine, "orders", *range(100))
    found = []
    for limit in (1, 7, 50, 42):
        found += await take(feed, limit)
    assert sorted(data(found)) == list(range(100))
    for partition in range(3):
        mine = [message.offset for message in found if message.partition == partition]
        assert mine == list(range(len(mine)))
    assert await now(feed) == []


@pytest.mark.parametrize("reading", [tail, consumer], ids=["tail", "consumer"])
async def test_a_cancelled_fetch_loses_nothing(engine: RedisEngine, reading: type) -> None:
    feed = await reading(engine, "orders")
    await publish(engine, "orders", *range(20))
    for rounds in range(5):
        fetching = asyncio.create_task(feed.fetch(100, None))
        for _ in range(rounds):
            await asyncio.wait([fetching], timeout=0)
        fetching.cancel()
        await asyncio.wait([fetching])
        if not fetching.cancelled():
            assert told(fetching.result()) == [(number, 1) for number in range(20)]
            return
    assert told(await take(feed, 20)) == [(number, 1) for number in range(20)]


async def test_while_the_server_is_away_it_waits_and_then_goes_on(
    engine: RedisEngine, distant: RedisEngine, proxy: FaultProxy
) -> None:
    feed = await tail(distant, "orders")
    proxy.refuse()
    proxy.cut()
    fetching = asyncio.create_task(take(feed, 2))
    await publish(engine, "orders", 1, 2)
    assert await feed.fetch(1, 0) == []
    assert not fetching.done()
    proxy.heal()
    assert data(await fetching) == [1, 2]


async def test_what_was_settled_by_somebody_who_was_cancelled_is_not_refused_afterwards(engine: RedisEngine) -> None:
    feed = await consumer(engine, "orders")
    await publish(engine, "orders", *range(5))
    messages = await take(feed, 5)
    settling = asyncio.create_task(settle(feed, messages, "ack"))
    await asyncio.wait([settling], timeout=0)
    settling.cancel()
    await asyncio.wait([settling])
    await settle(feed, messages, "ack")
    assert [(group.lag, group.acked) for group in await engine.groups()] == [(0, 5)]
