"""Redis: `redis_publisher.py` and `redis_subscriber.py` on the other side, and plain commands with any bytes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis.asyncio

from tests.interop.deadline import SECONDS
from tests.interop.seeds import running
from tidings import AsyncClient
from tidings.testing.conformance.stage.place import data, take, until

STOCKS = ["STOCK_UPDATE:AAPL:150.2", "STOCK_UPDATE:GOOGL:2800.5", "STOCK_UPDATE:TSLA:220.8"]


@pytest.fixture
def port(redis_url: str) -> int:
    return urlsplit(redis_url).port or 6379


@pytest.fixture
def url(redis_url: str) -> str:
    """Topics that are channels: Redis's own publish and subscribe, at most once."""
    return redis_url + "?delivery=at_most_once"


async def test_stocks(url: str, port: int, redis_url: str) -> None:
    """In both directions, on the one channel that both programs know; they decode what they get as UTF-8."""
    async with AsyncClient(url) as client, client.subscribe("stock_market") as subscription:
        async with running("redis_subscriber.py", port) as subscriber:
            assert await subscriber.line() == "Waiting for stock updates..."
            await _subscribed(redis_url, "stock_market")
            async with running("redis_publisher.py", port) as publisher:
                found = await take(subscription, 3, within=SECONDS)
                assert data(found) == STOCKS
                assert {message.topic for message in found} == {"stock_market"}
                assert await publisher.lines(3) == [f"Published: {stock}" for stock in STOCKS]
            await client.publish("stock_market", "ours")
            await client.publish("stock_market", {"AAPL": 150.2})
            received = await subscriber.lines(5)
    assert received == [*(f"Received: {stock}" for stock in STOCKS), "Received: ours", 'Received: {"AAPL":150.2}']


async def _subscribed(redis_url: str, channel: str) -> None:
    """Return when another program has subscribed beside us: it prints before it does."""
    async with redis.asyncio.Redis.from_url(redis_url) as plain:

        async def are_two() -> bool:
            return dict(await plain.pubsub_numsub(channel))[channel.encode()] == 2

        await until(are_two, SECONDS)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [(b"\xff\x00", b"\xff\x00"), (b"", ""), (b'{"a": 1', '{"a": 1'), (b'{"a": 1}', {"a": 1}), (b"7", 7)],
)
async def test_foreign_bytes_are_no_error(url: str, redis_url: str, sent: bytes, seen: object) -> None:
    topic = f"foreign/x{sent.hex()}"
    plain = redis.asyncio.Redis.from_url(redis_url)
    async with plain, AsyncClient(url) as client, client.subscribe(topic) as subscription:
        await plain.publish(topic, sent)
        assert data(await take(subscription, 1)) == [seen]


async def test_headers_survive_on_a_channel(url: str, redis_url: str) -> None:
    """In front of the body, which a plain program finds behind the first line."""
    topic = f"shop/{uuid4().hex}"
    plain = redis.asyncio.Redis.from_url(redis_url)
    async with plain, plain.pubsub() as listening, AsyncClient(url) as client, client.subscribe(topic) as subscription:
        await listening.subscribe(topic)
        assert await listening.get_message(timeout=SECONDS)
        await client.publish(topic, {"total": 7}, headers={"lang": "de"})
        (message,) = await take(subscription, 1)
        assert (message.data, message.headers["lang"]) == ({"total": 7}, "de")
        heard = await listening.get_message(timeout=SECONDS)
        assert heard is not None
        assert heard["data"].partition(b"\n")[2] == b'{"total":7}'


async def test_a_stream_can_be_read_and_written_by_others(redis_url: str) -> None:
    """The body is the field `data`, headers are fields; an entry that another program adds is a message."""
    topic = f"shop/{uuid4().hex}"
    plain = redis.asyncio.Redis.from_url(redis_url)
    async with plain, AsyncClient(redis_url) as client, client.subscribe(topic, consumer_group="g") as subscription:
        await client.publish(topic, {"total": 7}, headers={"lang": "de"})
        (stream,) = [key async for key in plain.scan_iter(match=f"*{topic}*", _type="stream")]
        entries: Any = await plain.xrange(stream)
        ((_, fields),) = entries
        assert (fields[b"data"], fields[b"lang"]) == (b'{"total":7}', b"de")
        await plain.xadd(stream, {"data": b"\xff", "lang": "en"})
        ours, theirs = await take(subscription, 2)
        assert (ours.data, ours.headers["lang"]) == ({"total": 7}, "de")
        assert (theirs.data, theirs.headers["lang"]) == (b"\xff", "en")
