"""Topics and groups of a bus: kept for all clients, with the queues and streams that belong to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings import AsyncClient
from tidings.engines.rabbitmq.catalog import Catalog
from tidings.engines.rabbitmq.channel import Parcel
from tidings.engines.rabbitmq.options import log_arguments, routing_key
from tidings.errors import BrokerRefused, GroupNotFound, TopicExists, TopicNotFound, Unroutable, UnsupportedFeature
from tidings.model.options import TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.testing.conformance.stage.place import until


@asynccontextmanager
async def catalog(bus: Bus) -> AsyncIterator[Catalog]:
    """The catalog of a bus whose exchanges a client has made."""
    async with AsyncClient(bus.url):
        found = Catalog(bus.link, bus.publisher, bus.names, bus.link.options, lambda: 17.0)
        await found.open()
        yield found
        await found.close()


def spec(*topics: str, group: str = "g") -> SubscriptionSpec:
    return SubscriptionSpec(patterns=parse_topics(list(topics)), group=group)


async def is_there(bus: Bus, queue: str) -> bool:
    channel = await bus.link.channel()
    try:
        await bus.link.ask(channel.rpc(commands.Queue.Declare(queue=queue, passive=True)))
    except BrokerRefused:
        return False
    return True


async def test_a_topic_is_known_to_all_with_its_options(bus: Bus) -> None:
    options = TopicOptions(max_retries=3)
    async with catalog(bus) as found, AsyncClient(bus.url) as other:
        assert (await found.create_topic("orders", options)).created == 17.0
        assert (await other.describe_topic("orders")).options == options
        assert await found.create_topic("orders", options) == found.topics["orders"]
        assert (await found.create_topic("orders", None)).options == options
        with pytest.raises(TopicExists, match="max_retries"):
            await found.create_topic("orders", TopicOptions(max_retries=4))


async def test_what_a_broker_has_forgotten_of_a_log_is_made_again(bus: Bus) -> None:
    """RabbitMQ may lose what was bound just before it died."""
    async with catalog(bus) as found:
        await found.create_topic("orders", None)
        log, exchange, key = bus.names.log("orders"), bus.names.exchange, routing_key("orders")
        await bus.link.once(commands.Queue.Unbind(queue=log, exchange=exchange, routing_key=key))
        await found.find_log("orders")
        await bus.publisher.send([Parcel(exchange, key, commands.Basic.Properties(), b"1")], "orders")
        await bus.link.once(commands.Queue.Delete(queue=log))
        with pytest.raises(Unroutable):
            await found.find_log("orders")


async def test_many_may_make_a_topic_and_publish_at_the_same_moment(url: str) -> None:
    """RabbitMQ breaks the connection of who publishes to a stream that another one is making."""
    clients = [AsyncClient(url) for _ in range(6)]
    await asyncio.gather(*(client.topics() for client in clients))
    for number in range(5):
        receipts = await asyncio.gather(*(client.publish(f"new/{number}", number) for client in clients))
        assert len({receipt.message_id for receipt in receipts}) == len(clients)
    await asyncio.gather(*(client.close() for client in clients))


async def test_who_makes_a_topic_first_decides(bus: Bus) -> None:
    async with catalog(bus) as one, AsyncClient(bus.url) as two:
        results = await asyncio.gather(
            one.create_topic("orders", TopicOptions(max_retries=1)),
            two.create_topic("orders", TopicOptions(max_retries=2)),
            return_exceptions=True,
        )
        assert sorted(isinstance(result, TopicExists) for result in results) == [False, True]
        await one.refresh()
        assert one.topics["orders"].options == (await two.describe_topic("orders")).options


async def test_a_change_of_options_and_a_topic_that_is_not_there(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_topic("orders", None)
        changed = replace(found.topics["orders"].options, retry_delay=7.0)
        assert (await found.alter_topic("orders", changed)).options.retry_delay == 7.0
        assert found.terms("orders").retry_delay == 7.0
        for call in (found.drop_topic("none"), found.alter_topic("none", changed)):
            with pytest.raises(TopicNotFound):
                await call


async def test_a_topic_has_its_log_and_loses_it(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_topic("orders", None)
        assert await is_there(bus, bus.names.log("orders"))
        await found.drop_topic("orders")
        assert "orders" not in found.topics
        assert not await is_there(bus, bus.names.log("orders"))
        await found.create_topic("fleeting", TopicOptions(delivery="at_most_once"))
        assert not await is_there(bus, bus.names.log("fleeting"))


async def test_a_log_that_somebody_deleted_is_made_again(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_topic("orders", None)
        channel = await bus.link.channel()
        await bus.link.ask(channel.rpc(commands.Queue.Delete(queue=bus.names.log("orders"))))
        assert await found.mend("orders")
        assert await is_there(bus, bus.names.log("orders"))


async def test_a_group_has_a_queue_for_each_pattern(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_group(spec("orders", "audit/*"))
        await found.create_group(spec("orders", "bills"))
        assert set(found.groups["g"].patterns) == {"orders", "audit/*", "bills"}
        queues = [bus.names.group("g", pattern) for pattern in ("orders", "audit/*", "bills")]
        assert [await is_there(bus, queue) for queue in queues] == [True, True, True]
        assert found.is_collected("audit/x")
        assert not found.is_collected("other")
        await found.drop_group("g")
        assert [await is_there(bus, queue) for queue in queues] == [False, False, False]
        with pytest.raises(GroupNotFound):
            await found.drop_group("g")


async def test_of_several_patterns_that_match_one_has_the_message(bus: Bus) -> None:
    """The oldest one: what another queue has of it is passed over there."""
    async with catalog(bus) as found:
        await found.create_group(spec("a/*"))
        found._now = lambda: 18.0
        await found.create_group(spec("a/x"))
        assert found.owner("g", "a/x") == bus.names.group("g", "a/*")
        assert found.owner("g", "b") is None
        assert found.owner("none", "a/x") is None


async def test_who_gives_up_making_a_group_leaves_no_channel(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_group(spec("orders", "bills"))
        connection = await bus.link.connection()
        before = dict(connection.channels)
        for turns in range(0, 400, 20):
            making = asyncio.ensure_future(found._make_queues("g", parse_topics(["orders", "bills"]), False))
            for _ in range(turns):
                await asyncio.sleep(0)
            making.cancel()
            await asyncio.wait((making,))
        await until(lambda: connection.channels == before)


async def test_followers_hear_of_new_topics(bus: Bus) -> None:
    heard: list[str] = []
    async with catalog(bus) as found, AsyncClient(bus.url) as other:
        found.followers.add(lambda entry: heard.append(entry.name))
        await other.create_topic("orders")
        await found.refresh()
        assert heard == ["orders"]


# -- bounds


DROPPING = TopicOptions(max_length=3, overflow="drop_oldest")


async def waiting(bus: Bus, queue: str) -> int:
    answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
    return int(answer.message_count)


async def left_of_five(bus: Bus, queue: str) -> int:
    """How many of five messages a queue keeps."""
    await bus.publisher.send([parcel(queue) for _ in range(5)], "orders")
    return await waiting(bus, queue)


async def test_the_broker_drops_what_is_beyond_the_bound_of_a_group(bus: Bus) -> None:
    async with catalog(bus) as found:
        await found.create_topic("orders", DROPPING)
        await found.create_group(spec("orders", "bills"))
        assert await left_of_five(bus, bus.names.group("g", "orders")) == 3
        assert await left_of_five(bus, bus.names.group("g", "bills")) == 5


async def test_a_bound_and_a_queue_of_many_topics_are_refused(bus: Bus) -> None:
    """Whichever is first, also when somebody else was it; nothing is made then."""
    async with catalog(bus) as found, AsyncClient(bus.url) as other:
        await other.create_topic("orders/new", TopicOptions(max_length=3))
        await found.refresh()
        with pytest.raises(UnsupportedFeature, match=r"'g' collects 'orders/\*'.*'orders/new'"):
            await found.create_group(spec("bills", "orders/*"))
        assert (set(found.topics), found.groups) == ({"orders/new"}, {})
        assert not await is_there(bus, bus.names.group("g", "bills"))
        await other.create_group("bills/*", "g")
        with pytest.raises(UnsupportedFeature, match=r"'g' collects 'bills/\*'"):
            await found.create_topic("bills/old", TopicOptions(max_length=3))
        await found.create_topic("bills/old", None)
        with pytest.raises(UnsupportedFeature, match="length of a topic"):
            await found.alter_topic("bills/old", DROPPING)
        assert found.terms("bills/old") == TopicOptions()
        assert list(found.collectors("orders/new")) == []


async def test_what_the_broker_keeps_of_a_bound_is_for_good(bus: Bus) -> None:
    """As long as a group is there; what publishers keep may change."""
    async with catalog(bus) as found:
        await found.create_topic("orders", TopicOptions(max_length=3))
        await found.create_group(spec("orders"))
        await found.alter_topic("orders", TopicOptions(max_length=4, overflow="block"))
        with pytest.raises(UnsupportedFeature, match="drop_group"):
            await found.alter_topic("orders", DROPPING)
        await found.drop_group("g")
        await found.alter_topic("orders", DROPPING)
        await found.create_group(spec("orders"))
        for options in (TopicOptions(), replace(DROPPING, max_length=4)):
            with pytest.raises(UnsupportedFeature, match="drop_group"):
                await found.alter_topic("orders", options)
        assert (await found.alter_topic("orders", replace(DROPPING, retry_delay=7.0))).options.retry_delay == 7.0
        await found.create_group(spec("orders"))


async def test_a_bound_goes_with_its_topic(bus: Bus) -> None:
    """Which nobody collects from any more: the queue of a group keeps it, and consumers are not told of another one."""
    async with catalog(bus) as found, catalog(bus) as other:
        await found.create_topic("orders", DROPPING)
        await other.create_group(spec("orders"))
        queue = bus.names.group("g", "orders")
        assert await left_of_five(bus, queue) == 3
        with pytest.raises(UnsupportedFeature, match="'g' has its queue already: drop_group"):
            await found.drop_topic("orders")
        assert (found.terms("orders"), await waiting(bus, queue)) == (DROPPING, 3)
        await other.drop_group("g")
        await found.drop_topic("orders")
        await other.create_group(spec("orders"))
        assert await left_of_five(bus, queue) == 5


async def test_a_topic_that_is_dropped_leaves_its_groups_their_queues(bus: Bus) -> None:
    """As new, and with who consumes from them; also those of a group of which this client has not heard yet."""
    async with catalog(bus) as found, catalog(bus) as other:
        await found.create_topic("orders", TopicOptions(max_length=9))
        await other.create_group(spec("orders"))
        queue = bus.names.group("g", "orders")
        await left_of_five(bus, queue)
        cancelled: list[str] = []
        channel = await bus.link.channel()
        channel.on_cancel = cancelled.append
        await bus.link.consume(channel, queue, "ann", 1)
        await found.drop_topic("orders")
        answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
        assert (answer.message_count, answer.consumer_count, cancelled) == (0, 1, [])


# -- retention


async def test_a_log_is_made_with_what_its_topic_keeps(bus: Bus) -> None:
    options = TopicOptions(retention_period=60, retention_bytes=10**7)
    log = bus.names.log("orders")
    async with catalog(bus) as found:
        await found.create_topic("orders", options)
        frame = commands.Queue.Declare(queue=log, durable=True, arguments=log_arguments(options))
        await bus.link.once(frame)  # as it is
        with pytest.raises(UnsupportedFeature, match=log):
            await found.alter_topic("orders", TopicOptions(retention_bytes=10**7))
        await found.alter_topic("orders", replace(options, retry_delay=7.0))
        assert found.terms("orders").retention_period == 60


async def test_what_is_not_kept_has_no_limits(bus: Bus) -> None:
    options = TopicOptions(delivery="at_most_once", retention_period=60)
    async with catalog(bus) as found:
        with pytest.raises(UnsupportedFeature, match="retention"):
            await found.create_topic("fleeting", options)
        assert "fleeting" not in found.topics
        await found.create_topic("fleeting", TopicOptions(delivery="at_most_once"))
        with pytest.raises(UnsupportedFeature, match="retention"):
            await found.alter_topic("fleeting", options)
        await found.alter_topic("fleeting", TopicOptions(retention_period=60))
        assert await is_there(bus, bus.names.log("fleeting"))
