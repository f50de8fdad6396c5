"""Subscribing: everything after it comes, what cannot have come is told, and only what was asked for is delivered."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest
import zmq

from tests.engines.zeromq.plain import Plain
from tidings import AsyncClient
from tidings.engines.zeromq import port, subscriber
from tidings.engines.zeromq.forwarder import Forwarder
from tidings.engines.zeromq.subscriber import _prefix
from tidings.errors import BrokerUnavailable, Closed
from tidings.model.topics import parse_topics
from tidings.testing.conformance.stage.place import data, take, until
from tidings.testing.proxy.proxy import FaultProxy

QUICK_SECONDS = 2.5
"""Half of what anything here waits for by itself."""


async def test_whoever_has_subscribed_misses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, while the publisher of another client publishes without a pause."""
    monkeypatch.setattr(subscriber, "ANSWER_SECONDS", 60)
    async with AsyncClient(url) as publisher, AsyncClient(url) as reader:
        published, over = -1, False

        async def publish() -> None:
            nonlocal published
            while not over:
                await publisher.publish("a", published + 1)
                published += 1
                await asyncio.sleep(0)

        publishing = asyncio.ensure_future(publish())
        await until(lambda: published >= 0)
        for _ in range(30):
            async with reader.subscribe("a") as subscription:
                first = published + 1
                found = data(await take(subscription, 5))
                assert found == list(range(found[0], found[0] + 5))
                assert found[0] <= first
                assert len(subscription.gaps) == 0
        over = True
        await publishing


async def test_a_plain_publisher_is_heard(plain: Plain, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no probe: it is taken for granted that it has heard the subscription."""
    monkeypatch.setattr(subscriber, "ANSWER_SECONDS", 0.05)
    publisher = plain.bind(zmq.PUB, url)
    async with AsyncClient(url) as client, client.subscribe("sensor_001") as subscription:
        for text in ("sensor_001 25.0", "sensor_0012 no", "sensor_001 not well", "sensor_001 \udcff"):
            await publisher.send(text.encode(errors="surrogateescape"))
        assert data(await take(subscription, 3)) == [25.0, "not well", b"\xff"]
        assert len(subscription.gaps) == 0


async def test_what_arrives_while_the_answer_is_awaited_comes_first(plain: Plain, url: str) -> None:
    publisher = plain.bind(zmq.XPUB, url)
    async with AsyncClient(url) as client:
        opening = asyncio.ensure_future(client.subscribe("a").__aenter__())
        assert await publisher.recv() == b"\1a"
        probe = (await publisher.recv())[1:]
        for frame in (b"a 1", b"a 2", probe, b"a 3"):
            await publisher.send(frame)
        subscription = await opening
        assert data(await take(subscription, 3)) == [1, 2, 3]
        await subscription.close()


async def test_subscribing_to_nobody_returns_and_says_since_when(url: str) -> None:
    """What is published before the first connection may have passed: a gap, which ends when a publisher is there."""
    async with AsyncClient(url) as reader, reader.subscribe("a") as subscription:
        assert len(subscription.gaps) == 0
        async with AsyncClient(url + "?wait_for_subscribers=1") as publisher:
            await publisher.publish("a", 1)
            assert data(await take(subscription, 1)) == [1]
            await until(lambda: len(subscription.gaps))
        gaps = list(subscription.gaps)
        assert [gap.reason for gap in gaps] == ["nobody was there to subscribe to"]
        assert gaps[0].since < gaps[0].until


async def test_a_lost_connection_is_a_gap(url: str) -> None:
    async with AsyncClient(url) as reader:
        publisher = AsyncClient(url)
        await publisher.publish("a", "before")
        async with reader.subscribe("a") as subscription:
            assert len(subscription.gaps) == 0
            await publisher.close()
            async with AsyncClient(url + "?wait_for_subscribers=1") as another:
                await another.publish("a", "after")
                assert data(await take(subscription, 1)) == ["after"]
                await until(lambda: len(subscription.gaps))
            assert [gap.reason for gap in subscription.gaps] == ["the connection was lost"]


async def test_a_silent_connection_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a cable is pulled out: nobody says that the connection is gone."""
    monkeypatch.setattr(port, "HEARTBEAT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    with FaultProxy("127.0.0.1", number) as proxy:
        async with AsyncClient(f"zmq+tcp://127.0.0.1:{number}") as publisher:
            await publisher.publish("a", 1)
            async with (
                AsyncClient(f"zmq+tcp://127.0.0.1:{proxy.port}") as reader,
                reader.subscribe("a") as subscription,
            ):
                await asyncio.to_thread(proxy.black_hole)
                await publisher.publish("a", "lost")
                assert await subscription.fetch(1, timeout=1.0) == []
                await asyncio.to_thread(proxy.heal)
                await until(lambda: len(subscription.gaps))
                await publisher.publish("a", "after")
                assert data(await take(subscription, 1)) == ["after"]
                assert subscription.gaps[0].reason == "the connection was lost"


async def test_dropped_messages_are_counted(url: str) -> None:
    """A reader that is slower than its high-water mark allows: what it does not get is in `skipped`, and is a gap."""
    async with AsyncClient(url + "?hwm=10") as publisher, AsyncClient(url + "?hwm=10") as reader:
        await publisher.publish("a", "first")
        async with reader.subscribe("a", prefetch=1) as subscription:
            await publisher.publish("a", 1)
            found = data(await take(subscription, 1))
            for _ in range(30):
                await publisher.publish_batch("a", ["x" * 100_000] * 20)
            published = 601
            while found[-1] != published:  # the last one may be dropped, too
                published += 1
                await publisher.publish("a", published)
                while more := data(await subscription.fetch(10, timeout=0.1)):
                    found += more
            skipped = subscription.statistics().skipped
            assert skipped > 0
            assert len(found) + skipped == published
            assert sum(int(gap.reason.split()[0]) for gap in subscription.gaps) == skipped


async def test_holes_are_seen_for_each_topic_and_publisher(plain: Plain, url: str) -> None:
    """Numbers that begin anew are no hole, nor are those before the first that was seen."""
    publisher = plain.bind(zmq.XPUB, url)
    steps: list[tuple[str, str, int, int]] = [
        ("a", "one", 7, 0),
        ("a", "one", 8, 0),
        ("a", "two", 3, 0),
        ("b", "one", 1, 0),
        ("a", "one", 10, 1),
        ("a", "two", 4, 1),
        ("a", "one", 2, 1),
        ("a", "one", 5, 3),
        ("a", "", 0, 3),
    ]
    async with AsyncClient(url) as client:
        opening = asyncio.ensure_future(client.subscribe(["a", "b"]).__aenter__())
        probe = b""
        while b"tidings" not in probe:
            probe = await publisher.recv()
        await publisher.send(probe[1:])
        subscription = await opening
        for topic, by, number, skipped in steps:
            envelope = f'{{"tidings": 1, "by": "{by}", "number": {number}}}'
            await publisher.send_multipart([topic.encode(), b"1", envelope.encode()])
            await take(subscription, 1)
            assert subscription.statistics().skipped == skipped, (topic, by, number)
        await subscription.close()


async def test_several_publishers_may_connect_to_one_subscriber(url: str) -> None:
    place = url + "?publish=connect&subscribe=bind"
    async with AsyncClient(place) as one, AsyncClient(place) as two, AsyncClient(place) as reader:
        async with reader.subscribe(["a", "b"]) as subscription:
            await asyncio.gather(*(client.publish_batch("a", range(50)) for client in (one, two)))
            assert sorted(data(await take(subscription, 100))) == sorted([*range(50)] * 2)
            with pytest.raises(BrokerUnavailable, match="one address"):
                await reader.subscribe("a").open()
            await asyncio.wait_for(reader.publish("b", "own"), QUICK_SECONDS)
            assert data(await take(subscription, 1)) == ["own"]
        assert len(subscription.gaps) == 0


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("orders/placed", b"orders/placed"),
        ("orders/*", b"orders"),
        ("orders/pl*", b"orders/pl"),
        ("orders/**", b"orders"),
        ("orders.#", b"orders"),
        ("a/**/b", b"a"),
        ("*", b""),
        ("**/x", b""),
        ("#", b""),
        (re.compile("orders/[a-z]+"), b""),
    ],
)
def test_the_beginning_of_a_pattern_is_subscribed_to(pattern: Any, prefix: bytes) -> None:
    assert _prefix(parse_topics(pattern)[0]) == prefix


