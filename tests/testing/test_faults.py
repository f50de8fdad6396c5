"""A faulty engine, blocking and asynchronous: a user of it sees the faults, and the engine keeps its promises."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

import pytest

from tidings import AsyncClient, Client, PublishFailed, PublishUnknown, TopicOptions
from tidings.engines.embedded.aio import AsyncEmbeddedEngine
from tidings.engines.embedded.bus import BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.testing.conformance.stage.place import KINDS, data, expect_nothing, take, until
from tidings.testing.conformance.stage.threads import InThreads
from tidings.testing.faults import AsyncFaultyEngine, Disconnected, Faults, FaultyEngine

Case = Callable[..., Awaitable[None]]


def with_client(**chances: Any) -> Callable[[Case], Callable[..., None]]:
    """Run `async def test_...(client, faults)` with both clients, each on a fresh bus behind these faults."""

    def decorate(test: Case) -> Callable[..., None]:
        async def run(kind: str) -> None:
            faults = Faults(**chances)
            engine = EmbeddedEngine(uuid4().hex, BusOptions(), memory=True)
            with ThreadPoolExecutor(8) as threads:
                client: AsyncClient
                if kind == "async":
                    client = AsyncClient(AsyncFaultyEngine(AsyncEmbeddedEngine(engine), faults))
                else:
                    client = cast(AsyncClient, InThreads(Client(FaultyEngine(engine, faults)), threads))
                async with client:
                    await test(client, faults)
                assert engine.closed

        @pytest.mark.parametrize("kind", KINDS)
        def wrapped(kind: str) -> None:
            asyncio.run(run(kind))

        functools.update_wrapper(wrapped, test, assigned=("__name__", "__doc__", "__module__"), updated=())
        del wrapped.__wrapped__  # type: ignore[attr-defined]
        return wrapped

    return decorate


@with_client()
async def test_without_faults_it_is_the_engine(client: AsyncClient, faults: Faults) -> None:
    """Every call gets through: publishing, reading, settling, topics, groups, statistics."""
    await client.create_topic("t", TopicOptions(max_retries=0))
    await client.alter_topic("t", max_retries=3)
    await client.create_group("t", "g")
    receipts = await client.publish_batch("t", range(3))
    late = await client.publish("t", "late", delay_seconds=60)
    assert await client.cancel(late)
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        found = await take(subscription, 3)
        assert data(found) == [0, 1, 2]
        await subscription.ack(found[:2])
        async with found[2].transaction() as transaction:
            await transaction.publish("other", "out")
            await transaction.ack()
    assert [receipt.offset for receipt in receipts] == [0, 1, 2]
    assert await client.get_consumer_lag("t", "g") == 0
    await client.seek_group("t", "g", "beginning")
    assert await client.get_consumer_lag("t", "g") == 3
    assert [info.name for info in await client.topics()] == ["other", "t"]
    assert (await client.statistics("t")).published == 3
    assert (await client.health()).ok
    await client.drop_group("g")
    await client.drop_topic("other")
    assert faults.injected == []


@with_client(script=[("publish", "lose"), ("publish", "disconnect"), ("publish", "repeat")])
async def test_a_publish_fails_before_or_after_or_is_stored_twice(client: AsyncClient, faults: Faults) -> None:
    async with client.subscribe("t") as subscription:
        with pytest.raises(PublishFailed) as failed:
            await client.publish("t", "lost")
        assert failed.value.retryable
        with pytest.raises(PublishUnknown) as unknown:
            await client.publish("t", "unknown", message_id="u")
        assert unknown.value.message_ids == ("u",)
        receipt = await client.publish("t", "twice")
        await client.publish("t", "last")
        found = await take(subscription, 4)
    assert data(found) == ["unknown", "twice", "twice", "last"]
    assert found[1].id == found[2].id == receipt.message_id
    assert receipt.offset == found[1].offset
    assert [fault.kind for fault in faults.injected] == ["lose", "disconnect", "repeat"]


@with_client(script=[("publish", "disconnect"), ("publish", "repeat")])
async def test_an_exactly_once_topic_gets_over_it(client: AsyncClient, faults: Faults) -> None:
    """Publishing again with the same id, and a network that repeats, leave one message each."""
    await client.create_topic("t", TopicOptions(delivery="exactly_once"))
    async with client.subscribe("t") as subscription:
        with pytest.raises(PublishUnknown) as unknown:
            await client.publish("t", "first", message_id="one")
        (message_id,) = unknown.value.message_ids
        again = await client.publish("t", "first", message_id=message_id)
        assert again.duplicate
        await client.publish("t", "second")
        assert data(await take(subscription, 2)) == ["first", "second"]
        await expect_nothing(subscription)


@with_client(script=[("delivery", "lose")])
async def test_a_lost_delivery_comes_back_when_its_consumer_leaves(client: AsyncClient, faults: Faults) -> None:
    await client.create_group("t", "g")
    await client.publish_batch("t", range(3))
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        found = await take(subscription, 2)
        assert data(found) == [1, 2]
        await subscription.ack(found)
        await expect_nothing(subscription)
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        assert [(message.data, message.attempt) for message in await take(subscription, 1)] == [(0, 1)]


@with_client(script=[("delivery", "repeat"), ("delivery", "delay")])
async def test_deliveries_are_repeated_and_overtaken(client: AsyncClient, faults: Faults) -> None:
    """Each can be settled; acking the same message twice does no harm."""
    await client.create_group("t", "g")
    await client.publish_batch("t", range(4))
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        found = await take(subscription, 5)
        assert Counter(data(found)) == {0: 2, 1: 1, 2: 1, 3: 1}
        assert data(found).index(1) > data(found).index(3)
        for message in found:
            await message.ack()
        await expect_nothing(subscription)
    assert await client.get_consumer_lag("t", "g") == 0
    assert [fault.kind for fault in faults.injected] == ["repeat", "delay"]


@with_client(script=[("fetch", "reorder")])
async def test_a_fetch_is_reordered(client: AsyncClient, faults: Faults) -> None:
    async with client.subscribe("t") as subscription:
        await client.publish_batch("t", range(6))
        found = data(await take(subscription, 6))
        assert sorted(found) == list(range(6))
        assert found != sorted(found)


@with_client(script=[("fetch", "disconnect"), ("settle", "lose"), ("settle", "disconnect")])
async def test_calls_of_a_consumer_fail_and_can_be_made_again(client: AsyncClient, faults: Faults) -> None:
    """What was not recorded is not; what was recorded, with the answer lost, is."""
    await client.create_group("t", "g")
    await client.publish_batch("t", range(2))
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        with pytest.raises(Disconnected) as caught:
            await subscription.fetch(2, timeout=1)
        assert caught.value.retryable
        first, second = await take(subscription, 2)
        with pytest.raises(Disconnected):
            await first.ack()
        assert await client.get_consumer_lag("t", "g") == 2
        with pytest.raises(Disconnected):
            await first.ack()
        assert await client.get_consumer_lag("t", "g") == 1
        await first.ack()
        await second.ack()
    assert await client.get_consumer_lag("t", "g") == 0


@with_client(script=[("commit", "disconnect")])
async def test_a_commit_fails_whole(client: AsyncClient, faults: Faults) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        await client.publish("t", "x")
        (message,) = await take(subscription, 1)
        for attempt in range(2):
            try:
                async with message.transaction() as transaction:
                    await transaction.publish("out", attempt)
                    await transaction.ack()
            except Disconnected:
                assert await client.get_consumer_lag("t", "g") == 1
    assert await client.get_consumer_lag("t", "g") == 0
    async with client.subscribe("out", from_beginning=True) as outputs:
        assert data(await take(outputs, 1)) == [1]
        await expect_nothing(outputs)


@with_client()
async def test_a_cut_connection_fails_everything_until_it_is_mended(client: AsyncClient, faults: Faults) -> None:
    """Also a fetch that waits, and also the settlements of what is held; nothing of it is done."""
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        await client.publish("t", "x")
        (message,) = await take(subscription, 1)
        waiting = asyncio.ensure_future(subscription.fetch(1, timeout=None))
        faults.disconnect()
        with pytest.raises(Disconnected):
            await asyncio.wait_for(waiting, 10)
        calls: list[Callable[[], Awaitable[Any]]] = [
            message.ack,
            client.topics,
            functools.partial(client.publish, "t", 1),
            functools.partial(client.create_topic, "u"),
            functools.partial(client.statistics, "t"),
        ]
        for call in calls:
            with pytest.raises(Disconnected):
                await call()
        faults.reconnect()
        assert await client.get_consumer_lag("t", "g") == 1
        await message.ack()
        await client.publish("t", "y")
        assert data(await take(subscription, 1)) == ["y"]


@with_client(seed=11, lose=0.1, repeat=0.1, delay=0.1, reorder=0.1, disconnect=0.05)
async def test_a_program_that_tries_again_gets_everything_done(client: AsyncClient, faults: Faults) -> None:
    """A seed of many faults: publishing again, and consumers that come back, bring each message through."""

    async def again(call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await call()
            except (Disconnected, PublishUnknown):
                continue

    await again(lambda: client.create_topic("t", TopicOptions(delivery="exactly_once")))
    await again(lambda: client.create_group("t", "g"))
    for number in range(100):
        await again(functools.partial(client.publish, "t", number, message_id=f"n{number}"))
    seen: Counter[int] = Counter()

    async def consume() -> bool:
        try:
            async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
                for message in await subscription.fetch(20, timeout=0.1):
                    await message.ack()
                    seen[message.data] += 1
        except Disconnected:
            pass
        lag: int = await again(lambda: client.get_consumer_lag("t", "g"))
        return lag == 0

    await until(consume)
    assert {fault.kind for fault in faults.injected} == {"lose", "repeat", "delay", "reorder", "disconnect"}
    assert set(seen) <= set(range(100))
    stored = await again(lambda: client.describe_topic("t"))
    assert stored.messages == 100
