"""A bus of its own on the server that the tests share, engines on it, and the plain driver beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tidings import AsyncClient
from tidings.engines.nats.engine import NatsEngine, open_async
from tidings.model.url import parse_url

Open = Callable[..., Awaitable[NatsEngine]]


@pytest.fixture
def prefix() -> str:
    """What stands before the subjects of the bus."""
    return f"x{uuid4().hex}"


@pytest.fixture
def url(nats_url: str, prefix: str) -> str:
    return f"{nats_url}/{uuid4().hex}?subject_prefix={prefix}"


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Open]:
    """Opens engines on the bus, with more options of the URL."""
    engines: list[NatsEngine] = []

    async def open_one(**options: Any) -> NatsEngine:
        engine = open_async(parse_url(f"{url}&{urlencode(options)}"))
        engines.append(engine)
        await engine.open()
        return engine

    yield open_one
    for engine in engines:
        await engine.close()


@pytest.fixture
async def engine(opened: Open) -> NatsEngine:
    return await opened()


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url) as made:
        yield made


@pytest.fixture
async def raw(nats_url: str) -> AsyncIterator[Client]:
    """The plain driver."""
    made = await nats.connect(nats_url)
    yield made
    await made.close()


@pytest.fixture
def jetstream(raw: Client) -> JetStreamContext:
    return raw.jetstream()
