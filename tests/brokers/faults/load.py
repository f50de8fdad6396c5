"""Publishers and a group at work while a test breaks what they work on, and the sum of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any

from tests.brokers.faults.stage import CALM_SECONDS, reached, rest
from tidings import AsyncClient, AsyncSubscription, Durability, LeaseLost, PublishUnknown
from tidings.testing.conformance.stage.place import until
from tidings.testing.servers.process import START_SECONDS

PROGRESS = 100
"""Acks after which everybody is believed to be at work."""

AWAY_SECONDS = START_SECONDS + CALM_SECONDS
"""How long a broker may be away that was killed and is started again."""


class Load:
    """Work on one topic. `done` and `unknown` say how publishes ended, `seen` what was delivered, in order, and `acked`
    what was acked for certain."""

    def __init__(self, client: AsyncClient, topic: str, group: str, durability: Durability | None = None) -> None:
        self._client, self._topic, self._group, self._durability = client, topic, group, durability
        self._ending = asyncio.Event()
        self.done, self.unknown, self.acked = set[str](), set[str](), set[str]()
        self.seen: list[str] = []
        self.levels = set[Durability]()

    @asynccontextmanager
    async def at_work(self, publishers: Iterable[str] = "abc") -> Any:
        """Publish and consume while the block runs."""
        tasks = [asyncio.ensure_future(each) for each in (*map(self._publish, publishers), self._consume())]
        try:
            yield
        finally:
            self._ending.set()
            await asyncio.gather(*tasks)

    async def progress(self) -> None:
        """Wait until much more was acked."""
        before = len(self.acked)
        await until(lambda: len(self.acked) > before + PROGRESS, CALM_SECONDS)

    async def check(self, heir: AsyncSubscription) -> None:
        """Read the rest: nothing acknowledged is lost, and nothing came that was not published."""
        assert Durability.MEMORY not in self.levels, "nothing would be promised"
        self.seen += await rest(heir, self.done - set(self.seen))
        assert self.done <= set(self.seen) <= self.done | self.unknown

    async def _publish(self, name: str) -> None:
        numbers = itertools.count(1)
        while not self._ending.is_set():
            await reached(lambda: self._publish_one(f"{name}{next(numbers)}"), within=AWAY_SECONDS)

    async def _publish_one(self, data: str) -> None:
        try:
            receipt = await self._client.publish(self._topic, data, durability=self._durability)
        except PublishUnknown:
            self.unknown.add(data)
        else:
            self.done.add(data)
            self.levels.add(receipt.durability)

    async def _consume(self) -> None:
        reader = self._client.subscribe(self._topic, consumer_group=self._group, auto_ack=False)
        async with reader:
            while not self._ending.is_set():
                await reached(lambda: self._consume_some(reader), PublishUnknown, LeaseLost, within=AWAY_SECONDS)

    async def _consume_some(self, reader: AsyncSubscription) -> None:
        messages = await reader.fetch(20, timeout=0.2)
        self.seen.extend(message.data for message in messages)
        await reader.ack(messages)
        self.acked.update(message.data for message in messages)
