"""An engine on which things go wrong: it loses, repeats, delays, reorders and disconnects, as a seed or a script says.

    faults = Faults(seed=7, lose=0.1, repeat=0.1, delay=0.1, disconnect=0.05)
    with Client(FaultyEngine(engine, faults)) as client:
        ...
    print(faults.injected)              # what was done to whom

It shows a program what a network and a broker may do to it; the engine behind it keeps its promises all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Generic, cast

from tidings.errors import EngineError
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import (
    AsyncEngine,
    AsyncFeed,
    AsyncFullEngine,
    Engine,
    Feed,
    FullEngine,
    Gap,
    GroupInfo,
    M,
    Output,
    Settlement,
    TopicInfo,
    TopicStatistics,
)
from tidings.testing.mishaps import (
    Disconnected,
    Faults,
    Injected,
    NotStored,
    Patience,
    Post,
    calling,
    published,
    publishing,
)

__all__ = ["AsyncFaultyEngine", "Disconnected", "Faults", "FaultyEngine", "Injected", "NotStored"]


# -- the blocking form


class _FaultyFeed(Generic[M]):
    """A feed behind which things go wrong."""

    def __init__(self, feed: Feed[M], faults: Faults) -> None:
        self._feed = feed
        self._faults = faults
        self._post: Post[M] = Post(faults)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return self._feed.gaps

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        self._post.begin()
        patience = Patience(timeout)
        while not (found := self._post.take(limit)):
            seconds = patience.next()
            if seconds is None:
                break
            self._post.sort(self._feed.fetch(limit, seconds))
        return found

    def settle(self, settlements: Sequence[Settlement]) -> None:
        lost = self._post.settling(settlements)
        self._feed.settle(settlements)
        self._post.settled(lost)

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        self._post.committing(settlements)
        self._feed.commit(settlements, outputs, durability)

    def renew(self) -> None:
        self._faults.check_connection()
        self._feed.renew()

    def close(self) -> None:
        self._feed.close()


class FaultyEngine:
    """A blocking engine behind which things go wrong: `Client(FaultyEngine(engine, faults))`.

    Closing it closes the engine; closing goes well always.
    """

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = cast(FullEngine, engine)
        self._faults = faults
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.default_durability = engine.default_durability
        self.max_message_bytes = engine.max_message_bytes
        self.clock = engine.clock

    def open(self) -> None:
        self._engine.open()

    def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        calling(self._faults, "create_topic")
        return self._engine.create_topic(name, options)

    def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        calling(self._faults, "alter_topic")
        return self._engine.alter_topic(name, options)

    def drop_topic(self, name: str) -> None:
        calling(self._faults, "drop_topic")
        self._engine.drop_topic(name)

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        calling(self._faults, "topics")
        return self._engine.topics(names)

    def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        kind = publishing(self._faults, records)
        receipts = self._engine.publish(topic, records, options)
        if kind == "repeat":
            with contextlib.suppress(EngineError):
                self._engine.publish(topic, records, options)
        published(kind, records)
        return receipts

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        calling(self._faults, "subscribe")
        return _FaultyFeed(self._engine.subscribe(spec, message_type), self._faults)

    def create_group(self, spec: SubscriptionSpec) -> None:
        calling(self._faults, "create_group")
        self._engine.create_group(spec)

    def drop_group(self, group: str) -> None:
        calling(self._faults, "drop_group")
        self._engine.drop_group(group)

    def seek_group(self, topic: str, group: str, start: Start) -> None:
        calling(self._faults, "seek_group")
        self._engine.seek_group(topic, group, start)

    def has_group(self, group: str) -> bool:
        calling(self._faults, "has_group")
        return self._engine.has_group(group)

    def groups(self, topic: str | None = None) -> list[GroupInfo]:
        calling(self._faults, "groups")
        return self._engine.groups(topic)

    def admit(self, topic: str, records: Sequence[Record]) -> None:
        calling(self._faults, "admit")
        self._engine.admit(topic, records)

    def cancel(self, receipt: Receipt) -> bool:
        calling(self._faults, "cancel")
        return self._engine.cancel(receipt)

    def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        calling(self._faults, "statistics")
        return self._engine.statistics(names, window)

    def problems(self) -> list[str]:
        calling(self._faults, "problems")
        return self._engine.problems()

    def close(self) -> None:
        self._engine.close()


# -- the asynchronous form


class _AsyncFaultyFeed(Generic[M]):
    """`_FaultyFeed`, awaited. A cancelled fetch keeps what has arrived for the next one."""

    def __init__(self, feed: AsyncFeed[M], faults: Faults) -> None:
        self._feed = feed
        self._faults = faults
        self._post: Post[M] = Post(faults)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return self._feed.gaps

    async def fetch(self, limit: int, timeout: float | None) -> list[M]:
        self._post.begin()
        patience = Patience(timeout)
        while not (found := self._post.take(limit)):
            seconds = patience.next()
            if seconds is None:
                break
            self._post.sort(await self._feed.fetch(limit, seconds))
        return found

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        lost = self._post.settling(settlements)
        await self._feed.settle(settlements)
        self._post.settled(lost)

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None:
        self._post.committing(settlements)
        await self._feed.commit(settlements, outputs, durability)

    async def renew(self) -> None:
        self._faults.check_connection()
        await self._feed.renew()

    async def close(self) -> None:
        await self._feed.close()


class AsyncFaultyEngine:
    """`FaultyEngine`, awaited: `AsyncClient(AsyncFaultyEngine(engine, faults))`."""

    def __init__(self, engine: AsyncEngine, faults: Faults) -> None:
        self._engine = cast(AsyncFullEngine, engine)
        self._faults = faults
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.default_durability = engine.default_durability
        self.max_message_bytes = engine.max_message_bytes
        self.clock = engine.clock

    async def open(self) -> None:
        await self._engine.open()

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        calling(self._faults, "create_topic")
        return await self._engine.create_topic(name, options)

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        calling(self._faults, "alter_topic")
        return await self._engine.alter_topic(name, options)

    async def drop_topic(self, name: str) -> None:
        calling(self._faults, "drop_topic")
        await self._engine.drop_topic(name)

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        calling(self._faults, "topics")
        return await self._engine.topics(names)

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        kind = publishing(self._faults, records)
        receipts = await self._engine.publish(topic, records, options)
        if kind == "repeat":
            with contextlib.suppress(EngineError):
                await self._engine.publish(topic, records, options)
        published(kind, records)
        return receipts

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        calling(self._faults, "subscribe")
        return _AsyncFaultyFeed(await self._engine.subscribe(spec, message_type), self._faults)

    async def create_group(self, spec: SubscriptionSpec) -> None:
        calling(self._faults, "create_group")
        await self._engine.create_group(spec)

    async def drop_group(self, group: str) -> None:
        calling(self._faults, "drop_group")
        await self._engine.drop_group(group)

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        calling(self._faults, "seek_group")
        await self._engine.seek_group(topic, group, start)

    async def has_group(self, group: str) -> bool:
        calling(self._faults, "has_group")
        return await self._engine.has_group(group)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        calling(self._faults, "groups")
        return await self._engine.groups(topic)

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        calling(self._faults, "admit")
        await self._engine.admit(topic, records)

    async def cancel(self, receipt: Receipt) -> bool:
        calling(self._faults, "cancel")
        return await self._engine.cancel(receipt)

    async def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        calling(self._faults, "statistics")
        return await self._engine.statistics(names, window)

    async def problems(self) -> list[str]:
        calling(self._faults, "problems")
        return await self._engine.problems()

    async def close(self) -> None:
        await self._engine.close()


_proof: type[FullEngine] = FaultyEngine
_async_proof: type[AsyncFullEngine] = AsyncFaultyEngine
