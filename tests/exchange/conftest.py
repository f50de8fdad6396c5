"""An exchange for each client and kind of bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from tests.exchange.stage import Bus, Dressed
from tidings import AsyncClient, AsyncExchange, Client, Exchange
from tidings.testing.conformance.stage.threads import InThreads


@pytest.fixture(params=["async", "blocking"])
async def bus(request: pytest.FixtureRequest, bus_url: str) -> AsyncIterator[Bus]:
    """The test runs with each client, in memory and in a directory."""
    if request.param == "async":
        async with AsyncClient(bus_url) as client:
            yield Bus(client, lambda *name, **options: AsyncExchange(client, *name, **options))
        return
    with ThreadPoolExecutor(16) as threads, Client(bus_url) as blocking:

        def exchange(*name: Any, **options: Any) -> AsyncExchange:
            return cast(AsyncExchange, Dressed(Exchange(blocking, *name, **options), threads))

        yield Bus(cast(AsyncClient, InThreads(blocking, threads)), exchange)
