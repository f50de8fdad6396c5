"""Topics and groups of a bus: kept for all clients, with the queues and streams that belong to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus
from tidings import AsyncClient
from tidings.engines.rabbitmq.catalog import Catalog
from tidings.errors import BrokerRefused, GroupNotFound, TopicExists, TopicNotFound
from tidings.model.options import TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics


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


async def test_followers_hear_of_new_topics(bus: Bus) -> None:
    heard: list[str] = []
    async with catalog(bus) as found, AsyncClient(bus.url) as other:
        found.followers.add(lambda entry: heard.append(entry.name))
        await other.create_topic("orders")
        await found.refresh()
        assert heard == ["orders"]
