"""Groups: where they begin to collect, who owns what was delivered before, what the server says of them."""

from __future__ import annotations

import pytest
from nats.js.client import JetStreamContext

from tests.engines.conftest import Open
from tidings import AsyncClient, GroupNotFound, LeaseLost, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.engines.nats.groups import read_time
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern
from tidings.testing.conformance.stage.place import take, until


def spec(*patterns: str, start: str = "end") -> SubscriptionSpec:
    return SubscriptionSpec(patterns=tuple(map(Pattern.parse, patterns)), group="g", start=start)


async def lag(engine: NatsEngine, messages: int) -> dict[str, int]:
    """Return the lags when they are those of so many messages: the server confirms a publish a moment before its
    consumers know of the message."""
    found: dict[str, int] = {}

    async def is_there() -> bool:
        found.update({info.topic: info.lag for info in await engine.groups()})
        return sum(found.values()) == messages

    await until(is_there)
    return found


async def test_a_topic_that_appears_is_collected_from_its_first_message(opened: Open, client: AsyncClient) -> None:
    """Though nobody is attached, and whoever makes it knows nothing of the group yet."""
    engine = await opened()
    await engine.create_group(spec("a/*"))
    await client.publish_batch("a/1", range(5))
    await (await opened()).create_topic("a/2", TopicOptions(partitions=3))
    await client.publish_batch("a/2", range(4))
    assert await lag(engine, 9) == {"a/1": 5, "a/2": 4}


async def test_what_was_there_before_is_not_collected(engine: NatsEngine, client: AsyncClient) -> None:
    await client.publish_batch("a/1", range(5))
    await engine.create_group(spec("a/*"))
    await client.publish("a/1", 6)
    await engine.create_group(spec("a/*", start="beginning"))  # it keeps the place it has
    assert await lag(engine, 1) == {"a/1": 1}


async def test_a_group_may_begin_earlier(engine: NatsEngine, client: AsyncClient) -> None:
    await client.publish_batch("a", range(5))
    await engine.create_group(spec("a", start="beginning"))
    assert await lag(engine, 5) == {"a": 5}


async def test_a_consumer_that_was_removed_is_made_again(
    engine: NatsEngine, client: AsyncClient, jetstream: JetStreamContext
) -> None:
    """A topic that is later than the group is read from its beginning then."""
    await engine.create_group(spec("a/*"))
    await client.publish("a/1", 1)
    stream = f"{engine._names.bus}+a=2F1"
    for consumer in await jetstream.consumers_info(stream):
        await jetstream.delete_consumer(stream, consumer.name)
    async with client.subscribe("a/*", consumer_group="g") as subscription:
        assert [each.data for each in await subscription.fetch(1, timeout=5)] == [1]


async def test_moving_takes_from_the_consumers_what_they_hold(client: AsyncClient) -> None:
    """Also when the same message has come again since."""
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        await client.publish_batch("a", range(3))
        before = await take(subscription, 3)
        await client.seek_group("a", "g", 1)
        again = await take(subscription, 2)
        assert [each.data for each in again] == [1, 2]
        with pytest.raises(LeaseLost):
            await subscription.ack(before)
        assert await client.get_consumer_lag("a", "g") == 2
        await subscription.ack(again)
        assert await client.get_consumer_lag("a", "g") == 0


async def test_a_dropped_group_leaves_nothing(
    engine: NatsEngine, client: AsyncClient, jetstream: JetStreamContext
) -> None:
    await engine.create_group(spec("a"))
    await engine.drop_group("g")
    assert await jetstream.consumers_info(f"{engine._names.bus}+a") == []
    assert not await engine.has_group("g")
    with pytest.raises(GroupNotFound):
        await engine.drop_group("g")
    with pytest.raises(GroupNotFound):
        await engine.seek_group("a", "g", "end")


async def test_the_age_of_the_oldest_is_told(client: AsyncClient) -> None:
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        await client.publish_batch("a", range(3))
        first, *_ = await take(subscription, 3)
        (info,) = await client.groups()
        assert 0 < info.lag_seconds < 60
        await subscription.ack([first])
        (later,) = await client.groups()
        assert later.lag == 2
        assert (info.held, info.retrying) == (-1, -1)


def test_times_of_the_server_are_read() -> None:
    assert read_time("1970-01-01T00:00:01.5Z") == 1.5
    assert read_time("1970-01-01T00:01:00Z") == 60.0
    assert read_time("2026-11-21T12:04:07.868800913Z") == pytest.approx(1795262647.868801, abs=1e-6)
