"""The engine for ZeroMQ: PUB/SUB between programs that know each other's address, at most once, nothing stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tidings.brokers.engine import BrokerEngine
from tidings.brokers.feed import BrokerFeed
from tidings.brokers.portal import BlockingEngine
from tidings.brokers.verdicts import Judge
from tidings.engines.zeromq.options import read_url
from tidings.engines.zeromq.port import Context
from tidings.engines.zeromq.publisher import Publisher
from tidings.engines.zeromq.subscriber import Subscriber
from tidings.errors import Closed
from tidings.model.capability import Capability
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.url import URL
from tidings.spi import AsyncFeed, AsyncFullEngine, M

CAPABILITIES = frozenset(
    {Capability.PATTERNS, Capability.PROCESSES, Capability.EXPIRY, Capability.COMPRESSION, Capability.FILTERS}
)

TURN = 256
"""Messages that are published before others in the event loop have a turn: about a millisecond."""

_TERMS = TopicOptions(dead_letter_topic=None)

_LEVELS = {
    Durability.OS: Capability.OS_DURABILITY,
    Durability.DISK: Capability.DISK_DURABILITY,
    Durability.QUORUM: Capability.QUORUM_DURABILITY,
}


class ZeroMQEngine(BrokerEngine):
    """An asynchronous engine on ZeroMQ. Sockets are made when they are needed: who only subscribes binds nothing."""

    def __init__(self, url: URL) -> None:
        self._meeting, self._options = read_url(url)
        super().__init__("zeromq", CAPABILITIES, self._options.max_message_bytes)
        self._context: Context | None = None
        self._publisher: Publisher | None = None
        self._feeds: dict[Subscriber, BrokerFeed[Any]] = {}
        self._sent = 0
        self._closed = False
        self._ending: asyncio.Future[None] | None = None

    async def open(self) -> None:
        self._in_use()

    def _in_use(self) -> Context:
        if self._closed:
            raise Closed("the client is closed")
        if self._context is None:
            self._context = Context()
        return self._context

    # -- publishing

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        if options.durability is not Durability.MEMORY:
            raise self.refusal(_LEVELS[options.durability], "leave it out: nothing is stored")
        publisher = self._publisher
        if publisher is None or not publisher.ready:
            publisher = await self._begin()
        publisher.send(topic, records, options.compression, self.clock.now())
        await self._give_way(len(records))
        return [Receipt(record.id, topic, 0, -1, Durability.MEMORY) for record in records]

    async def _begin(self) -> Publisher:
        """Be there for subscribers, first of all for those of this client."""
        context = self._in_use()
        if self._publisher is None:
            self._publisher = Publisher(context, self._meeting, self._options)
        publisher = self._publisher
        await publisher.open()
        if self._meeting.publish.address == self._meeting.subscribe.address:
            for subscriber in tuple(self._feeds):
                await subscriber.link(self._options.connect_seconds)
        return publisher

    async def _give_way(self, count: int) -> None:
        self._sent += count
        if self._sent >= TURN:
            self._sent = 0
            await asyncio.sleep(0)

    # -- subscribing

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        if spec.group is not None:
            raise self.refusal(Capability.GROUPS)
        if spec.start != "end":
            raise self.refusal(Capability.REPLAY, "nothing is stored; use an engine that does, such as file:")
        context, now = self._in_use(), self.clock.now
        subscriber = Subscriber(context, self._meeting, self._options, spec.patterns, now)
        judge = Judge(spec, lambda _: _TERMS, now)
        feed = BrokerFeed(subscriber, spec, message_type, judge, lambda _: _TERMS)
        self._feeds = {each: its for each, its in self._feeds.items() if not each.closed} | {subscriber: feed}
        try:
            await subscriber.open()
        except BaseException:
            await feed.close()
            raise
        return feed

    # -- the end

    async def close(self) -> None:
        self._closed = True
        for feed in self._feeds.values():
            await feed.close()
        if self._publisher is not None:
            self._publisher.close()
        if self._context is not None:
            if self._ending is None:
                self._ending = asyncio.ensure_future(asyncio.to_thread(self._context.term))
            await asyncio.shield(self._ending)


def open_async(url: URL) -> ZeroMQEngine:
    """Open a bus on ZeroMQ for an event loop."""
    return ZeroMQEngine(url)


def open_blocking(url: URL) -> BlockingEngine:
    """Open a bus on ZeroMQ."""
    return BlockingEngine(lambda: ZeroMQEngine(url))


_proof: type[AsyncFullEngine] = ZeroMQEngine
