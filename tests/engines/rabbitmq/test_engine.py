"""The engine: what it says of itself, what a receipt proves, and other people's exchanges."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pamqp import commands

from tests.brokers.faults.stage import proxy_for
from tests.engines.conftest import Open
from tests.engines.rabbitmq.conftest import Bus
from tests.engines.redis import hands
from tidings import AsyncClient, Client, Durability, InvalidOption, InvalidURL, TopicOptions, UnsupportedFeature
from tidings.engines.rabbitmq.channel import Parcel
from tidings.engines.rabbitmq.errors import Gone
from tidings.errors import BrokerRefused, BrokerUnavailable, TopicFull, Unroutable
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.place import until
from tidings.testing.servers.process import free_port


async def test_a_log_reaches_os_and_disk_is_refused(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.publish("orders", 1)).durability is Durability.OS
        for level in ("disk", "quorum"):
            with pytest.raises(UnsupportedFeature, match=level):
                await client.publish("orders", 1, durability=level)


async def test_without_a_log_a_group_proves_disk(url: str) -> None:
    async with AsyncClient(f"{url}&replay=false") as client:
        await client.create_group("orders", "billing")
        assert (await client.publish("orders", 1)).durability is Durability.DISK
        assert (await client.publish("orders", 1, durability="disk")).durability is Durability.DISK
        with pytest.raises(UnsupportedFeature, match="replay"):
            await client.subscribe("orders", from_beginning=True).open()


async def test_without_a_log_what_nobody_takes_is_an_error(url: str) -> None:
    async with AsyncClient(f"{url}&replay=false") as client:
        with pytest.raises(Unroutable) as caught:
            await client.publish("orders", 1)
        assert caught.value.topic == "orders"
        async with client.subscribe("orders"):
            assert (await client.publish("orders", 1)).durability is Durability.MEMORY


async def test_dead_letters_are_kept_without_logs_too(url: str) -> None:
    async with AsyncClient(f"{url}&replay=false") as client:
        async with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
            await client.create_group("dead-letters/orders", "undertaker")
            await client.publish("orders", "bad")
            (message,) = await subscription.fetch(1, timeout=10)
            await message.nack(requeue=False, reason="bad")
        async with client.subscribe("dead-letters/orders", consumer_group="undertaker") as letters:
            (dead,) = await letters.fetch(1, timeout=10)
    assert (dead.data, dead.headers["tidings-dead-reason"]) == ("bad", "bad")


@pytest.mark.parametrize("kind", ["fanout", "direct", "topic"])
async def test_an_exchange_of_others_is_used_as_it_is(bus: Bus, amqp_url: str, kind: str) -> None:
    """Both ways: what a foreign program publishes there belongs to the topic that is subscribed."""
    name = f"logs{uuid4().hex[:8]}"
    channel = await bus.link.channel()
    declare = commands.Exchange.Declare(exchange=name, exchange_type=kind, durable=False)
    await bus.link.ask(channel.rpc(declare))
    queue = await bus.link.declare(channel, "", {}, exclusive=True)
    await bus.link.bind(channel, queue, name, "news")
    arrived: list[bytes] = []
    channel.on_arrival = lambda arrival: arrived.append(arrival.body)
    await bus.link.consume(channel, queue, "", 10)
    key = "" if kind == "fanout" else "news"
    async with AsyncClient(f"{amqp_url}?exchange={name}&exchange_type={kind}&durable=false&replay=false") as client:
        async with client.subscribe("news") as subscription:
            await bus.publisher.send([Parcel(name, key, commands.Basic.Properties(), b'{"a": 1}')], "news")
            (foreign,) = await subscription.fetch(1, timeout=10)
            assert (foreign.topic, foreign.data) == ("news", {"a": 1})
            await client.publish("news", "ours")
            (ours,) = await subscription.fetch(1, timeout=10)
            assert ours.data == "ours"
    await until(lambda: b"ours" in arrived)


async def test_what_a_plain_program_sends(bus: Bus) -> None:
    """As the page says: nobody has what went to a key to which nothing is bound, and some headers have no text."""
    odd: dict[str, Any] = {"list": [1], "table": {"a": 1}, "bytes": bytearray(b"\xff")}
    headers = {"text": "a", "number": 5, "boolean": True, "time": datetime(2026, 1, 2, tzinfo=UTC), **odd}
    plain = Parcel(bus.names.exchange, "orders", commands.Basic.Properties(message_id="plain", headers=headers), b"1")
    async with AsyncClient(bus.url) as client:
        flight = await (await bus.publisher.channel()).publish([plain])
        await flight.landed
        assert flight.returned == 1
        await client.create_topic("orders")
        await bus.publisher.send([plain], "orders")
        async with client.subscribe("orders", from_beginning=True) as subscription:
            (message,) = await subscription.fetch(2, timeout=10)
            assert dict(message.headers) == {
                "text": "a",
                "number": "5",
                "boolean": "True",
                "time": "2026-01-02 00:00:00+00:00",
            }


async def test_a_dead_letter_whose_headers_do_not_fit_has_its_story(bus: Bus) -> None:
    """Another program's headers may fill the frame that they have to fit into; ours would break the connection."""
    async with AsyncClient(bus.url) as client:
        async with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
            for size in (131_000, 10):
                properties = commands.Basic.Properties(headers={"trace": "x" * size})
                await bus.publisher.send([Parcel(bus.names.exchange, "orders", properties, b"1")], "orders")
            (large,) = await subscription.fetch(1, timeout=10)
            (small,) = await subscription.fetch(1, timeout=10)
            for message in (large, small):
                await message.nack(requeue=False, reason="bad")
        letters = await client.dead_letters("orders").list()
        assert [(each.story.reason, len(each.message.headers.get("trace", ""))) for each in letters] == [
            ("bad", 0),
            ("bad", 10),
        ]


