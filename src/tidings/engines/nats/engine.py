"""The engine for NATS: streams for topics, durable consumers for groups, a KV bucket for what is known of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from tidings.brokers.engine import BrokerEngine
from tidings.brokers.feed import BrokerFeed
from tidings.brokers.portal import BlockingEngine
from tidings.brokers.registry import TopicEntry, admit, with_filter
from tidings.brokers.verdicts import Act, Judge
from tidings.engines.nats.catalog import Catalog
from tidings.engines.nats.groups import Groups
from tidings.engines.nats.levels import Levels
from tidings.engines.nats.names import Names, Shard
from tidings.engines.nats.options import NatsOptions, read_bus
from tidings.engines.nats.publishing import Publisher
from tidings.engines.nats.reading.member import Member
from tidings.engines.nats.reading.released import Released
from tidings.engines.nats.reading.tail import Tail, Wanted
from tidings.engines.nats.server.errors import MESSAGE_NOT_FOUND, STREAM_NOT_FOUND, Refusal, translate
from tidings.engines.nats.server.jetstream import Answer, JetStream
from tidings.engines.nats.server.link import Link
from tidings.engines.nats.topics import Topics
from tidings.errors import BrokerRefused, Closed, EngineError
from tidings.model.capability import Capability
from tidings.model.message import Receipt, Record
from tidings.model.options import MAX_PARTITIONS, Durability, Guarantee, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.url import URL, read_options
from tidings.spi import AsyncFeed, AsyncFullEngine, GroupInfo, M, TopicInfo

CAPABILITIES = frozenset(
    {
        Capability.GROUPS,
        Capability.REPLAY,
        Capability.SEEK,
        Capability.PARTITIONS,
        Capability.PATTERNS,
        Capability.RETENTION,
        Capability.RETENTION_COUNT,
        Capability.LAG,
        Capability.OS_DURABILITY,
        Capability.DISK_DURABILITY,
        Capability.QUORUM_DURABILITY,
        Capability.PROCESSES,
        Capability.AT_MOST_ONCE,
        Capability.DEDUPLICATION,
        Capability.DEAD_LETTERS,
        Capability.EXPIRY,
        Capability.DELAY,
        Capability.CANCEL,
        Capability.COMPRESSION,
        Capability.SCHEMA,
        Capability.ALTER,
        Capability.FILTERS,
        Capability.OFFSETS,
        Capability.GROUP_REPLAY,
        Capability.GROUPS_AT_MOST_ONCE,
        Capability.EXACT_ATTEMPTS,
        Capability.TOPICS,
    }
)

SCHEDULES_LEVEL = 2
"""Of the server's API: since 2.12 it delivers later, lets messages expire, and stores batches as one."""

DURABILITIES = {
    Capability.OS_DURABILITY: Durability.OS,
    Capability.DISK_DURABILITY: Durability.DISK,
    Capability.QUORUM_DURABILITY: Durability.QUORUM,
}


