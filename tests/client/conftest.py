"""A client on an engine that stores nothing, so that a test sees what the client asks of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.fakes import FakeEngine, FakeFeed
from tidings import AsyncClient
from tidings.client.aio import runtime


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine of every `AsyncClient` that the test opens."""
    engine = FakeEngine()
    monkeypatch.setattr(runtime, "connect", lambda url: engine)
    return engine


@pytest.fixture
def feed(engine: FakeEngine) -> FakeFeed:
    """What the first subscription of the client reads."""
    return engine.feed


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("fake:") as client:
        yield client
