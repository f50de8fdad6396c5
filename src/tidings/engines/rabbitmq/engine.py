"""The engine for RabbitMQ: a bus is a topic exchange, a group a quorum queue, the log of a topic a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace
from pamqp import commands

from tidings.brokers.engine import BrokerEngine
from tidings.brokers.feed import BrokerFeed, Delivery
from tidings.brokers.portal import BlockingEngine
from tidings.brokers.registry import TopicEntry, admit, compression_of, prepare, with_filter
from tidings.brokers.verdicts import Act, Judge
from tidings.engines.rabbitmq.catalog import Catalog
from tidings.engines.rabbitmq.channel import Arrival, Channel, Parcel
from tidings.engines.rabbitmq.delays import SCHEDULE_BITS, Delays, delay_headers
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.messages import delivery_of, properties_of, topic_of
from tidings.engines.rabbitmq.options import ExchangeType, Names, RabbitOptions, read_url, routing_key
from tidings.engines.rabbitmq.publisher import Publisher, Room
from tidings.engines.rabbitmq.reading.groups import GroupReader
from tidings.engines.rabbitmq.reading.reader import Reader
from tidings.engines.rabbitmq.reading.tails import LogReader, TailReader
from tidings.errors import Closed, LeaseLost, MessageTooLarge, SchemaMismatch, Unroutable
from tidings.model.capability import Capability
from tidings.model.dead_letter import DEAD_LETTER_GROUP, PREFIX
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import Durability, Guarantee, PublishOptions, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern
from tidings.model.url import URL
from tidings.spi import AsyncFeed, AsyncFullEngine, GroupInfo, M, PartitionInfo, TopicInfo

CAPABILITIES = frozenset(
    {
        Capability.GROUPS,
        Capability.PATTERNS,
        Capability.OS_DURABILITY,
        Capability.PROCESSES,
        Capability.AT_MOST_ONCE,
        Capability.GROUPS_AT_MOST_ONCE,
        Capability.DEAD_LETTERS,
        Capability.EXPIRY,
        Capability.DELAY,
        Capability.COMPRESSION,
        Capability.SCHEMA,
        Capability.ALTER,
        Capability.FILTERS,
        Capability.DEATH_WATCH,
        Capability.TOPICS,
    }
)
"""Of every bus."""

LOGGED = frozenset({Capability.REPLAY, Capability.RETENTION})
"""Where topics keep a log."""

_LEVELS = {
    Durability.OS: (Capability.OS_DURABILITY, "make a group that collects it, or let topics keep a log (?replay=true)"),
    Durability.DISK: (
        Capability.DISK_DURABILITY,
        "RabbitMQ syncs the queues of groups, not the logs of topics: use ?replay=false, and make a group first",
    ),
    Durability.QUORUM: (Capability.QUORUM_DURABILITY, "AMQP does not tell how many nodes have a message"),
}


class RabbitEngine(BrokerEngine):
    """An asynchronous engine on RabbitMQ."""

    def __init__(self, url: URL) -> None:
        self._address, self._options = read_url(url)
        super().__init__("rabbitmq", _capabilities(self._options), self._options.max_message_bytes)
        self._names = Names(self._options.exchange)
        self._link = Link(self._address, self._options)
        self._publisher = Publisher(self._link, self._prepare)
        self._catalog = Catalog(self._link, self._publisher, self._names, self._options, self.clock.now)
        self._delays = Delays(self._link, self._names)
        self._room = Room(self._link, self._catalog)
        self._feeds: dict[Reader, AsyncFeed[Any]] = {}
        self._scheduled = count(1)
        self._closed = False

    # -- coming and going

    async def open(self) -> None:
        if self._closed:
            raise Closed("the client is closed")
        await self._catalog.open()

    async def _prepare(self, channel: Channel) -> None:
        """Make what everything else of the bus hangs on."""
        options = self._options
        frame = commands.Exchange.Declare(
            exchange=options.exchange, exchange_type=options.exchange_type, durable=options.durable
        )
        await self._link.ask(channel.rpc(frame))
        frame = commands.Exchange.Declare(exchange=self._names.groups, exchange_type="direct", durable=True)
        await self._link.ask(channel.rpc(frame))

    async def close(self) -> None:
        self._closed = True
        try:
            for feed in tuple(self._feeds.values()):
                await feed.close()
        finally:
            try:
                await self._catalog.close()
            finally:
                await self._link.close()

    # -- topics

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self.open()
        return _info(await self._catalog.create_topic(name, options))

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        await self.open()
        return _info(await self._catalog.alter_topic(name, options))

    async def drop_topic(self, name: str) -> None:
        await self.open()
        await self._catalog.drop_topic(name)

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        await self.open()
        await self._catalog.refresh()
        found = self._catalog.topics
        return [_info(found[name]) for name in sorted(found if names is None else set(names) & found.keys())]

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        await self.open()
        admit(await self._topic(topic), records)

    async def _topic(self, name: str) -> TopicEntry:
        return self._catalog.topics.get(name) or await self._catalog.create_topic(name, None)

    # -- publishing

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        await self.open()
        entry = await self._topic(topic)
        now, at = self.clock.now(), options.deliver_at
        if at is not None and at <= now:
            options, at = replace(options, deliver_at=None), None
        try:
            prepare(entry, records, at or now)
        except SchemaMismatch:  # perhaps somebody has changed the schema just now
            await self._catalog.refresh()
            prepare(entry := await self._topic(topic), records, at or now)
        reached = self._reached(entry, options.durability)
        if at is not None:
            await self._delays.make()
        async with self._room.taken(topic, len(records)):
            await self._send(self._pack(entry, records, options, now), entry)
        if at is None:
            return [Receipt(record.id, topic, 0, -1, reached) for record in records]
        return [Receipt(record.id, topic, -1, -1, reached, scheduled=next(self._scheduled)) for record in records]

    def _pack(self, entry: TopicEntry, records: Sequence[Record], options: PublishOptions, now: float) -> list[Parcel]:
        exchange, key, name = self._options.exchange, routing_key(entry.name), entry.name
        kept = entry.options.delivery != Guarantee.AT_MOST_ONCE
        compression = compression_of(entry, options.compression)
        way = {}
        if options.deliver_at is not None:
            exchange, way = self._delays.entry, delay_headers(options.deliver_at - now, SCHEDULE_BITS)
        return [Parcel(exchange, key, *properties_of(record, name, compression, now, kept, way)) for record in records]

    async def _send(self, parcels: Sequence[Parcel], entry: TopicEntry) -> None:
        """Publish. A topic whose log is gone was dropped meanwhile: it is made anew, and so is its log."""
        topic, catalog = entry.name, self._catalog
        find = catalog.find_log if catalog.keeps_log(topic, entry.options) else None
        try:
            await self._publisher.send(parcels, topic, find)
        except Unroutable:
            if not await catalog.mend(topic):
                raise
            await self._publisher.send(parcels, topic)

    def _reached(self, entry: TopicEntry, asked: Durability) -> Durability:
        """Return what a receipt is to name. Raises `UnsupportedFeature` when what is asked for is not proven."""
        levels = [Durability.MEMORY]
        if entry.options.delivery != Guarantee.AT_MOST_ONCE:
            logged, collected = (
                self._catalog.keeps_log(entry.name, entry.options),
                self._catalog.is_collected(entry.name),
            )
            levels += [Durability.OS] * (logged or collected) + [Durability.DISK] * (collected and not logged)
        if asked not in levels:
            raise self.refusal(*_LEVELS[asked])
        return levels[-1] if asked is Durability.MEMORY else asked

    async def _bury(self, acts: Sequence[Act]) -> None:
        """Store the dead letters, each batch in one write."""
        letters = [act.letter for act in acts if act.letter is not None]
        for topic in dict.fromkeys(letter.topic for letter in letters):
            if self._catalog.owner(DEAD_LETTER_GROUP, topic) is None:
                await self._catalog.create_group(
                    SubscriptionSpec(patterns=(Pattern.parse(topic),), group=DEAD_LETTER_GROUP)
                )
            entry = await self._topic(topic)
            records = [letter.record for letter in letters if letter.topic == topic]
            try:
                await self._store(entry, records)
            except MessageTooLarge:  # the headers of a program without tidings were as large as they may be
                for record in records:
                    await self._store_cut(entry, record)

    async def _store_cut(self, entry: TopicEntry, letter: Record) -> None:
        try:
            await self._store(entry, [letter])
        except MessageTooLarge:
            await self._store(entry, [without_others(letter)])

    async def _store(self, entry: TopicEntry, letters: Sequence[Record]) -> None:
        parcels = self._pack(entry, letters, PublishOptions(Durability.MEMORY), self.clock.now())
        try:
            await self._send(parcels, entry)
        except Unroutable:
            await self._catalog.make_log(entry.name, entry.options)
            await self._send(parcels, entry)

    # -- subscribing

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        await self.open()
        if spec.group is not None:
            spec = await self._join(spec)
        source = self._source(spec)
        feed = _Feed(source, spec, message_type, Judge(spec, self._catalog.terms, self.clock.now), self._catalog.terms)
        self._feeds = {reader: each for reader, each in self._feeds.items() if not reader.closed}
        self._feeds[source] = feed
        try:
            await source.open()
        except BaseException:
            await feed.close()
            raise
        return feed

    def _source(self, spec: SubscriptionSpec) -> GroupReader | TailReader:
        read = self._reader(spec)
        if spec.group is not None:
            return GroupReader(self._link, self._catalog, self._publisher, spec, read, self._bury)
        if spec.start == "end":
            return TailReader(self._link, self._names, spec, read, self._bury)
        for pattern in spec.patterns:
            topic = pattern.literal
            if not self._options.logged or (topic and not self._catalog.keeps_log(topic, self._catalog.terms(topic))):
                raise self.refusal(Capability.REPLAY, "use a topic that delivers at least once, without ?replay=false")
        return LogReader(self._link, self._catalog, spec, read, self._bury)

    def _reader(self, spec: SubscriptionSpec) -> Callable[[Arrival, Any], Delivery]:
        first = spec.patterns[0].literal
        otherwise = None
        if self._options.exchange_type != ExchangeType.TOPIC:
            otherwise = first if first is not None and len(spec.patterns) == 1 else self._options.exchange
        limit, now = self.max_message_bytes, self.clock.now

        def read(arrival: Arrival, handle: Any) -> Delivery:
            return delivery_of(arrival, topic_of(arrival, otherwise), handle, limit, now())

        return read

    async def _join(self, spec: SubscriptionSpec) -> SubscriptionSpec:
        if spec.start != "end" and spec.group != DEAD_LETTER_GROUP:  # that one has been there from the first letter on
            raise self.refusal(Capability.GROUP_REPLAY, "let the group begin now, and read what was before by itself")
        return with_filter(spec, await self._catalog.create_group(spec))

    # -- groups

    async def create_group(self, spec: SubscriptionSpec) -> None:
        await self.open()
        await self._join(spec)

    async def drop_group(self, group: str) -> None:
        await self.open()
        await self._catalog.drop_group(group)

    async def has_group(self, group: str) -> bool:
        await self.open()
        await self._catalog.refresh()
        return group in self._catalog.groups

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        """Return the groups; AMQP does not tell how they stand."""
        await self.open()
        await self._catalog.refresh()
        topics = [name for name in sorted(self._catalog.topics) if topic in (None, name)]
        return [
            GroupInfo(group=name, topic=each, lag=-1, filter=None if group.filter is None else str(group.predicate))
            for name, group in sorted(self._catalog.groups.items())
            for each in topics
            if self._catalog.owner(name, each) is not None
        ]


class _Feed(BrokerFeed[M]):
    """A feed that tells when leases were lost with the connection, as all are that were held on it."""

    def _forget(self, acts: Sequence[Act], refused: Sequence[Act], lost: Sequence[Message] = ()) -> None:
        try:
            super()._forget(acts, refused, lost)
        except LeaseLost as error:
            if not all(act.handle.channel.is_alive for act in refused):
                error.args = (f"{error}, for the connection to the broker was lost",)
            raise


def without_others(letter: Record) -> Record:
    """Return a dead letter that has no headers but its story."""
    story = {name: value for name, value in (letter.headers or {}).items() if name.startswith(PREFIX)}
    return Record(letter.id, letter.content_type, letter.data, letter.key, story)


def _capabilities(options: RabbitOptions) -> frozenset[Capability]:
    found = CAPABILITIES | (LOGGED if options.logged else {Capability.DISK_DURABILITY})
    if options.exchange_type in (ExchangeType.TOPIC, ExchangeType.DIRECT):  # others let all topics into every queue
        found |= {Capability.MAX_LENGTH}
    return found


def _info(entry: TopicEntry) -> TopicInfo:
    """AMQP does not tell what a stream holds."""
    return TopicInfo(entry.name, entry.options, (PartitionInfo(0, 0, -1, -1),), entry.schemas)


def open_async(url: URL) -> RabbitEngine:
    """Open a bus on RabbitMQ for an event loop."""
    return RabbitEngine(url)


def open_blocking(url: URL) -> BlockingEngine:
    """Open a bus on RabbitMQ."""
    return BlockingEngine(lambda: RabbitEngine(url))


_proof: type[AsyncFullEngine] = RabbitEngine
