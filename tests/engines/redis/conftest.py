"""A bus of its own on the server that the tests share, engines on it, and the plain driver beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tidings.engines.redis.engine import RedisEngine, open_async
from tidings.model.url import parse_url
from tidings.testing.proxy import FaultProxy

Open = Callable[..., Awaitable[RedisEngine]]

REQUEST_SECONDS = 0.3
"""How long engines behind a proxy wait for an answer: long beside one on loopback, and no test waits long for it."""


@pytest.fixture
def prefix() -> str:
    """What the keys of the bus begin with."""
    return f"x{uuid4().hex}"


@pytest.fixture
def topic() -> str:
    """A topic that no other test has: what is delivered at most once is said on channels that all buses share."""
    return f"{uuid4().hex}/orders"


@pytest.fixture
def url(redis_url: str, prefix: str) -> str:
    return f"{redis_url}?prefix={prefix}"


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Open]:
    """Opens engines on the bus, with more options of the URL."""
    engines: list[RedisEngine] = []

    async def open_one(url: str = url, **options: Any) -> RedisEngine:
        engine = open_async(parse_url(f"{url}&{urlencode(options)}"))
        engines.append(engine)
        await engine.open()
        return engine

    yield open_one
    for engine in engines:
        await engine.close()


@pytest.fixture
async def engine(opened: Open) -> RedisEngine:
    return await opened()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[FaultProxy]:
    """The way of `distant` to the server."""
    place = urlsplit(url)
    with FaultProxy(place.hostname or "", place.port or 0) as made:
        yield made


@pytest.fixture
async def distant(opened: Open, proxy: FaultProxy, url: str) -> RedisEngine:
    """An engine behind `proxy`, which waits for no answer for long."""
    return await opened(proxy.url(url), request_seconds=REQUEST_SECONDS, connect_seconds=REQUEST_SECONDS)


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """The plain driver."""
    async with Redis.from_url(redis_url) as made:
        yield made
