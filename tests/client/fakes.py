"""An engine that stores nothing: it hands out what a test put in, and writes down what it was asked to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from tidings.client.aio.delivery import AsyncDelivery
from tidings.errors import Closed, LeaseLost
from tidings.model.capability import Capability
from tidings.model.clock import Clock
from tidings.model.codec import encode
from tidings.model.message import Message, Receipt, Record, StoredRecord
from tidings.model.options import Durability, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import AsyncFeed, AsyncFullEngine, Gap, GroupInfo, M, Output, Settlement, TopicInfo, TopicStatistics
from tidings.testing.clock import ManualClock


async def nothing() -> None:
    """What a hook does until a test puts something in its place."""


class FakeFeed:
    """A feed of what was put in. `log` holds the calls in their order, `asked` the arguments of `fetch`.

    `settled` is what was settled, a list of (action, offset, seconds) per call; `told` has (action, offset, reason,
    error) of each. `commits` are the transactions: what was acked, the outputs, the durability. `lost` are the offsets
    whose lease is gone; `message_type` is what it makes.
    """

    def __init__(self) -> None:
        self.renew_every: float | None = None
        self.skipped = 0
        self.gaps: tuple[Gap, ...] = ()
        self.log: list[str] = []
        self.asked: list[tuple[int, float | None]] = []
        self.settled: list[list[tuple[str, int, float | None]]] = []
        self.told: list[tuple[str, int, str, str]] = []
        self.commits: list[tuple[list[tuple[str, int]], list[Output], Durability]] = []
        self.message_type: type[Any] = AsyncDelivery
        self.lost: set[int] = set()
        self.before_fetch: Callable[[], Awaitable[None]] = nothing
        self.before_settle: Callable[[], Awaitable[None]] = nothing
        self.before_commit: Callable[[], Awaitable[None]] = nothing
        self.before_renew: Callable[[], Awaitable[None]] = nothing
        self.before_close: Callable[[], Awaitable[None]] = nothing
        self._ready: deque[AsyncDelivery] = deque()
        self._news = asyncio.Event()
        self._next = 0
        self.closed = False

    def put(
        self,
        *messages: Any,
        key: str | None = None,
        lease: int = 7,
        priority: int = 5,
        headers: dict[str, str] | None = None,
        expires: float | None = None,
    ) -> None:
        extra = None if expires is None else {"expires": expires}
        for data in messages:
            record = StoredRecord(f"id-{self._next}", *encode(data), key, headers, extra)
            self._ready.append(self.message_type(record, "topic", 0, self._next, 0.0, 1, lease, priority))
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
        self.told += [(each.action, each.message.offset, each.reason, each.error) for each in settlements]
        self._refuse_lost([each.message for each in settlements])

    def _refuse_lost(self, messages: Sequence[Message]) -> None:
        lost = tuple(message.offset for message in messages if message.offset in self.lost)
        if lost:
            raise LeaseLost("topic", lost)

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None:
        await self.before_commit()
        self.log.append("commit")
        self._refuse_lost([each.message for each in settlements])
        acked = [(each.action, each.message.offset) for each in settlements]
        self.commits.append((acked, list(outputs), durability))

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
    `counts` is what the statistics of every topic are, `windows` the windows that they were asked for.
    """

    def __init__(self) -> None:
        self.name = "fake"
        self.capabilities = frozenset(Capability)
        self.opened = 0
        self.default_durability = Durability.OS
        self.max_message_bytes = 100
        self.hands = ManualClock()
        self.clock: Clock = self.hands
        self.feed = FakeFeed()
        self.feeds: list[FakeFeed] = []
        self.left_open: list[FakeFeed] = []
        self.before_subscribe: Callable[[], Awaitable[None]] = nothing
        self.published: list[tuple[str, list[Record], PublishOptions]] = []
        self.admitted: list[tuple[str, list[Record]]] = []
        self.refusal: Exception | None = None
        self.cancelled: list[Receipt] = []
        self.altered: list[tuple[str, TopicOptions]] = []
        self.counts: TopicStatistics | None = None
        self.windows: list[float] = []
        self.wrong: list[str] = []
        self.failures: deque[Exception | None] = deque()
        self.specs: list[SubscriptionSpec] = []
        self.starts: list[Start] = []
        self.known_topics: list[TopicInfo] = []
        self.known_groups: list[GroupInfo] = []
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        self.known_topics.append(TopicInfo(name, options, ()))
        return self.known_topics[-1]

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        self.altered.append((name, options))
        return TopicInfo(name, options, ())

    async def drop_topic(self, name: str) -> None:
        self.known_topics = [topic for topic in self.known_topics if topic.name != name]

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        return [topic for topic in self.known_topics if names is None or topic.name in names]

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        self.published.append((topic, list(records), options))
        return [Receipt(record.id, topic, 0, offset, options.durability) for offset, record in enumerate(records)]

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        self.specs.append(spec)
        await self.before_subscribe()
        if self.feed in self.feeds:
            self.feed = FakeFeed()
        self.feeds.append(self.feed)
        self.feed.message_type = message_type
        return cast(AsyncFeed[M], self.feed)

    async def create_group(self, spec: SubscriptionSpec) -> None:
        self.specs.append(spec)

    async def drop_group(self, group: str) -> None:
        self.known_groups = [each for each in self.known_groups if each.group != group]

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        self.starts.append(start)

    async def has_group(self, group: str) -> bool:
        return any(each.group == group for each in self.known_groups)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        return [each for each in self.known_groups if topic is None or each.topic == topic]

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        self.admitted.append((topic, list(records)))
        if self.refusal is not None:
            raise self.refusal

    async def cancel(self, receipt: Receipt) -> bool:
        self.cancelled.append(receipt)
        return receipt.scheduled is not None

    async def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        self.windows.append(window)
        return [] if self.counts is None or names is None or self.counts.topic not in names else [self.counts]

    async def problems(self) -> list[str]:
        return self.wrong

    async def close(self) -> None:
        self.left_open += [feed for feed in self.feeds if not feed.closed]
        self.closed += 1


_feed_proof: type[AsyncFeed[AsyncDelivery]] = FakeFeed
_engine_proof: type[AsyncFullEngine] = FakeEngine
