"""Fixtures for tests of programs that use tidings: a bus of its own for each test, whose time the test turns.

They are there wherever tidings is installed; nothing is to be imported.

    def test_an_unpaid_order_is_cancelled(bus):
        with bus.client() as client, client.subscribe("orders/check") as checks:
            client.publish("orders/check", {"order": 7}, delay_seconds=3600)
            bus.clock.advance(3600)                             # an hour later, at once
            (message,) = checks.fetch(timeout=5)
            assert message["order"] == 7

    async def test_the_same_with_asyncio(bus):                  # with pytest-asyncio, for example
        async with bus.async_client() as client:
            await client.publish("orders/check", {"order": 7})

    def test_a_program_that_takes_a_url(bus):
        run_my_program(bus.url, stop_after=1)                   # in this process

    def test_a_program_that_is_a_process(file_bus):
        subprocess.run([sys.executable, "-m", "my_program", file_bus.url], check=True)

    def test_a_lost_connection(bus):
        faults = Faults(script=[("publish", "disconnect")])     # from tidings.testing.faults
        with bus.client(faults) as client:
            ...

Every pytest run where tidings is installed loads this, so it imports nothing but pytest until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tidings import AsyncClient, Client
    from tidings.engines.embedded.aio import AsyncEmbeddedEngine
    from tidings.engines.embedded.engine import EmbeddedEngine
    from tidings.testing.clock import ManualClock
    from tidings.testing.faults import Faults


class VirtualBus:
    """A bus whose time stands still until `clock.advance(seconds)`; what the fixtures `bus` and `file_bus` give.

    `url`: what a program of this process opens it by; it then lives by the same clock. `clock`: delays, retries,
    leases, expiry and retention go by it. The timeouts of `fetch`, `close` and the like are real time.
    """

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.url = url
        self.clock = clock
        self._closing: list[Callable[[], object]] = []
        engine = self._engine()
        self._closing.append(engine.close)

    def client(self, faults: Faults | None = None) -> Client:
        """Return a new `Client` on the bus, on which things go wrong as `faults` say. The test need not close it."""
        from tidings import Client
        from tidings.testing.faults import FaultyEngine

        engine = self._engine()
        client = Client(engine if faults is None else FaultyEngine(engine, faults))
        self._closing.append(client.close)
        return client

    def async_client(self, faults: Faults | None = None) -> AsyncClient:
        """Return a new `AsyncClient` on the bus, for the event loop that runs. Use it with `async with`; one that is
        left open is closed without its loop when the test ends."""
        from tidings import AsyncClient
        from tidings.engines.embedded.aio import AsyncEmbeddedEngine
        from tidings.testing.faults import AsyncFaultyEngine

        engine = AsyncEmbeddedEngine(self._engine())
        client = AsyncClient(engine if faults is None else AsyncFaultyEngine(engine, faults))
        self._closing.append(lambda: _close_without_its_loop(engine))
        return client

    def close(self) -> None:
        """Close the clients, the last one first, and the bus. When one of them cannot be closed, the others are all the
        same, and then its error is raised."""
        failures: list[Exception] = []
        while self._closing:
            try:
                self._closing.pop()()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _engine(self) -> EmbeddedEngine:
        from tidings.engines.embedded.engine import EmbeddedEngine, place_of
        from tidings.model.url import parse_url

        return EmbeddedEngine(*place_of(parse_url(self.url)), clock=self.clock)


def _close_without_its_loop(engine: AsyncEmbeddedEngine) -> None:
    """Close an asynchronous engine in a loop of its own, in a thread: its own loop may have ended, or be running."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="tidings-closing") as thread:
        thread.submit(lambda: asyncio.run(engine.close())).result()


@pytest.fixture
def bus() -> Iterator[VirtualBus]:
    """A fresh bus in memory with a clock that the test turns: see `tidings.testing.fixtures`."""
    from uuid import uuid4

    from tidings.testing.clock import ManualClock

    found = VirtualBus(f"memory:{uuid4().hex}", ManualClock())
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def file_bus(tmp_path: Path) -> Iterator[VirtualBus]:
    """A fresh bus in a directory of the test, with a clock that the test turns: see `tidings.testing.fixtures`.

    Other processes may join by its URL. They live by the clock of the machine, with which this one begins: who turns
    it far lets the leases of the others end, as the time between them would.
    """
    import time

    from tidings.testing.clock import ManualClock

    found = VirtualBus(f"file:{tmp_path / 'tidings'}", ManualClock(time.time(), time.monotonic()))
    try:
        yield found
    finally:
        found.close()
