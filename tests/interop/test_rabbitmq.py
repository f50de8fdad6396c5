"""RabbitMQ: the tutorials' publishers, subscribers and services on the other side, on the exchanges that they declare.

One test for each exchange, in both directions: its name is the programs', and all tests share one server.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest

from tests.interop.deadline import SECONDS
from tests.interop.seeds import running
from tidings import AsyncClient
from tidings.testing.conformance.stage.place import data, take

NEWS = [
    "Breaking: New AI model released!",
    "Sports: Team A wins the championship.",
    "Weather: Sunny tomorrow in Paris.",
]


@pytest.fixture
def port(amqp_url: str) -> int:
    return urlsplit(amqp_url).port or 5672


def on(amqp_url: str, exchange: str, durable: bool) -> str:
    """The URL of an exchange as the programs declare it."""
    return f"{amqp_url}?exchange={exchange}&exchange_type=fanout&durable={str(durable).lower()}"


async def test_news(amqp_url: str, port: int) -> None:
    """`rabbitmq_publisher.py` and `rabbitmq_subscriber.py`."""
    async with AsyncClient(on(amqp_url, "news_feed", False)) as client:
        async with client.subscribe("news_feed") as subscription, running("rabbitmq_subscriber.py", port) as subscriber:
            assert await subscriber.line() == "Waiting for news..."
            async with running("rabbitmq_publisher.py", port) as publisher:
                assert data(await take(subscription, 3, within=SECONDS)) == NEWS
                assert await publisher.lines(3) == [f"Published news: {item}" for item in NEWS]
                assert await publisher.end() == 0
            await client.publish("news_feed", "Ours: something new.")
            assert await subscriber.lines(4) == [f"Received: {item}" for item in [*NEWS, "Ours: something new."]]


async def test_logs(amqp_url: str, port: int) -> None:
    """`emit_log.py` and two of `receive_logs.py`."""
    url = on(amqp_url, "logs", False)
    async with running("receive_logs.py", port) as one, running("receive_logs.py", port) as two:
        for each in (one, two):
            assert await each.line() == "[*] Waiting for logs. To exit press CTRL+C"
        async with AsyncClient(url) as client, client.subscribe("logs") as subscription:
            async with running("emit_log.py", port, "Server", "started") as emitter:
                assert await emitter.line() == "[x] Sent 'Server started'"
                assert await emitter.end() == 0
            await client.publish("logs", "User logged in", headers={"level": "info"})
            assert data(await take(subscription, 2, within=SECONDS)) == ["Server started", "User logged in"]
        for each in (one, two):
            assert await each.lines(2) == ["[x] Server started", "[x] User logged in"]


async def test_events(amqp_url: str, port: int) -> None:
    """The event publisher with the email and the analytics service; JSON on both ways, and acks that they make."""
    url = on(amqp_url, "events", True)
    async with running("email_service.py", port) as email, running("analytics_service.py", port) as analytics:
        assert await email.line() == "[Email Service] Ready"
        assert await analytics.line() == "[Analytics Service] Ready"
        async with AsyncClient(url) as client, client.subscribe("events") as subscription:
            async with running("event_publisher.py", port) as publisher:
                assert await publisher.lines(2) == ["Published: user.created", "Published: order.placed"]
                created, placed = await take(subscription, 2, within=SECONDS)
            assert created.content_type == "application/json"
            assert created["data"] == {"user_id": 123, "email": "alice@example.com"}
            assert placed["data"] == {"order_id": 456, "total": 99.99}
            ours = {"type": "user.created", "timestamp": "today", "data": {"email": "ann@example.com"}}
            await client.publish("events", ours)
        assert await email.lines(6) == [
            "[Email Service] Received: user.created",
            "Sending welcome email to alice@example.com",
            "[Email Service] Received: order.placed",
            "Sending order confirmation for order 456",
            "[Email Service] Received: user.created",
            "Sending welcome email to ann@example.com",
        ]
        recorded = await analytics.lines(3)
        assert recorded[0].startswith("[Analytics] Recording: user.created at 20")
        assert recorded[2] == "[Analytics] Recording: user.created at today"


async def test_foreign_bytes_are_no_error(amqp_url: str) -> None:
    """With and without properties, on an exchange of a plain program; headers arrive."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("foreign", "fanout", durable=False, auto_delete=False)
        async with AsyncClient(on(amqp_url, "foreign", False)) as client, client.subscribe("foreign") as subscription:
            sent = [b"\xff\x00", b"", b'{"a": 1', json.dumps({"a": 1}).encode(), b"7"]
            for body in sent:
                await exchange.publish(aio_pika.Message(body), "")
            headers: dict[str, Any] = {
                "text": "x",
                "number": 7,
                "list": [True, {"a": bytearray(b"\xff")}],
                "none": None,
            }
            await exchange.publish(aio_pika.Message(b"x", headers=headers, content_type="text/plain"), "any")
            found = await take(subscription, 6)
            assert data(found) == [b"\xff\x00", "", '{"a": 1', {"a": 1}, 7, "x"]
            assert found[5].headers["text"] == "x"
            assert found[5].headers["number"] == "7"


async def test_headers_and_content_types_survive(amqp_url: str) -> None:
    """On the topic exchange of a bus: the topic is the routing key, on both ways."""
    name = f"shop{uuid4().hex[:8]}"
    topic, url = f"{name}.orders.placed", f"{amqp_url}?exchange={name}"
    async with AsyncClient(url) as client, await aio_pika.connect(amqp_url) as connection:
        await client.publish(f"{name}.begin", 0)  # the exchange is there from now on
        channel = await connection.channel()
        exchange = await channel.get_exchange(name)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, f"{name}.orders.*")
        async with client.subscribe(topic) as subscription:
            await client.publish(topic, {"total": 7}, headers={"lang": "de"}, message_id="me")
            properties: dict[str, Any] = {"content_type": "text/plain", "headers": {"lang": "en"}, "message_id": "they"}
            await exchange.publish(aio_pika.Message(b"7", **properties), topic)
            ours, theirs = await take(subscription, 2)
        async with queue.iterator(timeout=SECONDS) as messages:
            seen = await anext(messages)
    assert (seen.body, seen.content_type, seen.message_id) == (b'{"total":7}', "application/json", "me")
    assert seen.headers["lang"] == "de"
    assert (ours.data, ours.headers["lang"]) == ({"total": 7}, "de")
    assert (theirs.topic, theirs.data, theirs.headers["lang"], theirs.id) == (topic, "7", "en", "they")
