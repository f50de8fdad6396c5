"""An engine that stores nothing: it hands out what a test put in, and writes down what it was asked to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from tidings.client.aio.delivery import AsyncDelivery
from tidings.errors import Closed, LeaseLost
from tidings.model.capability import Capability
from tidings.model.codec import encode
from tidings.model.message import Receipt, Record, StoredRecord
from tidings.model.options import Durability, Start, SubscriptionSpec, TopicOptions
from tidings.spi import AsyncFeed, AsyncFullEngine, GroupInfo, M, Settlement, TopicInfo


async def nothing() -> None:
    """What a hook does until a test puts something in its place."""


class FakeFeed:
    """A feed of what was put in. `log` holds the calls in their order, `asked` the arguments of `fetch`, `settled` what
    was settled: a list of (action, offset, seconds) per call. `lost` are the offsets whose lease is gone."""

    def __init__(self) -> None:
        self.renew_every: float | None = None
        self.skipped = 0
        self.log: list[str] = []
        self.asked: list[tuple[int, float | None]] = []
        self.settled: list[list[tuple[str, int, float]]] = []
        self.lost: set[int] = set()
        self.before_fetch: Callable[[], Awaitable[None]] = nothing
        self.before_settle: Callable[[], Awaitable[None]] = nothing
        self.before_renew: Callable[[], Awaitable[None]] = nothing
        self.before_close: Callable[[], Awaitable[None]] = nothing
        self._ready: deque[AsyncDelivery] = deque()
        self._news = asyncio.Event()
        self._next = 0
        self.closed = False

    def put(self, *messages: Any) -> None:
        for data in messages:
            record = StoredRecord(f"id-{self._next}", *encode(data))
            self._ready.append(AsyncDelivery(record, "topic", 0, self._next, 0.0, 1, 7))
            self._next += 1
        self._news.set()

    async def fetch(self, limit: int, timeout: float | None) -> list[AsyncDelivery]:
        assert limit >= 1
        await self.before_fetch()
        self.log.append("fetch")
        self.asked.append((limit, timeout))
        try:
            if not self._ready and not self.closed:
                self._news.clear()
                async with asyncio.timeout(timeout):
                    await self._news.wait()
        except TimeoutError:
            return []
        if self.closed:
            raise Closed("the feed is closed")
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self.before_settle()
        if self.closed:
            raise Closed("the feed is closed")
        self.log.append("settle")
        self.settled.append([(each.action, each.message.offset, each.seconds) for each in settlements])
        lost = tuple(each.message.offset for each in settlements if each.message.offset in self.lost)
        if lost:
            raise LeaseLost("topic", lost)

    async def renew(self) -> None:
        await self.before_renew()
        self.log.append("renew")

    async def close(self) -> None:
        await self.before_close()
        self.log.append("close")
        self.closed = True
        self._news.set()

    @property
    def acked(self) -> list[int]:
        """The offsets that were acked, in the order of acking."""
        return [offset for call in self.settled for action, offset, _ in call if action == "ack"]


class FakeEngine:
    """An engine of fake feeds: `feed` is what the next subscription gets, and after that what the last one got.

    `failures` are raised by the publishes to come, None by none; `left_open` are the feeds that it had to close.
    """

    def __init__(self) -> None:
        self.name = "fake"
        self.capabilities = frozenset(Capability)
        self.default_durability = Durability.OS
        self.max_message_bytes = 100
        self.feed = FakeFeed()
        self.feeds: list[FakeFeed] = []
        self.left_open: list[FakeFeed] = []
        self.before_subscribe: Callable[[], Awaitable[None]] = nothing
        self.published: list[tuple[str, list[Record], Durability]] = []
        self.failures: deque[Exception | None] = deque()
        self.specs: list[SubscriptionSpec] = []
        self.starts: list[Start] = []
        self.known_topics: list[TopicInfo] = []
        self.known_groups: list[GroupInfo] = []
        self.closed = 0

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        self.known_topics.append(TopicInfo(name, options, ()))
        return self.known_topics[-1]

    async def drop_topic(self, name: str) -> None:
        self.known_topics = [topic for topic in self.known_topics if topic.name != name]

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        return [topic for topic in self.known_topics if names is None or topic.name in names]

    async def publish(self, topic: str, records: Sequence[Record], durability: Durability) -> list[Receipt]:
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        self.published.append((topic, list(records), durability))
        return [Receipt(record.id, topic, 0, offset, durability) for offset, record in enumerate(records)]

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        self.specs.append(spec)
        await self.before_subscribe()
        if self.feed in self.feeds:
            self.feed = FakeFeed()
        self.feeds.append(self.feed)
        return cast(AsyncFeed[M], self.feed)

    async def create_group(self, spec: SubscriptionSpec) -> None:
        self.specs.append(spec)

    async def drop_group(self, group: str) -> None:
        self.known_groups = [each for each in self.known_groups if each.group != group]

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        self.starts.append(start)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        return [each for each in self.known_groups if topic is None or each.topic == topic]

    async def close(self) -> None:
        self.left_open += [feed for feed in self.feeds if not feed.closed]
        self.closed += 1


_feed_proof: type[AsyncFeed[AsyncDelivery]] = FakeFeed
_engine_proof: type[AsyncFullEngine] = FakeEngine
