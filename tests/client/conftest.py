"""A client on an engine that stores nothing, so that a test sees what the client asks of it; and both clients on an
engine in memory whose clock the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import pytest

from tests.client.fakes import FakeEngine, FakeFeed
from tidings import AsyncClient, Client
from tidings.client.aio import runtime
from tidings.engines.embedded.aio import AsyncEmbeddedEngine
from tidings.engines.embedded.bus import BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.model.capability import Capability
from tidings.testing.clock import ManualClock
from tidings.testing.conformance.stage.threads import InThreads


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


class Bus(NamedTuple):
    """A client on a bus in memory, and the hands of its clock."""

    client: AsyncClient
    clock: ManualClock


KINDS = ("async", "blocking")


@asynccontextmanager
async def open_bus(kind: str, *without: Capability) -> AsyncIterator[Bus]:
    """Open a bus whose engine lacks these abilities; the blocking client comes behind the names of the other."""
    clock = ManualClock()
    engine = EmbeddedEngine("", BusOptions(), memory=True, clock=clock)
    engine.capabilities -= set(without)
    if kind == "async":
        async with AsyncClient(AsyncEmbeddedEngine(engine)) as client:
            yield Bus(client, clock)
        return
    with ThreadPoolExecutor(8) as threads:
        async with cast(AsyncClient, InThreads(Client(engine), threads)) as client:
            yield Bus(client, clock)


@pytest.fixture(params=KINDS)
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """The test runs once with each client."""
    async with open_bus(request.param) as bus:
        yield bus