class NatsEngine(BrokerEngine):
    """One bus on a NATS server or cluster."""

    def __init__(self, url: URL) -> None:
        self._options = options = read_options(url, NatsOptions)
        super().__init__("nats", CAPABILITIES, options.max_message_bytes)
        address, bus = read_bus(url)
        self._names = Names(bus, options.subject_prefix)
        self._link = Link(address, options)
        self._jetstream = JetStream(self._link, options.request_seconds)
        self._catalog = Catalog(self._link, self._jetstream, self._names, options)
        self._topics = Topics(self._jetstream, self._catalog, self._names, options, self.clock)
        self._levels = Levels(options)
        self._publisher = Publisher(self._link, self._topics, self._levels, options, self.clock)
        self._groups = Groups(self._jetstream, self._catalog, self._topics, self._names, options, self.clock)
        self._released = Released(self._jetstream, self._names, options)
        self._opening = asyncio.Lock()
        self._feeds: set[AsyncFeed[Any]] = set()
        self._leaving: asyncio.Future[None] | None = None
        self._open = self._closed = False

    # -- opening and closing

    async def open(self) -> None:
        if self._closed:
            raise Closed("the client is closed")
        if self._open:
            return
        async with self._opening:
            if self._closed:
                raise Closed("the client is closed")
            if not self._open:
                await self._link.open()
                await self._learn()
                await self._catalog.open()
                self._topics.appeared = self._groups.appeared
                self._open = True

    async def _learn(self) -> None:
        """Find out what the server can do."""
        server = self._link.server
        if not server.get("jetstream"):
            raise BrokerRefused("nats: the server runs without JetStream; start it with `-js`")
        try:
            account = await self._jetstream.call("INFO")
        except Refusal as refusal:
            raise translate(refusal, "asking for JetStream") from refusal
        await self._levels.probe(str(server.get("server_id")))
        lacks = {each for each, level in DURABILITIES.items() if level not in self._levels.proven()}
        if account.get("api", {}).get("level", 0) < SCHEDULES_LEVEL:
            self._topics.schedules = self._publisher.atomic = False
            lacks |= {Capability.DELAY, Capability.CANCEL}
        self.capabilities = CAPABILITIES - lacks

    async def close(self) -> None:
        """Cancelled, it goes on by itself; called again, it waits for that."""
        self._closed = True
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        try:
            await asyncio.gather(*(feed.close() for feed in self._feeds))
            await self._catalog.close()  # also of an opening that did not come to its end
        finally:
            await self._link.close()

    # -- topics

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self.open()
        return await self._topics.create(name, options)

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self.open()
        return await self._topics.alter(name, options)

    async def drop_topic(self, name: str) -> None:
        await self.open()
        await self._topics.drop(name)

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        await self.open()
        return await self._topics.infos(names)

    # -- publishing

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        await self.open()
        if options.deliver_at is not None and not self._topics.schedules:
            raise self.refusal(Capability.DELAY, "run nats-server 2.12 or newer")
        return await self._publisher.publish(topic, records, options)

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        await self.open()
        await self._catalog.refresh()
        if (entry := self._catalog.topics.get(topic)) is not None:
            admit(entry, records)

    async def cancel(self, receipt: Receipt) -> bool:
        await self.open()
        if receipt.scheduled is None:
            return False
        sequence, partition = divmod(receipt.scheduled, MAX_PARTITIONS)
        stream = self._names.shard(receipt.topic, partition).stream
        try:
            await self._jetstream.call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except Refusal as refusal:
            if refusal.code in (*MESSAGE_NOT_FOUND, STREAM_NOT_FOUND):
                return False
            raise translate(refusal, "taking back") from refusal
        return True

    # -- reading

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        await self.open()
        for pattern in spec.patterns:
            if pattern.literal is not None:
                await self._topics.find(pattern.literal)
        if spec.group is not None:
            spec = with_filter(spec, await self._groups.bind(spec))
        else:
            await self._catalog.refresh()
        source = self._member(spec) if spec.group is not None else self._tail(spec)
        judge = Judge(spec, self._topics.terms, self.clock.now)
        feed = _Feed(source, spec, message_type, judge, self._topics.terms)
        feed.left = lambda: self._feeds.discard(feed)
        self._feeds.add(feed)
        try:
            if isinstance(source, Member):
                feed.lease(self._options.lease_seconds)
                await source.open(self._options.lease_seconds, self.max_message_bytes)
            else:
                await source.open(spec.start)
        except BaseException:
            await feed.close()
            raise
        return feed

    def _tail(self, spec: SubscriptionSpec) -> Tail:
        tail = Tail(self._link, self._jetstream, self._wanted(spec), self._topics.mend, self.max_message_bytes)
        tail.bury = self._bury
        tail.losses = lambda: self._catalog.losses
        return tail

    def _member(self, spec: SubscriptionSpec) -> Member:
        group, losses = spec.group or "", self._catalog.losses

        async def make(wanted: Sequence[tuple[Shard, Start]]) -> list[Answer]:
            nonlocal losses
            await self._catalog.refresh()
            if losses != (now := self._catalog.losses):  # the group is gone with all that was before
                await self._groups.bind(replace(spec, start="beginning"))
                losses = now
            return await self._groups.make(group, wanted)

        return Member(self._link, self._jetstream, self._wanted(spec), make, self._released, self._bury)

    def _wanted(self, spec: SubscriptionSpec) -> Callable[[], Sequence[Wanted]]:
        """Return what gives the streams that a subscription reads: the same list until the catalog changes."""
        catalog, group = self._catalog, spec.group
        seen: list[object] = [None, None, None]
        found: list[list[Wanted]] = [[]]

        def wanted() -> list[Wanted]:
            now = [catalog.topics, catalog.groups, catalog.moved]
            if any(a is not b for a, b in zip(now, seen, strict=True)):
                seen[:] = now
                fresh = [] if group is not None and group not in catalog.groups else self._streams(spec)
                if fresh != found[0]:
                    found[0] = fresh
            return found[0]

        return wanted

    def _streams(self, spec: SubscriptionSpec) -> list[Wanted]:
        return [
            self._want(entry, partition, spec.group)
            for entry in self._catalog.topics.values()
            if any(pattern.matches(entry.name) for pattern in spec.patterns)
            for partition in spec.partitions or range(entry.options.partitions)
            if partition < entry.options.partitions
        ]

    def _want(self, entry: TopicEntry, partition: int, group: str | None) -> Wanted:
        shard, options = self._names.shard(entry.name, partition), entry.options
        trimmed = any((options.retention_period, options.retention_bytes, options.retention_messages))
        consumer = "" if group is None else self._groups.consumer(group, shard)
        return Wanted(shard, entry.created, trimmed, options.delivery is Guarantee.AT_MOST_ONCE, consumer)

    async def _bury(self, acts: Sequence[Act]) -> None:
        """Store the dead letters of these, each once for each group that gives it up."""
        letters = []
        for act in acts:
            if act.letter is not None:
                held = act.handle
                name = "" if held is None else f"dead-{held.consumer}-{held.stream}-{held.sequence}"
                letters.append((act.letter, name))
        await self._publisher.bury(letters)

    # -- groups

    async def create_group(self, spec: SubscriptionSpec) -> None:
        await self.open()
        await self._groups.bind(spec)

    async def drop_group(self, group: str) -> None:
        await self.open()
        await self._groups.drop(group)

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        await self.open()
        await self._groups.seek(topic, group, start)

    async def has_group(self, group: str) -> bool:
        await self.open()
        return await self._groups.has(group)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        await self.open()
        return await self._groups.infos(topic)

    async def problems(self) -> list[str]:
        """Return nothing when the server answers, else what it, or the way to it, has."""
        try:
            await self.open()
            await self._catalog.refresh()
        except EngineError as error:
            return [str(error)]
        return []


class _Feed(BrokerFeed[M]):
    """A feed of which the engine knows as long as it is open."""

    left: Callable[[], None]

    def _leave_to_others(self, limit: int) -> None:
        """What was found beyond the limit stays with the source, which gives it back when nobody fetches."""
        if isinstance(self._source, Member):
            beyond = [self._ready.pop() for _ in range(len(self._ready) - limit)]
            self._source.put_back([(message, self._held.pop(message.lease, None)) for message in beyond])

    async def close(self) -> None:
        await super().close()
        self.left()


_proof: type[AsyncFullEngine] = NatsEngine


def open_async(url: URL) -> NatsEngine:
    """Open the engine for one event loop."""
    return NatsEngine(url)


def open_blocking(url: URL) -> BlockingEngine:
    """Open the engine for blocking clients."""
    return BlockingEngine(lambda: NatsEngine(url))
