"""ZeroMQ has no broker; what breaks is the way from a publisher to a subscriber, who is told what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.brokers.faults.stage import CALM_SECONDS, proxy_for, rest, taken
from tidings import AsyncClient, AsyncSubscription
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers.process import free_port

TOPIC = "sensors/1"


@pytest.fixture
def url() -> str:
    return f"zmq+tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def proxy(url: str) -> Iterator[FaultProxy]:
    with proxy_for(url) as made:
        yield made


@pytest.fixture
async def publisher(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url) as client:
        await client.publish(TOPIC, "it listens from here on")
        yield client


@pytest.fixture
async def reader(publisher: AsyncClient, proxy: FaultProxy, url: str) -> AsyncIterator[AsyncSubscription]:
    async with AsyncClient(proxy.url(url)) as client, client.subscribe(TOPIC) as subscription:
        yield subscription


async def test_a_cut_is_a_gap(publisher: AsyncClient, reader: AsyncSubscription, proxy: FaultProxy) -> None:
    await publisher.publish(TOPIC, "before")
    await taken(reader, 1)
    assert list(reader.gaps) == []
    proxy.refuse()
    proxy.cut()
    await publisher.publish(TOPIC, "missed")
    proxy.heal()
    async with asyncio.timeout(CALM_SECONDS):
        await publisher.publish(TOPIC, "?")
        while not await reader.fetch(1, timeout=0.1):
            await publisher.publish(TOPIC, "?")
    assert len(reader.gaps) >= 1
    await publisher.publish_batch(TOPIC, range(5))
    assert [each for each in await rest(reader, range(5)) if each != "?"] == list(range(5))


async def test_silence_is_no_gap(publisher: AsyncClient, reader: AsyncSubscription, proxy: FaultProxy) -> None:
    proxy.black_hole()
    before = proxy.taken("to_client")
    await publisher.publish_batch(TOPIC, range(5))
    await asyncio.to_thread(proxy.wait_for_bytes, "to_client", before + 1)
    assert await reader.fetch(1, timeout=0.1) == []
    proxy.heal()
    assert await rest(reader, range(5)) == list(range(5))
    assert list(reader.gaps) == []


async def test_what_comes_is_in_order_and_all_else_in_a_gap(
    publisher: AsyncClient, reader: AsyncSubscription, proxy: FaultProxy
) -> None:
    found: list[int] = []
    number = 0
    for _ in range(3):
        for _ in range(100):
            number += 1
            await publisher.publish(TOPIC, number)
        proxy.cut()
        async with asyncio.timeout(CALM_SECONDS):
            while not (messages := await reader.fetch(500, timeout=0.1)) or messages[-1].data != number:
                found += [message.data for message in messages]
                number += 1
                await publisher.publish(TOPIC, number)
        found += [message.data for message in messages]
    assert found == sorted(set(found))
    assert len(found) == number or reader.gaps