async def test_closing_ends_opening(url: str) -> None:
    """Where it waits for somebody who does not come."""
    client = AsyncClient(url + "?publish=connect&subscribe_to=ipc:///nowhere")
    opening = asyncio.ensure_future(client.subscribe("a").open())
    await asyncio.wait([opening], timeout=0.05)
    assert not opening.done()
    await client.close()
    with pytest.raises(Closed):
        await asyncio.wait_for(opening, QUICK_SECONDS)


@pytest.mark.parametrize("closes", ["subscription", "client"])
async def test_closing_ends_a_wait(url: str, closes: str) -> None:
    async with AsyncClient(url) as client, client.subscribe("a") as subscription:
        fetching = asyncio.ensure_future(subscription.fetch(1, timeout=None))
        await asyncio.wait([fetching], timeout=0.05)
        await (subscription if closes == "subscription" else client).close()
        with pytest.raises(Closed):
            await asyncio.wait_for(fetching, QUICK_SECONDS)


async def test_a_cancelled_fetch_loses_nothing(via: str) -> None:
    with Forwarder(via):
        async with AsyncClient(via) as client, client.subscribe("a") as subscription:
            for number in range(200):
                fetching = asyncio.ensure_future(subscription.fetch(1, timeout=5))
                await client.publish("a", number)
                for _ in range(number % 20):
                    await asyncio.sleep(0)
                fetching.cancel()
                await asyncio.wait([fetching])
                found = [] if fetching.cancelled() else fetching.result()
                assert data(found or await take(subscription, 1)) == [number]
