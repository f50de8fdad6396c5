"""The engine for ZeroMQ as clients see it: direct meetings, what is refused, what closing keeps."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.engines.zeromq.plain import Plain
from tidings import AsyncClient, Client, Durability
from tidings.engines.zeromq import publisher
from tidings.engines.zeromq.engine import open_async
from tidings.engines.zeromq.port import LINGER_SECONDS
from tidings.errors import BrokerUnavailable, Closed, UnsupportedFeature
from tidings.model.message import Message, Record
from tidings.model.options import PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import data, take


async def test_a_client_hears_its_own_first_message(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its subscriptions are there before it publishes to anybody, however long others are waited for."""
    monkeypatch.setattr(publisher, "JOIN_SECONDS", 0)
    async with AsyncClient(url) as client:
        async with client.subscribe("a") as one, client.subscribe("**") as two:
            await client.publish("a", 1)
            for subscription in (one, two):
                assert data(await take(subscription, 1)) == [1]


def test_blocking_clients_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"zmq+tcp://localhost:{port}"
    with Client(url) as writer, Client(url) as reader:
        writer.publish("a", "before")
        with reader.subscribe("a/*") as subscription:
            receipt = writer.publish("a/b", {"x": 1}, headers={"h": "1"}, partition_key="k", message_id="me")
            (message,) = subscription.fetch(1, timeout=5)
        assert (message.topic, message.data, message.id, message.key) == ("a/b", {"x": 1}, "me", "k")
        assert dict(message.headers) == {"h": "1"}
        assert (receipt.durability, receipt.offset) == (Durability.MEMORY, -1)


def test_whoever_binds_second_is_told_what_to_do(url: str) -> None:
    with Client(url) as first, Client(url) as second:
        first.publish("a", 1)
        with pytest.raises(BrokerUnavailable, match="subscribe_to"):
            second.publish("a", 1)
        with second.subscribe("a") as subscription:
            first.publish("a", 2)
            assert [message.data for message in subscription.fetch(1, timeout=5)] == [2]


REFUSED: dict[str, Any] = {
    "group": lambda client: client.subscribe("a", consumer_group="g").open(),
    "replay": lambda client: client.subscribe("a", from_beginning=True).open(),
    "offset": lambda client: client.subscribe("a", from_offset=3).open(),
    "os": lambda client: client.publish("a", 1, durability="os"),
    "disk": lambda client: client.publish("a", 1, durability="disk"),
    "quorum": lambda client: client.publish("a", 1, durability="quorum"),
    "delay": lambda client: client.publish("a", 1, delay_seconds=5),
    "priority": lambda client: client.publish("a", 1, priority="high"),
    "topics": lambda client: client.topics(),
    "topic": lambda client: client.create_topic("a"),
    "groups": lambda client: client.groups(),
    "lag": lambda client: client.get_consumer_lag("a", "g"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_needs_a_store_is_refused_by_name(url: str, what: str) -> None:
    async with AsyncClient(url) as client:
        with pytest.raises(UnsupportedFeature) as refused:
            await REFUSED[what](client)
        assert "zeromq" in refused.value.engine
        assert refused.value.way_out


async def test_who_only_subscribes_binds_nothing(url: str, folder: Path) -> None:
    async with AsyncClient(url) as client, client.subscribe("a"):
        assert not (folder / "bus").exists()
        await asyncio.wait_for(client.close(), LINGER_SECONDS / 2)  # there is nothing to send to anybody


async def test_closing_sends_what_was_published(url: str, plain: Plain) -> None:
    """Also to a subscriber that reads slowly: nothing that a publish returned for is dropped by closing."""
    slow = plain.connect(zmq.SUB, url)
    client = AsyncClient(url + "?framing=plain")
    await client.publish_batch("a", ["x" * 10_000] * 2000)
    closing = asyncio.ensure_future(client.close())
    for _ in range(2000):
        await asyncio.wait_for(slow.recv(), 5)
    await closing


@pytest.mark.parametrize("turns", range(8))
async def test_closing_can_be_cancelled_and_repeated(url: str, turns: int) -> None:
    client = AsyncClient(url)
    subscription = client.subscribe("a")
    await subscription.open()
    closing = asyncio.ensure_future(client.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await client.close()
    for call in (lambda: client.publish("a", 2), lambda: subscription.fetch(1, timeout=0)):
        with pytest.raises(Closed):
            await call()


async def test_closing_the_engine_closes_its_feeds(url: str) -> None:
    engine = open_async(parse_url(url))
    feed = await engine.subscribe(SubscriptionSpec(patterns=parse_topics("a")), Message)
    fetching = asyncio.ensure_future(feed.fetch(1, None))
    await asyncio.wait([fetching], timeout=0.05)
    await asyncio.wait_for(engine.close(), 2)
    with pytest.raises(Closed):
        await asyncio.wait_for(fetching, 2)


async def test_closing_under_a_publish_is_told(url: str) -> None:
    """Whether it has begun, or the sockets go while it waits for its turn."""
    engine = open_async(parse_url(url))
    options, records = PublishOptions(Durability.MEMORY), [Record("1", "text/plain", b"x")]
    await engine.publish("a", records, options)
    sending = engine._publisher
    assert sending is not None
    await engine.close()
    with pytest.raises(Closed):
        sending.send("a", records, None, 0.0)
    with pytest.raises(Closed):
        await engine.publish("a", records, options)


def test_a_forked_child_has_its_own_sockets(url: str, folder: Path) -> None:
    """And what the parent has open goes on."""
    with Client(url) as client, client.subscribe("a") as subscription:
        client.publish("a", "before")
        assert [message.data for message in subscription.fetch(1, timeout=5)] == ["before"]
        child = os.fork()
        if not child:
            code = 1
            try:
                with Client(url) as other, other.subscribe("b"):
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        client.publish("a", "after")
        assert [message.data for message in subscription.fetch(1, timeout=5)] == ["after"]


async def test_nothing_of_a_message_is_lost_in_compression(url: str) -> None:
    async with AsyncClient(url) as client, client.subscribe("a") as subscription:
        for kind in ("gzip", "zstd", "lz4"):
            await client.publish("a", "text " * 1000, compression=kind)
        assert data(await take(subscription, 3)) == ["text " * 1000] * 3
