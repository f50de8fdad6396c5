"""Buses for the tests of the engines: in memory, on disk, on the broker of a folder; closed with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.engines.stage import Buses
from tidings.client.connect import ASYNC, open_engine
from tidings.engines.embedded.bus import Bus
from tidings.testing.clock import ManualClock

Open = Callable[..., Awaitable[Any]]
"""Opens an engine: on the bus of the test, or on that of a URL; with more options of the URL."""


@pytest.fixture(params=["memory", "file"])
def open_bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Buses]:
    """A bus of either kind; on disk, opening it again is what another process does."""
    buses = Buses(None if request.param == "memory" else tmp_path / "bus")
    yield buses
    buses.close()


@pytest.fixture
def one(open_bus: Buses) -> Bus:
    """The bus, open."""
    return open_bus.open()


@pytest.fixture
def clock(open_bus: Buses) -> ManualClock:
    """The clock of `one`."""
    return open_bus.clock


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Buses]:
    """A bus in a directory: each `open` is another process."""
    buses = Buses(tmp_path / "bus")
    yield buses
    buses.close()


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Open]:
    """Opens engines on the bus of `url`, which each broker's folder has."""
    async with AsyncExitStack() as closing:

        async def open_one(url: str = url, **options: Any) -> Any:
            engine = open_engine(f"{url}&{urlencode(options)}", ASYNC, "tidings.async_engines")
            closing.push_async_callback(engine.close)
            await engine.open()
            return engine

        yield open_one


@pytest.fixture
async def engine(opened: Open) -> Any:
    """An open engine on the bus of `url`."""
    return await opened()
