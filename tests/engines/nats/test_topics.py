"""Topics and their streams."""

from __future__ import annotations

import asyncio

import pytest
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from tests.engines.conftest import Open
from tidings import AsyncClient, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.engines.nats.server.errors import NoResponder
from tidings.engines.nats.server.jetstream import PubAck
from tidings.errors import BrokerRefused, InvalidOption, InvalidTopic, TopicExists, TopicNotFound

KEPT = TopicOptions(partitions=2, retention_period=60, retention_bytes=10_000, retention_messages=5)


async def test_a_topic_is_a_stream_for_each_partition(
    engine: NatsEngine, jetstream: JetStreamContext, prefix: str
) -> None:
    info = await engine.create_topic("orders.placed", KEPT)
    assert [each.partition for each in info.partitions] == [0, 1]
    bus = engine._names.bus
    for name, subject in ((f"{bus}+orders_placed", f"{prefix}.orders.placed"), (f"{bus}+orders_placed+1", None)):
        config = (await jetstream.stream_info(name)).config
        assert (config.max_age, config.max_bytes, config.max_msgs) == (60, 10_000, 5)
        assert config.subjects is not None
        assert subject in (None, config.subjects[0])


async def test_the_first_options_hold(opened: Open) -> None:
    one, other = await opened(), await opened()
    await one.create_topic("a", TopicOptions(partitions=2))
    await other.create_topic("a", TopicOptions(partitions=2))
    with pytest.raises(TopicExists):
        await other.create_topic("a", TopicOptions())


async def test_new_options_reach_the_server(engine: NatsEngine, jetstream: JetStreamContext) -> None:
    await engine.create_topic("a", TopicOptions())
    await engine.alter_topic("a", TopicOptions(retention_messages=3))
    assert (await jetstream.stream_info(f"{engine._names.bus}+a")).config.max_msgs == 3
    with pytest.raises(InvalidOption):
        await engine.alter_topic("a", TopicOptions(partitions=2))


async def test_a_dropped_topic_leaves_nothing(engine: NatsEngine, jetstream: JetStreamContext) -> None:
    await engine.create_topic("a", TopicOptions(partitions=2))
    await engine.drop_topic("a")
    for name in ("a", "a+1"):
        with pytest.raises(NotFoundError):
            await jetstream.stream_info(f"{engine._names.bus}+{name}")
    with pytest.raises(TopicNotFound):
        await engine.drop_topic("a")


async def test_a_subject_of_another_stream_is_refused(
    engine: NatsEngine, jetstream: JetStreamContext, prefix: str
) -> None:
    """And told how it is; there is no half of a topic."""
    await jetstream.add_stream(name=prefix, subjects=[f"{prefix}.theirs.>"])
    with pytest.raises(BrokerRefused, match="another stream has the subject"):
        await engine.create_topic("theirs.a", TopicOptions())
    assert await engine.topics() == []
    await jetstream.delete_stream(prefix)
    await engine.create_topic("theirs.a", TopicOptions(partitions=2))


async def test_an_id_cannot_outlive_its_message(engine: NatsEngine) -> None:
    with pytest.raises(InvalidOption, match="retention_period"):
        await engine.create_topic("a", TopicOptions(delivery="exactly_once", retention_period=10, dedup_window=60))
    await engine.create_topic("a", TopicOptions(delivery="exactly_once", retention_period=60, dedup_window=60))


async def test_a_stream_that_was_lost_is_made_again(client: AsyncClient, engine: NatsEngine, raw: object) -> None:
    await client.publish("a", 1)
    await engine._jetstream.call(f"STREAM.DELETE.{engine._names.bus}+a")
    assert (await client.publish("a", 2)).offset == 0
    async with client.subscribe("a", from_beginning=True) as subscription:
        assert [each.data for each in await subscription.fetch(2, timeout=5)] == [2]


async def test_names_are_checked(engine: NatsEngine) -> None:
    with pytest.raises(InvalidTopic):
        await engine.create_topic("a//b", TopicOptions())


async def test_a_leader_that_is_being_elected_is_waited_for(
    engine: NatsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes an entry meanwhile, and nobody else has made the topic."""
    elected, store = asyncio.Event(), engine._catalog._jetstream.store
    asyncio.get_running_loop().call_later(0.4, elected.set)

    async def electing(subject: str, body: bytes, headers: dict[str, str] | None = None) -> PubAck:
        if not elected.is_set():
            raise NoResponder("no leader")
        return await store(subject, body, headers)

    monkeypatch.setattr(engine._catalog._jetstream, "store", electing)
    assert (await engine.create_topic("orders", TopicOptions())).name == "orders"
