"""Temporary subscriptions: a queue of its own for each, or the logs of the topics, for those that begin earlier."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pamqp import commands

from tidings.brokers.feed import Delivery
from tidings.brokers.registry import TopicEntry
from tidings.brokers.verdicts import Act
from tidings.engines.rabbitmq.catalog import Catalog
from tidings.engines.rabbitmq.channel import Arrival, Channel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.messages import OFFSET, count
from tidings.engines.rabbitmq.options import Names, binding_keys
from tidings.engines.rabbitmq.reading.reader import Reader
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import Gap

CLOCKS_SECONDS = 60.0
"""How far the clocks of publishers and the broker may be apart: reading since a time begins so much earlier in the log,
and leaves out what was published before."""


class TailReader(Reader):
    """What is published from now on, out of a queue that lives as long as the connection."""

    def __init__(
        self,
        link: Link,
        names: Names,
        spec: SubscriptionSpec,
        read: Callable[[Arrival, Any], Delivery],
        bury: Callable[[Sequence[Act]], Any],
    ) -> None:
        super().__init__(link)
        self._names = names
        self._spec = spec
        self._read = read
        self._bury = bury
        self._prefetch = spec.prefetch
        self._taken = 0
        self._last = 0

    async def _begin(self, channel: Channel) -> None:
        link = self._link
        queue = await link.declare(
            channel, f"{self._names.exchange}.tail.{uuid4().hex}", {}, exclusive=True, auto_delete=True
        )
        for key in dict.fromkeys(key for pattern in self._spec.patterns for key in binding_keys(pattern)):
            await link.bind(channel, queue, self._names.exchange, key)
        await link.consume(channel, queue, "", self._prefetch)
        self._taken = self._last = 0
        if self._lost_at:
            self.gaps.append(Gap("the connection to the broker was lost", self._lost_at, time.time()))

    async def _want(self, channel: Channel, limit: int) -> None:
        if self._taken * 2 > self._prefetch or (self._taken and not self._arrived):
            self._taken = 0
            await channel.send([commands.Basic.Ack(delivery_tag=self._last, multiple=True)])
        while self._arrived and len(self._ready) < limit:
            arrival = self._arrived.popleft()
            self._taken, self._last = self._taken + 1, arrival.tag
            delivery = self._read(arrival, None)
            if self._is_meant(delivery):
                self._ready.append(delivery)

    def _is_meant(self, delivery: Delivery) -> bool:
        return any(pattern.matches(delivery.topic) for pattern in self._spec.patterns)

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        await self._bury(acts)
        return []

    async def renew(self, handles: Sequence[Any]) -> None:
        pass

    async def close(self, handles: Sequence[Any]) -> None:
        await self._leave()


class LogReader(TailReader):
    """What the logs of the topics hold from a place on, and what is added to them. A lost connection leaves no gap."""

    def __init__(
        self,
        link: Link,
        catalog: Catalog,
        spec: SubscriptionSpec,
        read: Callable[[Arrival, Any], Delivery],
        bury: Callable[[Sequence[Act]], Any],
    ) -> None:
        super().__init__(link, catalog.names, spec, read, bury)
        self._catalog = catalog
        self._next: dict[str, int] = {}
        self._topics: dict[str, str] = {}
        self._waiting: dict[str, None] = {}
        self._since = min(spec.start, time.time()) if isinstance(spec.start, float) else 0.0

    async def _begin(self, channel: Channel) -> None:
        self._topics.clear()
        self._taken = self._last = 0
        self._catalog.followers.add(self._appeared)
        for entry in tuple(self._catalog.topics.values()):
            self._appeared(entry)
        await self._join(channel)

    def _appeared(self, entry: TopicEntry) -> None:
        """A topic is there, or has changed."""
        if entry.name in self._topics.values() or not self._catalog.keeps_log(entry.name, entry.options):
            return
        if any(pattern.matches(entry.name) for pattern in self._spec.patterns):
            self._waiting[entry.name] = None
            self._news.set()

    async def _join(self, channel: Channel) -> None:
        """Read the logs that have appeared."""
        while self._waiting:
            topic = next(iter(self._waiting))
            consumer = uuid4().hex
            self._topics[consumer] = topic
            place = {"x-stream-offset": self._place(topic)}
            await self._link.consume(channel, self._names.log(topic), consumer, self._prefetch, place)
            self._waiting.pop(topic, None)

    def _place(self, topic: str) -> int | str | datetime:
        if topic in self._next:
            return self._next[topic]
        if self._since:
            return datetime.fromtimestamp(max(0.0, self._since - CLOCKS_SECONDS), UTC)
        return self._spec.start if isinstance(self._spec.start, int) else "first"

    def _hear(self, arrival: Arrival) -> None:
        topic = self._topics.get(arrival.consumer, "")
        place = count(arrival.properties.headers, OFFSET)
        if place >= self._next.get(topic, 0):
            self._next[topic] = place + 1
            super()._hear(arrival)

    def _cancelled(self, consumer: str) -> None:
        """The topic was dropped; one of its name is another one."""
        self._next.pop(self._topics.pop(consumer, ""), None)

    def _forget(self) -> None:
        """What had come and was not looked at comes again."""
        for arrival in self._arrived:
            topic = self._topics.get(arrival.consumer, "")
            place = count(arrival.properties.headers, OFFSET)
            self._next[topic] = min(self._next.get(topic, place), place)
        super()._forget()

    async def _want(self, channel: Channel, limit: int) -> None:
        await self._join(channel)
        await super()._want(channel, limit)

    def _is_meant(self, delivery: Delivery) -> bool:
        terms, since = self._catalog.terms(delivery.topic), self._since
        if terms.retention_period is not None:  # the broker removes it later
            since = max(since, time.time() - terms.period("retention_period"))
        return delivery.published_at >= since and super()._is_meant(delivery)

    async def close(self, handles: Sequence[Any]) -> None:
        self._catalog.followers.discard(self._appeared)
        await super().close(handles)