async def test_an_exchange_of_another_kind_is_told(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.publish("orders", 1)
    with pytest.raises(BrokerRefused, match="otherwise"):
        async with AsyncClient(f"{url}&exchange_type=fanout"):
            pass


@pytest.mark.parametrize("has_bus", [False, True], ids=["foreign", "ours"])
async def test_a_client_that_is_refused_leaves_nothing_behind(bus: Bus, has_bus: bool) -> None:
    """Not its connection, on which nobody would close it, nor a catalog beside an exchange of somebody else."""
    if has_bus:
        async with AsyncClient(bus.url):
            pass
    else:
        channel = await bus.link.channel()
        await bus.link.ask(channel.rpc(commands.Exchange.Declare(exchange=bus.names.exchange, exchange_type="direct")))
    with proxy_for(bus.url) as proxy:
        for _ in range(3):
            with pytest.raises(BrokerRefused, match="otherwise"):
                await AsyncClient(f"{proxy.url(bus.url)}&exchange_type=fanout&durable=false").__aenter__()
        await until(lambda: proxy.connections == 0)
    if not has_bus:
        with pytest.raises(Gone):
            await bus.link.once(commands.Queue.Declare(queue=bus.names.catalog, passive=True))


async def test_what_is_wrong_with_a_url_is_told_before_connecting(amqp_url: str) -> None:
    for wrong in ("exchange=", "exchange=a%2Ab"):
        with pytest.raises(InvalidURL, match="exchange"):
            AsyncClient(f"{amqp_url}?{wrong}")
    with pytest.raises((InvalidOption, InvalidURL), match="exchange_type"):
        AsyncClient(f"{amqp_url}?exchange_type=round")


def test_a_broker_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        Client(f"amqp://me:secret@127.0.0.1:{free_port()}/").publish("orders", 1)
    assert "secret" not in str(caught.value)


async def test_an_exchange_that_knows_no_topics_has_no_bounds(amqp_url: str) -> None:
    for kind in ("fanout", "headers"):
        with pytest.raises(UnsupportedFeature, match="length of a topic"):
            async with AsyncClient(f"{amqp_url}?exchange=x{uuid4().hex[:8]}&exchange_type={kind}") as client:
                await client.create_topic("orders", TopicOptions(max_length=3))


async def test_limits_of_logs_that_are_not_kept_are_refused(url: str) -> None:
    async with AsyncClient(f"{url}&replay=false") as client:
        assert Capability.RETENTION not in client.capabilities
        with pytest.raises(UnsupportedFeature, match="retention"):
            await client.create_topic("orders", TopicOptions(retention_period=60))


async def test_a_full_topic_refuses_and_takes_retries_and_what_was_scheduled(url: str) -> None:
    """They were accepted before."""
    async with AsyncClient(url) as client, AsyncClient(url) as other:
        await client.create_topic("jobs", TopicOptions(max_length=2, retry_delay=0, retry_max_delay=0))
        await client.create_group("jobs", "workers")
        await client.publish("jobs", "later", delay_seconds=2)
        async with client.subscribe("jobs", consumer_group="workers", auto_ack=False, prefetch=1) as subscription:
            await client.publish("jobs", "first")
            (first,) = await subscription.fetch(1, timeout=10)
            await client.publish_batch("jobs", [1, 2])
            with pytest.raises(TopicFull):
                await other.publish("jobs", 3)
            await first.nack()
            found: list[object] = []
            while len(found) < 4:
                for message in await subscription.fetch(1, timeout=20):
                    await message.ack()
                    found.append(message.data)
            assert sorted(found, key=str) == [1, 2, "first", "later"]
            await other.publish("jobs", 3)


async def test_groups_are_listed_and_lag_is_refused(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.create_group("orders/*", "billing", filter="total > 1")
        await client.create_topic("orders/new")
        (info,) = await client.groups()
        assert (info.group, info.topic, info.filter, info.lag) == ("billing", "orders/new", "total > 1", -1)
        with pytest.raises(UnsupportedFeature, match="lag"):
            await client.get_consumer_lag("orders/new", "billing")


async def test_a_feed_that_cannot_be_closed_leaves_no_connection(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await opened()
    feed = await hands.consumer(engine, "jobs")
    connection, close = await engine._link.connection(), feed.close

    async def fail() -> None:
        await close()
        raise OSError("the disk of the handler is full")

    monkeypatch.setattr(feed, "close", fail)
    with pytest.raises(OSError, match="full"):
        await engine.close()
    assert not connection.is_opened
    assert engine._catalog._ledger._following.done()
    monkeypatch.undo()
