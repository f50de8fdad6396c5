"""The blocking client in the clothes of the async one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tidings import AsyncClient, Client, InvalidTopic
from tidings.testing.conformance.stage.place import until
from tidings.testing.conformance.stage.threads import InThreads


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def client(threads: ThreadPoolExecutor) -> AsyncClient:
    return cast(AsyncClient, InThreads(Client("memory:"), threads))


async def test_it_publishes_and_reads_like_the_async_one(client: AsyncClient) -> None:
    async with client, client.subscribe("a", auto_ack=False, consumer_group="g") as subscription:
        receipts = await client.publish_batch("a", [{"n": number} for number in range(5)])
        assert [receipt.offset for receipt in receipts] == list(range(5))
        first, second = await subscription.fetch(2, timeout=5)
        assert (first["n"], second.data, first.attempt) == (0, {"n": 1}, 1)
        await first.ack()
        await subscription.ack([second])
        assert subscription.statistics().acked == 2
        async for message in subscription:
            assert message.offset == 2
            break
        async for batch in subscription.batches(max_messages=10):
            assert [message.offset for message in batch] == [3, 4]
            break


async def test_calls_run_in_threads_of_their_own(client: AsyncClient, threads: ThreadPoolExecutor) -> None:
    seen: list[Any] = []
    async with client:
        listener = await client.listen("a", lambda message: seen.append(message.data))
        async with client.subscribe("a") as subscription:
            waiting = asyncio.ensure_future(subscription.fetch(1, timeout=None))
            await client.publish("a", 1)
            assert [message.data for message in await waiting] == [1]
        await until(lambda: seen, within=10)
        await listener.stop()
        assert listener.failed == 0
    assert seen == [1]
    here = threading.get_ident()
    found = await InThreads(_Spy(), threads).where()
    assert found != here


async def test_transactions_dead_letters_and_typed_data_wear_the_same_clothes(client: AsyncClient) -> None:
    async with client, client.subscribe("a", auto_ack=False, consumer_group="g", data_type=_Order) as subscription:
        await client.publish_batch("a", [{"number": number} for number in range(4)])
        first, second, third, last = await subscription.fetch(4, timeout=5)
        assert first.data == _Order(0)
        async with first.transaction() as transaction:
            await transaction.publish("out", "one")
            await transaction.ack()
        async with subscription.transaction([second, third], durability="memory") as transaction:
            await transaction.ack([second])
        assert await client.get_consumer_lag("a", "g") == 2
        with pytest.raises(LookupError):
            await _fail_in(third.transaction())
        await last.nack(requeue=False, reason="as wanted")
        (dead,) = await client.dead_letters("a").list(filter=lambda each: each.story.reason == "as wanted")
        assert (dead.message.data, dead.story.topic) == ({"number": 3}, "a")
        statistics = await client.statistics("a")
        assert (statistics.consumed, statistics.dead, subscription.statistics().acked) == (2, 1, 2)


async def _fail_in(transaction: Any) -> None:
    async with transaction:
        await transaction.ack()
        raise LookupError("as wanted")


@dataclass
class _Order:
    number: int


class _Spy:
    def where(self) -> int:
        return threading.get_ident()


async def test_a_loop_ends_and_errors_arrive(client: AsyncClient) -> None:
    async with client:
        with pytest.raises(InvalidTopic):
            await client.publish("a//b", 1)
        with pytest.raises(InvalidTopic):
            client.subscribe("")
        subscription = client.subscribe("a")
        await subscription.close()
        assert [message async for message in subscription] == []
