"""A bus of its own on the server that the tests share, a bad way to it, and the plain driver beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tidings.testing.proxy import FaultProxy

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
async def proxy(url: str) -> AsyncIterator[FaultProxy]:
    """The way of `distant` to the server."""
    place = urlsplit(url)
    with FaultProxy(place.hostname or "", place.port or 0) as made:
        yield made


@pytest.fixture
async def distant(opened: Open, proxy: FaultProxy, url: str) -> AsyncIterator[Any]:
    """An engine behind `proxy`, which waits for no answer for long."""
    engine = await opened(proxy.url(url), request_seconds=REQUEST_SECONDS, connect_seconds=REQUEST_SECONDS)
    yield engine
    await engine.close()  # as long as there is the proxy


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """The plain driver."""
    async with Redis.from_url(redis_url) as made:
        yield made
