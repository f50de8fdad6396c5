"""What the tests of the engine do with it: publish, read as somebody, settle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tidings.engines.redis.engine import RedisEngine
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import AsyncFeed, Settlement

PLAIN = PublishOptions(Durability.MEMORY)

SECONDS = 10.0
"""How long a test waits for what must come."""


def records(*data: Any, key: str | None = None) -> list[Record]:
    """Records called after what they hold."""
    return [Record(f"id-{each}", "application/json", str(each).encode(), key) for each in data]


async def publish(engine: RedisEngine, topic: str, *data: Any, key: str | None = None) -> list[Receipt]:
    """Publish as one batch."""
    return await engine.publish(topic, records(*data, key=key), PLAIN)


def spec(*topics: str, **options: Any) -> SubscriptionSpec:
    return SubscriptionSpec(patterns=parse_topics(list(topics)), **{"consumer": "ann", **options})


async def tail(engine: RedisEngine, *topics: str, **options: Any) -> AsyncFeed[Message]:
    """Read for oneself."""
    return await engine.subscribe(spec(*topics, **options), Message)


async def consumer(engine: RedisEngine, *topics: str, **options: Any) -> AsyncFeed[Message]:
    """Read as one of a group."""
    return await engine.subscribe(spec(*topics, **{"group": "billing", **options}), Message)


async def take(feed: AsyncFeed[Message], count: int) -> list[Message]:
    """Fetch as many; fail when they do not come."""
    found: list[Message] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            found += await feed.fetch(count - len(found), None)
    return found


async def now(feed: AsyncFeed[Message]) -> list[Message]:
    """Fetch what there is."""
    return await feed.fetch(100, 0)


async def settle(feed: AsyncFeed[Message], messages: Sequence[Message], action: str, seconds: float | None = 0) -> None:
    await feed.settle([Settlement(message, action, seconds) for message in messages])


@contextmanager
def stopped(numbers: Sequence[int]) -> Iterator[None]:
    """Let processes stand still meanwhile, with their connections open."""
    try:
        for number in numbers:
            os.kill(number, signal.SIGSTOP)
        yield
    finally:
        for number in numbers:
            os.kill(number, signal.SIGCONT)


def data(messages: Sequence[Message]) -> list[Any]:
    return [message.data for message in messages]


def told(messages: Sequence[Message]) -> list[tuple[Any, int]]:
    """What was delivered, and for which attempt."""
    return [(message.data, message.attempt) for message in messages]
