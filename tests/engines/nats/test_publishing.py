"""Publishing: one confirmation for a batch, receipts, later, expiring, too large."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tests.engines.conftest import Open
from tidings import AsyncClient, MessageTooLarge, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.errors import BrokerRefused
from tidings.model.message import Record
from tidings.model.options import Durability, PublishOptions

PLAIN = PublishOptions(Durability.MEMORY)


def records(*numbers: int, key: str | None = None) -> list[Record]:
    return [Record(f"id-{number}", "application/json", b"%d" % number, key) for number in numbers]


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 2500])
async def test_a_batch_is_stored_in_order(engine: NatsEngine, count: int) -> None:
    receipts = await engine.publish("a", records(*range(count)), PLAIN)
    assert [receipt.offset for receipt in receipts] == list(range(count))
    assert [receipt.message_id for receipt in receipts] == [f"id-{number}" for number in range(count)]


async def test_a_batch_goes_to_its_partitions(engine: NatsEngine) -> None:
    await engine.create_topic("a", TopicOptions(partitions=3))
    receipts = await engine.publish("a", records(*range(30)), PLAIN)
    for partition in range(3):
        assert [each.offset for each in receipts if each.partition == partition] == list(range(10))
    assert len({receipt.partition for receipt in await engine.publish("a", records(*range(9), key="k"), PLAIN)}) == 1


async def test_batches_of_many_at_once_are_stored_whole(opened: Open) -> None:
    """Also where the server takes no more of them as one."""
    engines = [await opened() for _ in range(3)]
    lists = [records(*range(at, at + 20)) for at in range(0, 2000, 20)]
    async with asyncio.TaskGroup() as group:
        for at, each in enumerate(lists):
            group.create_task(engines[at % 3].publish("a", each, PLAIN))
    (info,) = await engines[0].topics(["a"])
    assert info.messages == 2000


async def test_a_server_that_takes_no_batch_gets_them_one_by_one(engine: NatsEngine) -> None:
    await engine.create_topic("a", TopicOptions())
    stream = f"{engine._names.bus}+a"
    config = (await engine._jetstream.call(f"STREAM.INFO.{stream}"))["config"]
    await engine._jetstream.call(f"STREAM.UPDATE.{stream}", {**config, "allow_atomic": False})
    assert [each.offset for each in await engine.publish("a", records(1, 2, 3), PLAIN)] == [0, 1, 2]


async def test_an_id_is_stored_once(engine: NatsEngine) -> None:
    await engine.create_topic("a", TopicOptions(delivery="exactly_once"))
    first = await engine.publish("a", records(1, 2), PLAIN)
    again = await engine.publish("a", records(2, 3, 1), PLAIN)
    assert [(each.offset, each.duplicate) for each in first] == [(0, False), (1, False)]
    assert [(each.offset, each.duplicate) for each in again] == [(1, True), (2, False), (0, True)]


async def test_what_expires_is_removed_by_the_server(
    client: AsyncClient, jetstream: JetStreamContext, engine: NatsEngine
) -> None:
    await client.publish("a", 1, ttl_seconds=600)
    found = await jetstream.get_msg(f"{engine._names.bus}+a", seq=1)
    assert found.headers is not None
    assert found.headers["Nats-TTL"] == "601s"


async def test_what_expires_is_kept_where_it_becomes_a_dead_letter(
    client: AsyncClient, jetstream: JetStreamContext, engine: NatsEngine
) -> None:
    await client.create_topic("a", TopicOptions(dead_letter_expired=True))
    await client.publish("a", 1, ttl_seconds=600)
    found = await jetstream.get_msg(f"{engine._names.bus}+a", seq=1)
    assert found.headers is not None
    assert "Nats-TTL" not in found.headers


async def test_what_is_too_large_is_refused_and_the_connection_lives(nats_url: str, prefix: str) -> None:
    """The server would close the connection."""
    async with AsyncClient(f"{nats_url}/{prefix}?subject_prefix={prefix}&max_message_bytes=8000000") as client:
        for size in (2_000_000, 1024 * 1024 - 10):
            with pytest.raises(MessageTooLarge, match=r"the limit is 1048576.*max_payload") as caught:
                await client.publish("a", b"x" * size)
            assert "max_message_bytes" not in str(caught.value)
        with pytest.raises(MessageTooLarge):
            await client.publish_batch("a", [b"x", b"x" * 2_000_000])
        assert (await client.publish("a", b"x" * 1_000_000)).offset == 0


async def test_a_message_of_the_server_s_full_size_can_be_buried(client: AsyncClient, raw: Client, prefix: str) -> None:
    """With what fits; it would come again for ever."""
    await client.create_topic("a", TopicOptions())
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        await raw.request(f"{prefix}.a", b"x" * 1024 * 1024, timeout=5)
        (message,) = await subscription.fetch(1, timeout=5)
        await message.nack(requeue=False, reason="no")
        (letter,) = await client.dead_letters("a").list()
        assert (letter.story.reason, letter.message.data) == ("no", "")
        assert letter.message.headers["tidings-dead-cut"] == str(1024 * 1024)


async def test_what_the_stream_does_not_take_is_refused(client: AsyncClient, engine: NatsEngine) -> None:
    await client.create_topic("a", TopicOptions())
    stream = f"{engine._names.bus}+a"
    config = (await engine._jetstream.call(f"STREAM.INFO.{stream}"))["config"]
    await engine._jetstream.call(f"STREAM.UPDATE.{stream}", {**config, "max_msg_size": 200})
    with pytest.raises(BrokerRefused, match="size"):
        await client.publish("a", "x" * 300)
    with pytest.raises(BrokerRefused, match="size"):
        await client.publish_batch("a", ["x", "x" * 300])
    assert (await client.describe_topic("a")).messages == 0


async def test_what_is_scheduled_can_be_taken_back_once(client: AsyncClient) -> None:
    await client.create_topic("a", TopicOptions(partitions=3))
    receipts = [await client.publish("a", number, delay_seconds=60) for number in range(6)]
    assert len({receipt.scheduled for receipt in receipts}) == 6
    assert [await client.cancel(receipt) for receipt in (*receipts, *receipts)] == [True] * 6 + [False] * 6
