"""What the tests of the exchange do with it, through either client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from tidings import AsyncClient, AsyncExchange
from tidings.exchange.aio import AsyncExchangeQueue, AsyncRouted
from tidings.testing.conformance.stage.threads import InThreads

SECONDS = 10.0
"""How long a test waits for what must come."""


class Dressed(InThreads):
    """An object of the blocking exchange behind the names of the async one."""

    def __getattr__(self, name: str) -> Any:
        if name in ("topic", "queue", "subscribe"):
            found = getattr(self.blocking, name)
            return lambda *arguments, **options: Dressed(found(*arguments, **options), self._threads)
        found = super().__getattr__(name)
        return InThreads(found, self._threads) if name == "subscription" else found

    async def __aenter__(self) -> Dressed:
        await self._call(self.blocking.__enter__)
        return self


class Bus(NamedTuple):
    """A client, and what makes exchanges on it."""

    client: AsyncClient
    exchange: Callable[..., AsyncExchange]


async def take(routed: AsyncRouted, count: int) -> list[tuple[Any, Any]]:
    """Return the next pairs, of as many messages as there must be."""
    async with asyncio.timeout(SECONDS):
        return [await routed.__anext__() for _ in range(count)]


async def fail_in(queue: AsyncExchangeQueue, *expected: tuple[Any, Any]) -> None:
    """Raise an error out of a block when these came."""
    async with queue.subscribe() as routed:
        assert await take(routed, len(expected)) == list(expected)
        raise ZeroDivisionError


async def expect_end(routed: AsyncRouted) -> None:
    """Fail when there is something left."""
    assert await routed.subscription.fetch(1, timeout=0) == []
