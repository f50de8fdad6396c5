"""A bus of its own on the server that the tests share, and the plain driver beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tidings import AsyncClient


@pytest.fixture
def prefix() -> str:
    """What stands before the subjects of the bus."""
    return f"x{uuid4().hex}"


@pytest.fixture
def url(nats_url: str, prefix: str) -> str:
    return f"{nats_url}/{uuid4().hex}?subject_prefix={prefix}"


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
