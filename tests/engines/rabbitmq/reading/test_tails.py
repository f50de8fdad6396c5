"""Temporary subscriptions: a queue of their own, or the logs of the topics."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, TopicOptions, UnsupportedFeature
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy


async def take(subscription: AsyncSubscription, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        more = await subscription.fetch(count - len(found), timeout=20)
        assert more, f"{len(found)} of {count} came"
        found += [message.data for message in more]
    return found


def port_of(url: str) -> int:
    return int(url.partition("@")[2].partition("/")[0].rpartition(":")[2])


async def test_a_lost_connection_is_a_gap(url: str) -> None:
    with FaultProxy("127.0.0.1", port_of(url)) as proxy:
        async with AsyncClient(url) as publisher, AsyncClient(proxy.url(url)) as client:
            async with client.subscribe("news") as subscription:
                await publisher.publish("news", 1)
                assert await take(subscription, 1) == [1]
                proxy.cut()
                await until(lambda: subscription.gaps)
                (gap,) = subscription.gaps
                assert gap.since <= gap.until
                await publisher.publish("news", 2)
                assert await take(subscription, 1) == [2]


async def test_a_log_leaves_no_gap(url: str) -> None:
    with FaultProxy("127.0.0.1", port_of(url)) as proxy:
        async with AsyncClient(url) as publisher, AsyncClient(proxy.url(url)) as client:
            await publisher.publish_batch("news", range(10))
            async with client.subscribe("news", from_beginning=True) as subscription:
                assert await take(subscription, 5) == list(range(5))
                proxy.cut()
                await publisher.publish_batch("news", range(10, 20))
                assert await take(subscription, 15) == list(range(5, 20))
                assert not subscription.gaps


async def test_a_log_is_read_from_where_one_wants(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.publish_batch("news", range(10))
        async with client.subscribe("news", from_offset=7) as subscription:
            (first, *_) = found = await subscription.fetch(3, timeout=10)
            assert [message.data for message in found] == [7, 8, 9][: len(found)]
            assert first.offset == 7
        async with client.subscribe("news", since=timedelta(hours=1)) as subscription:
            assert await take(subscription, 10) == list(range(10))


async def test_what_is_older_than_its_topic_keeps_is_not_read(url: str) -> None:
    """Though the broker removes it later: when more has come."""
    async with AsyncClient(url) as client:
        await client.create_topic("news", TopicOptions(retention_period=1.0))
        await client.publish("news", "old")

        async def is_gone() -> bool:
            await client.publish("news", "new")
            async with client.subscribe("news", from_beginning=True) as subscription:
                return await take(subscription, 1) == ["new"]

        await until(is_gone)


async def test_the_logs_of_topics_that_appear_are_read_from_the_first_message(url: str) -> None:
    async with AsyncClient(url) as client, AsyncClient(url) as other:
        async with client.subscribe("news/*", from_beginning=True) as subscription:
            for number in range(3):
                await other.publish_batch(f"news/{number}", [number, number])
            assert sorted(await take(subscription, 6)) == [0, 0, 1, 1, 2, 2]


async def test_a_topic_without_a_log_is_not_read_again(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.create_topic("news", TopicOptions(delivery="at_most_once"))
        with pytest.raises(UnsupportedFeature, match="replay"):
            await client.subscribe("news", from_beginning=True).open()
