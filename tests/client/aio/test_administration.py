"""Looking after topics and groups: what the client makes of its arguments, and what it does not let through."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.client.conftest import Bus
from tests.client.fakes import FakeEngine
from tidings import AsyncClient, InvalidOption, Receipt, TopicExists, TopicOptions
from tidings.client.aio.administration import WINDOW_SECONDS
from tidings.errors import GroupNotFound, IncompatibleSchema, InvalidTopic, TopicNotFound, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.options import MAX_SCHEDULE_SECONDS, Durability
from tidings.spi import GroupInfo, Health, TopicStatistics


def group(name: str, topic: str, lag: int) -> GroupInfo:
    """A group that has done nothing yet."""
    names = ("held", "retrying", "acked", "dead", "expired", "skipped", "filtered", "redelivered", "failed")
    nothing: Any = dict.fromkeys(names, 0)
    return GroupInfo(group=name, topic=topic, lag=lag, lag_seconds=0.0, consumers=(), **nothing)


def counts(topic: str, publish_rate: float, error_rate: float) -> TopicStatistics:
    names = ("published", "consumed", "pending", "scheduled", "expired", "dead", "skipped", "redelivered")
    return TopicStatistics(
        topic=topic,
        window=WINDOW_SECONDS,
        lag_seconds=0.0,
        publish_rate=publish_rate,
        consume_rate=2.0,
        error_rate=error_rate,
        subscribers=(),
        groups=(),
        **dict.fromkeys(names, 0),
    )


# -- topics


async def test_what_is_not_there_is_told(client: AsyncClient, engine: FakeEngine) -> None:
    await client.create_topic("a", TopicOptions(partitions=2))
    assert (await client.describe_topic("a")).options.partitions == 2
    with pytest.raises(TopicNotFound) as topic:
        await client.describe_topic("b")
    assert topic.value.topic == "b"
    engine.known_groups = [group("g", "a", 5)]
    assert await client.get_consumer_lag("a", "g") == 5
    for name, other in (("a", "h"), ("b", "g")):
        with pytest.raises(GroupNotFound) as told:
            await client.get_consumer_lag(name, other)
        assert (told.value.group, told.value.topic) == (other, name)


async def test_the_lag_of_a_pattern_is_that_of_its_topics(client: AsyncClient, engine: FakeEngine) -> None:
    engine.known_groups = [group("g", "a/x", 1), group("g", "a/y", 2), group("h", "a/y", 40), group("g", "b", 80)]
    assert await client.get_consumer_lag("a/*", "g") == 3
    assert await client.get_consumer_lag("**", "g") == 83
    with pytest.raises(GroupNotFound):
        await client.get_consumer_lag("c/*", "g")


async def test_bad_names_do_not_reach_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    for call in (
        client.create_topic("a//b"),
        client.drop_topic("*"),
        client.describe_topic("a/*"),
        client.alter_topic("a/*", max_retries=1),
        client.statistics("a/*"),
        client.seek_group("", "g", "end"),
    ):
        with pytest.raises(InvalidTopic):
            await call
    for call in (client.create_group("a", " "), client.drop_group(""), client.seek_group("a", "", "end")):
        with pytest.raises(InvalidOption, match=r"^group="):
            await call
    assert (engine.known_topics, engine.specs, engine.starts) == ([], [], [])


@pytest.mark.parametrize(
    ("options", "capability"),
    [
        ({"partitions": 2}, Capability.PARTITIONS),
        ({"delivery": "at_most_once"}, Capability.AT_MOST_ONCE),
        ({"delivery": "exactly_once"}, Capability.DEDUPLICATION),
        ({"retention_messages": 5}, Capability.RETENTION_COUNT),
        ({"retention_bytes": 5}, Capability.RETENTION),
        ({"retention_period": 5}, Capability.RETENTION),
        ({"message_ttl": 5}, Capability.EXPIRY),
        ({"max_retries": 3}, Capability.DEAD_LETTERS),
        ({"dead_letter_topic": None}, Capability.DEAD_LETTERS),
        ({"max_length": 5}, Capability.MAX_LENGTH),
        ({"max_subscribers": 5}, Capability.MAX_SUBSCRIBERS),
        ({"compression": "gzip"}, Capability.COMPRESSION),
        ({"schema": ["n INT"]}, Capability.SCHEMA),
    ],
)
async def test_a_topic_asks_for_what_its_options_need(
    client: AsyncClient, engine: FakeEngine, options: dict[str, Any], capability: Capability
) -> None:
    """An engine that cannot do it says so, by creating and by altering; it still has topics without it."""
    engine.capabilities -= {capability}
    with pytest.raises(UnsupportedFeature) as told:
        await client.create_topic("a", TopicOptions(**options))
    assert (told.value.engine, told.value.feature) == ("fake", capability.value)
    await client.create_topic("a")
    with pytest.raises(UnsupportedFeature):
        await client.alter_topic("a", **options)
    assert (len(engine.known_topics), engine.altered) == (1, [])


async def test_altering_changes_what_is_named_and_nothing_else(client: AsyncClient, engine: FakeEngine) -> None:
    await client.create_topic("a", TopicOptions(partitions=3, max_retries=2, message_ttl=60))
    await client.alter_topic("a", max_retries=5, message_ttl=None, retry_delay=timedelta(minutes=1))
    ((name, options),) = engine.altered
    assert name == "a"
    assert options == TopicOptions(partitions=3, max_retries=5, retry_delay=60.0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"max_retires": 5}, "max_retires"),
        ({"max_retries": -1}, "max_retries"),
        ({"delivery": "twice"}, "delivery"),
        ({"message_ttl": 0}, "message_ttl"),
        ({"compression": "rar"}, "compression"),
        ({"overflow": "panic"}, "overflow"),
        ({"dead_letter_topic": "a//b"}, "dead_letter_topic"),
        ({"max_length": 2.5}, "max_length"),
        ({"max_retries": 5, "colour": "red"}, "colour"),
    ],
)
async def test_a_change_that_cannot_be_is_told_by_name(
    client: AsyncClient, engine: FakeEngine, changes: dict[str, Any], name: str
) -> None:
    await client.create_topic("a")
    with pytest.raises(InvalidOption) as told:
        await client.alter_topic("a", **changes)
    assert told.value.name == name
    assert engine.altered == []


async def test_altering_asks_for_the_ability_and_the_topic(client: AsyncClient, engine: FakeEngine) -> None:
    with pytest.raises(TopicNotFound):
        await client.alter_topic("a", max_retries=1)
    engine.capabilities -= {Capability.ALTER}
    await client.create_topic("a")
    with pytest.raises(UnsupportedFeature, match="changing the options"):
        await client.alter_topic("a", max_retries=1)
    assert engine.altered == []


async def test_options_hold_from_then_on(bus: Bus) -> None:
    client, _ = bus
    await client.create_topic("a", TopicOptions(partitions=2))
    altered = await client.alter_topic("a", max_retries=0)
    assert (altered.options.max_retries, altered.options.partitions) == (0, 2)
    assert (await client.describe_topic("a")).options == altered.options
    await client.create_group("a", "g")
    await client.publish("a", 1)
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        (message,) = await subscription.fetch(1)
        await message.nack()
    assert await client.dead_letters("a").count() == 1
    with pytest.raises(InvalidOption, match=r"^partitions="):
        await client.alter_topic("a", partitions=4)
    with pytest.raises(TopicExists):
        await client.create_topic("a", TopicOptions(partitions=2))
    assert (await client.create_topic("a", altered.options)).options == altered.options


async def test_a_schema_changes_so_that_nothing_breaks(bus: Bus) -> None:
    """Or with `force`; on an empty topic it may come, and nowhere may it just go."""
    client, _ = bus
    await client.create_topic("a")
    await client.alter_topic("a", schema=["n INT NOT NULL"])
    await client.publish("a", {"n": 1})
    for schema in (["n STRING NOT NULL"], ["n INT NOT NULL", "m INT NOT NULL"], None):
        with pytest.raises(IncompatibleSchema) as told:
            await client.alter_topic("a", schema=schema)
        assert told.value.topic == "a"
    await client.alter_topic("a", schema=["n INT NOT NULL", "m INT"])
    await client.alter_topic("a", schema=None, force=True)
    await client.publish("a", "anything")
    with pytest.raises(IncompatibleSchema, match="without a schema"):
        await client.alter_topic("a", schema=["n INT"])
    assert (await client.alter_topic("a", schema=["n INT"], force=True)).options.schema is not None
    assert [version.version for version in (await client.describe_topic("a")).schemas] == [1, 2, 3, 4]


# -- groups

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("to", "start"),
    [("beginning", "beginning"), ("end", "end"), (0, 0), (99, 99), (NOON, NOON.timestamp())],
)
async def test_seeking_says_where_to(client: AsyncClient, engine: FakeEngine, to: Any, start: Any) -> None:
    await client.seek_group("a", "g", to)
    assert engine.starts == [start]
    assert type(engine.starts[0]) is type(start)


async def test_a_while_ago_is_counted_from_the_clock_of_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    await client.seek_group("a", "g", timedelta(minutes=1))
    await client.create_group("a", "g", since=timedelta(minutes=1))
    assert (engine.starts[0], engine.specs[0].start) == (engine.hands.now() - 60, engine.hands.now() - 60)
    assert (engine.specs[0].group, engine.specs[0].ordering) == ("g", False)


@pytest.mark.parametrize("to", ["start", "", -1, True, None, 1.5, time.time, b"end"])
async def test_seeking_elsewhere_is_refused(client: AsyncClient, engine: FakeEngine, to: Any) -> None:
    """Above all it is not taken for the end, which would skip the backlog."""
    with pytest.raises(InvalidOption, match=r"^to="):
        await client.seek_group("a", "g", to)
    assert engine.starts == []


# -- scheduled messages


async def test_taking_back_is_the_engines_word(client: AsyncClient, engine: FakeEngine) -> None:
    scheduled = Receipt("id", "a", -1, -1, Durability.OS, scheduled=7)
    assert await client.cancel(scheduled) is True
    assert await client.cancel(Receipt("id", "a", 0, 0, Durability.OS)) is False
    assert engine.cancelled[0] is scheduled
    engine.capabilities -= {Capability.CANCEL}
    with pytest.raises(UnsupportedFeature, match="taking back a scheduled message"):
        await client.cancel(scheduled)


# -- statistics


async def test_rates_are_those_of_the_window(client: AsyncClient, engine: FakeEngine) -> None:
    engine.counts = counts("a", publish_rate=12.5, error_rate=0.25)
    assert await client.statistics("a") is engine.counts
    assert await client.get_error_rate("a", window=5) == 0.25
    assert await client.get_throughput("a", window=MAX_SCHEDULE_SECONDS) == 12.5
    assert await client.get_throughput("a") == 12.5
    assert engine.windows == [WINDOW_SECONDS, 5, MAX_SCHEDULE_SECONDS, WINDOW_SECONDS]


async def test_what_cannot_be_told_is_refused(client: AsyncClient, engine: FakeEngine) -> None:
    wrong: Any
    for call in (client.statistics, client.get_error_rate, client.get_throughput):
        for wrong in (0, -1, MAX_SCHEDULE_SECONDS + 1, "minute", None, True, float("nan")):
            with pytest.raises(InvalidOption, match=r"^window="):
                await call("a", wrong)
        with pytest.raises(TopicNotFound):
            await call("a")
    engine.capabilities -= {Capability.STATISTICS}
    with pytest.raises(UnsupportedFeature, match="statistics"):
        await client.statistics("a")


async def test_health_is_the_absence_of_problems(client: AsyncClient, engine: FakeEngine) -> None:
    assert await client.health() == Health(True, "fake", ())
    engine.wrong = ["the disk is full", "and slow"]
    assert await client.health() == Health(False, "fake", ("the disk is full", "and slow"))


async def test_the_numbers_of_a_bus(bus: Bus) -> None:
    client, clock = bus
    await client.create_group("a", "g")
    await client.publish_batch("a", range(30))
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        found = await subscription.fetch(4)
        await subscription.ack(found[:3])
        await found[3].nack(requeue=False)
    clock.advance(10)
    told = await client.statistics("a", window=20)
    assert (told.published, told.consumed, told.dead, told.pending, told.lag_seconds) == (30, 3, 1, 26, 10)
    assert await client.get_consumer_lag("a", "g") == 26
    assert await client.get_throughput("a", window=20) == pytest.approx(1.5)
    assert await client.get_error_rate("a") == pytest.approx(0.25)
    assert (await client.health()).ok
