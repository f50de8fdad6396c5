"""The engine for Redis: streams with groups for what is kept, Pub/Sub for what is delivered at most once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from tidings.brokers.engine import BrokerEngine
from tidings.brokers.feed import BrokerFeed
from tidings.brokers.portal import BlockingEngine
from tidings.brokers.registry import GroupEntry, new_group, to_json, with_filter
from tidings.brokers.verdicts import Judge
from tidings.engines.redis.catalog import ATTEMPTS, Catalog
from tidings.engines.redis.publishing import Publisher
from tidings.engines.redis.reading.consumer import Consumer
from tidings.engines.redis.reading.reader import Place, Reader
from tidings.engines.redis.reading.settling import Settler
from tidings.engines.redis.reading.tail import Tail
from tidings.engines.redis.server.link import Link
from tidings.engines.redis.server.options import Target
from tidings.engines.redis.standing import About, Standing, look
from tidings.errors import BusBusy, EngineError, GroupExists, GroupNotFound, InvalidOption, TooManySubscribers
from tidings.model.capability import Capability
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.url import URL
from tidings.spi import AsyncFeed, AsyncFullEngine, GroupInfo, M, Settlement, TopicInfo, TopicStatistics

PROVEN = {
    Capability.OS_DURABILITY: Durability.OS,
    Capability.DISK_DURABILITY: Durability.DISK,
    Capability.QUORUM_DURABILITY: Durability.QUORUM,
}
"""What a server has to be configured for."""

CAPABILITIES = frozenset(Capability) - {Capability.ORDERING}


class RedisFeed(BrokerFeed[M]):
    """A feed that decides by the options that its topics have now: others may have changed them."""

    def __init__(self, reader: Reader, catalog: Catalog, *arguments: Any) -> None:
        super().__init__(reader, *arguments)
        self._catalog = catalog
        if isinstance(reader, Consumer):
            reader.holds, reader.eager = self._held_now, self._plain

    def _held_now(self) -> list[Any]:
        return list(self._held.values())

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        topics = {each.message.topic for each in settlements if each.action in ("nack", "reject", "expire")}
        if topics:
            await self._catalog.load(list(topics))
        await super().settle(settlements)


class RedisEngine(BrokerEngine):
    """An asynchronous engine on one Redis."""

    def __init__(self, url: URL) -> None:
        target = Target(url)
        super().__init__("redis", CAPABILITIES, target.options.max_message_bytes)
        self._link = Link(target, self._told, self._news, self._back)
        self._catalog = Catalog(self._link, self.clock.now)
        self._publisher = Publisher(self._link, self._catalog, self.clock.now)
        self._settler = Settler(self._link, self._catalog, self._publisher)
        self._feeds: dict[Reader, RedisFeed[Any]] = {}
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        await self._link.open()
        proves = self._link.server.proves
        self.capabilities = CAPABILITIES - {each for each, level in PROVEN.items() if not proves(level)}

    def _told(self, topic: str) -> None:
        self._publisher.told(topic)
        for reader in self._feeds:
            reader.told(topic)

    def _news(self) -> None:
        for reader in self._feeds:
            reader.news()

    def _back(self, since: float) -> None:
        for reader in self._feeds:
            reader.back(since)

    # -- topics

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self._catalog.create(name, options)
        return (await self._look([name]))[0].info()

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self._catalog.alter(name, options)
        return (await self._look([name]))[0].info()

    async def drop_topic(self, name: str) -> None:
        await self._catalog.drop(name)

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        return [each.info() for each in await self._look(names)]

    async def _look(self, names: Sequence[str] | None, window: float = 1.0) -> list[Standing]:
        _, groups = await self._catalog.load_groups()
        return await look(self._link, groups, names, window)

    # -- publishing

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        await self._link.open()
        return await self._publisher.publish(topic, records, options) if records else []

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        await self._publisher.admit(topic, records)

    async def cancel(self, receipt: Receipt) -> bool:
        if receipt.scheduled is None:
            return False
        answer = await self._link.run("cancel", receipt.topic, receipt.message_id, f"{receipt.scheduled:016d}")
        return bool(answer[1])

    # -- subscribing

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        if spec.ordering:
            raise self.refusal(Capability.ORDERING)
        await self._link.open()
        name = f"{spec.consumer}#{os.urandom(4).hex()}"
        reader: Reader
        if spec.group is None:
            reader = tail = Tail(self._link, self._catalog, self._settler, spec, name)
            await tail.listen()
        else:
            reader = Consumer(self._link, self._catalog, self._settler, spec, name)
        about = About(spec.consumer, spec.group or "", os.getpid(), self.clock.now(), self._link.channel)
        reader.about = msgspec.json.encode(about)
        try:
            spec = await self._attach(reader, spec)
        except BaseException:
            await reader.close(())
            raise
        judge = Judge(spec, self._catalog.terms, self.clock.now)
        feed: RedisFeed[M] = RedisFeed(reader, self._catalog, spec, message_type, judge, self._catalog.terms)
        if spec.group is not None:
            feed.lease(self._link.target.options.lease_seconds)
        self._feeds = {**{each: its for each, its in self._feeds.items() if not each.closed}, reader: feed}
        return feed

    async def _attach(self, reader: Reader, spec: SubscriptionSpec) -> SubscriptionSpec:
        """Let the reader begin; return what it is to read, as its group has it."""
        place = self._place(spec.start)
        await self._check_literals(spec)
        for attempt in range(ATTEMPTS):
            groupings, entry = await self._group(spec, attempt > 0)
            number, names = await self._names(spec)
            reader.entry = b"" if entry is None else to_json(entry)
            answer = await reader.attach(names, place, False, number, groupings, reader.entry)
            if answer[0] == b"many":
                raise TooManySubscribers(answer[1].decode(), answer[2])
            if answer[0] == b"ok":
                reader.known_from(answer[1])
                await self._learn(answer[2])
                return spec if entry is None else with_filter(spec, entry)
        raise BusBusy("topics and groups were made and dropped all the time meanwhile; try again")

    async def _check_literals(self, spec: SubscriptionSpec) -> None:
        """Make the topics that a group names. Raises `InvalidOption` for partitions that a topic of this name does not
        have: nothing would ever come."""
        literals = [pattern.literal for pattern in spec.patterns if pattern.literal is not None]
        if spec.group is not None:
            for literal in literals:
                await self._catalog.find(literal)
        if spec.partitions is not None:
            await self._catalog.load(literals)
            for literal in literals:
                partitions = self._catalog.terms(literal).partitions
                if self._catalog.has(literal) and spec.partitions[0] >= partitions:
                    reason = f"topic {literal!r} has the partitions 0 to {partitions - 1}"
                    raise InvalidOption("partition", spec.partitions[0], reason)

    def _place(self, start: Start) -> Place:
        if isinstance(start, str):
            return start, 0
        if isinstance(start, float):
            return "time", round((start + self._link.skew) * 1e6)
        return "offset", start

    async def _names(self, spec: SubscriptionSpec) -> tuple[bytes, list[str]]:
        """Return the topics to attach to, and the number of the catalog for which that holds."""
        literals = [pattern.literal for pattern in spec.patterns if pattern.literal is not None]
        if len(literals) == len(spec.patterns):
            return b"", literals
        number, names = await self._catalog.names()
        return number, [name for name in names if any(pattern.matches(name) for pattern in spec.patterns)]

    async def _learn(self, topics: Sequence[Any]) -> None:
        """Look up the topics that are not known at the version that they were attached at."""
        names = [(name.decode(), version) for name, version, *_ in topics]
        if changed := [name for name, version in names if not self._catalog.knows(name, version)]:
            await self._catalog.load(changed)

    async def _group(self, spec: SubscriptionSpec, anew: bool) -> tuple[bytes, GroupEntry | None]:
        """Return the group with what the subscription adds to it, and the number of the groups for which that holds."""
        if spec.group is None:
            return b"", None
        number, found = await self._catalog.group(spec.group, anew)
        now = self.clock.now()
        try:
            return number, new_group(spec, now) if found is None else found.joined(spec, now)
        except GroupExists:  # it may have been another one that had this filter
            if anew:
                raise
            return await self._group(spec, True)

    # -- groups

    async def create_group(self, spec: SubscriptionSpec) -> None:
        await self._link.open()
        await self._attach(Consumer(self._link, self._catalog, self._settler, spec, ""), spec)

    async def drop_group(self, group: str) -> None:
        if (await self._link.run("groups", "drop", group))[0] == b"missing":
            raise GroupNotFound(group)

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        answer = await self._link.run("groups", "seek", group, topic, *self._place(start), repeat=True)
        if answer[0] == b"missing":
            raise GroupNotFound(group, topic)

    async def has_group(self, group: str) -> bool:
        return (await self._catalog.group(group))[1] is not None

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        found = [group for each in await self._look(None if topic is None else [topic]) for group in each.groups]
        return sorted(found, key=lambda group: (group.group, group.topic))

    # -- numbers

    async def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        return [each.statistics(window) for each in await self._look(names, window)]

    async def problems(self) -> list[str]:
        try:
            problems = await self._link.problems()
            await self._catalog.load_groups()
        except EngineError as error:
            return [str(error)]
        return problems

    # -- the end

    async def close(self) -> None:
        """Cancelled, it goes on by itself; called again, it waits for that."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for feed in self._feeds.values():
            await feed.close()
        await self._link.close()


def open_async(url: URL) -> RedisEngine:
    """Open a bus on Redis for an event loop."""
    return RedisEngine(url)


def open_blocking(url: URL) -> BlockingEngine:
    """Open a bus on Redis."""
    return BlockingEngine(lambda: RedisEngine(url))


_proof: type[AsyncFullEngine] = RedisEngine
