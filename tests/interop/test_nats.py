"""NATS: plain programs of nats-py on the other side; headers and content types survive."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import nats
import pytest

from tests.interop.deadline import SECONDS
from tidings import AsyncClient
from tidings.testing.conformance.stage.place import data, take


@pytest.fixture
def topic() -> str:
    return f"shop{uuid4().hex[:8]}.orders.placed"


async def test_a_plain_subscriber_reads_what_we_publish(nats_url: str, topic: str) -> None:
    """On the subject that the topic's name is, the body as it is, and what else there is as headers."""
    async with await nats.connect(nats_url) as plain, AsyncClient(nats_url) as client:
        listening = await plain.subscribe(topic)
        await plain.flush()
        await client.publish(topic, {"total": 7}, headers={"lang": "de"}, message_id="me")
        await client.publish(topic, b"\xff")
        first, second = [await listening.next_msg(timeout=SECONDS) for _ in range(2)]
    assert first.data == b'{"total":7}'
    assert first.headers is not None
    assert first.headers["lang"] == "de"
    assert first.headers["Content-Type"] == "application/json"
    assert second.data == b"\xff"


@pytest.mark.parametrize(
    ("sent", "headers", "seen"),
    [
        (b'{"a": 1}', None, {"a": 1}),
        (b"plain text", {"lang": "de"}, "plain text"),
        (b"\xff\x00", None, b"\xff\x00"),
        (b"", None, ""),
        (b"[1]", {"Content-Type": "text/plain; charset=utf-8"}, "[1]"),
        (b"nothing", {"Content-Type": "application/json"}, b"nothing"),
    ],
)
async def test_we_read_what_a_plain_publisher_sends(
    nats_url: str, topic: str, sent: bytes, headers: dict[str, str] | None, seen: Any
) -> None:
    async with await nats.connect(nats_url) as plain, AsyncClient(nats_url) as client:
        async with client.subscribe(topic) as subscription:
            await plain.publish(topic, sent, headers=headers)
            (message,) = await take(subscription, 1)
            assert (message.topic, message.data) == (topic, seen)
            assert message.headers.get("lang") == (headers or {}).get("lang")


async def test_both_kinds_of_program_share_a_topic(nats_url: str, topic: str) -> None:
    """Once we have published to it, what a plain program publishes there belongs to it: also by a wildcard, to all."""
    pattern = topic.replace("placed", "*")
    async with await nats.connect(nats_url) as plain, AsyncClient(nats_url) as client:
        listening = await plain.subscribe(pattern)
        await plain.flush()
        async with client.subscribe(pattern) as subscription:
            await client.publish(topic, 1)
            await plain.publish(topic, b"2")
            assert data(await take(subscription, 2)) == [1, 2]
            assert [(await listening.next_msg(timeout=SECONDS)).data for _ in range(2)] == [b"1", b"2"]
