"""The embedded engine, blocking: what `spi.Engine` asks, on a bus of this process."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tidings.engines.embedded import bus as buses
from tidings.engines.embedded.bus import Bus, BusOptions
from tidings.engines.embedded.catalog import Catalog, Log, Topic
from tidings.engines.embedded.disk import place
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.flow import Vacancy
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.waking.board import ROOM_MADE, TOPICS_CHANGED
from tidings.errors import (
    Closed,
    GroupNotFound,
    InvalidOption,
    InvalidURL,
    PublishUnknown,
    TopicFull,
    UnsupportedFeature,
)
from tidings.model.capability import Capability
from tidings.model.clock import Clock
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, Overflow, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern
from tidings.model.url import URL, read_options
from tidings.spi import (
    Feed,
    FullEngine,
    Gap,
    GroupInfo,
    M,
    Output,
    PartitionInfo,
    SchemaVersion,
    Settlement,
    TopicInfo,
    TopicStatistics,
)

if TYPE_CHECKING:
    from tidings.engines.embedded.reading.group import GroupFeed
    from tidings.engines.embedded.reading.tail import TailFeed

ON_DISK = {Capability.OS_DURABILITY, Capability.DISK_DURABILITY, Capability.PROCESSES}
"""What `file:` can do and `memory:` cannot."""

LOOK_THROUGH_SECONDS = 120.0
"""How long a fetch that is not to wait looks through messages that are not wanted: tens of millions, and an end to it
when others publish as fast as it reads. Longer than any query may take, which would take it for the end of the log."""

_private = itertools.count()


class BlockingFeed(Feed[M]):
    """A feed that waits in its thread."""

    def __init__(self, feed: TailFeed[M] | GroupFeed[M]) -> None:
        self.feed = feed

    @property
    def renew_every(self) -> float | None:
        return self.feed.renew_every

    @property
    def skipped(self) -> int:
        return self.feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return ()  # a log has none: what is missing was removed, and is counted as skipped

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        feed = self.feed
        found = feed.poll(limit)
        until = time.monotonic() + LOOK_THROUGH_SECONDS
        while timeout == 0 and not found and feed.is_behind() and time.monotonic() < until:
            found = feed.poll(limit)
        if found or timeout == 0:
            return found
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            feed.wait(left)
            found = feed.poll(limit)
            if found:
                return found

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self.feed.settle(settlements)

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        self.feed.commit(settlements, outputs, durability)

    def renew(self) -> None:
        self.feed.renew()

    def close(self) -> None:
        self.feed.close()


class EmbeddedEngine:
    """An open `memory:` or `file:` URL. Safe to share between threads."""

    def __init__(self, path: str, options: BusOptions, memory: bool, clock: Clock | None = None) -> None:
        self.name = "memory" if memory else "file"
        self.capabilities = frozenset(Capability) - {Capability.QUORUM_DURABILITY} - (ON_DISK if memory else set())
        self.max_message_bytes = options.max_message_bytes
        self.default_durability = Durability.MEMORY if memory else self.reach(options.durability or Durability.DISK)
        folder = None if memory else Path(path).resolve()
        shared = f"{self.name}:{folder or path} {options}"
        self._key = shared if path else f"{shared} {next(_private)}"
        self._bus = buses.acquire(self._key, lambda: Bus(folder, options, clock))
        self.clock = self._bus.clock
        if clock is not None and clock is not self.clock:
            buses.release(self._key)
            raise InvalidOption("clock", clock, "the bus is open in this process already, with another clock")
        self._feeds: weakref.WeakSet[TailFeed[Any] | GroupFeed[Any]] = weakref.WeakSet()
        self._closing = threading.Lock()
        self.closed = False

    @property
    def bus(self) -> Bus:
        if self.closed:
            raise Closed("the client is closed")
        return self._bus.current()

    def open(self) -> None:
        """The bus is open since this was made."""

    # -- topics

    def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        return self._describe(self.bus.create_topic(name, options))

    def _describe(self, topic: Topic) -> TopicInfo:
        found = self.topics([topic.name])
        return found[0] if found else TopicInfo(topic.name, topic.options, ())

    def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        bus = self.bus
        topic = bus.catalog.alter(name, options)
        bus.hub.announce_change(TOPICS_CHANGED)
        bus.hub.announce_change(ROOM_MADE)
        return self._describe(topic)

    def drop_topic(self, name: str) -> None:
        self.bus.drop_topic(name)
        self.bus.hub.announce_change(ROOM_MADE)

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        bus = self.bus
        bus.move_due()
        bus.catalog.refresh()
        known = dict(bus.catalog.topics)
        chosen = sorted(known if names is None else known.keys() & set(names))
        schemas = bus.catalog.schemas()
        with place.refusing(bus.folder):
            infos = [_info(bus.catalog, known[name], schemas.get(known[name].id, ())) for name in chosen]
        return [info for info in infos if info is not None]

    def admit(self, topic: str, records: Sequence[Record]) -> None:
        self.bus.admit(topic, records)

    # -- messages

    def reach(self, durability: Durability) -> Durability:
        """Return the level that will really be reached when this one is asked for."""
        if self.name == "memory":
            if durability is not Durability.MEMORY:
                raise UnsupportedFeature("memory:", f"durability {durability}", "open a file: URL")
            return durability
        if durability is Durability.QUORUM:
            raise UnsupportedFeature("file:", f"durability {durability}", "open the URL of a cluster, such as nats:")
        return Durability.DISK if durability is Durability.DISK else Durability.OS

    def check(self, options: PublishOptions) -> PublishOptions:
        """Return the options with the durability that will really be reached, and no time that has passed."""
        if options.deliver_at is not None and options.deliver_at <= self.clock.now():
            options = replace(options, deliver_at=None)
        if options.durability is not self.default_durability:
            options = replace(options, durability=self.reach(options.durability))
        return options

    def cancel(self, receipt: Receipt) -> bool:
        if receipt.scheduled is None:
            return False
        return self.bus.outbox.cancel(receipt.scheduled, receipt.topic, receipt.message_id)

    def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        bus = self.bus
        if options.deliver_at is not None or options.durability is not self.default_durability:
            options = self.check(options)
        if options.deliver_at is not None:
            return bus.schedule(topic, records, options, LOCK_WAIT_SECONDS)
        try:
            receipts, points = bus.append(topic, records, options)
        except TopicFull as full:
            receipts, points = self._append_later(topic, records, options, full)
        if options.durability is Durability.DISK:
            sync(points, receipts)
        return receipts

    def _append_later(
        self, topic: str, records: Sequence[Record], options: PublishOptions, full: TopicFull
    ) -> tuple[list[Receipt], list[tuple[Log, Point]]]:
        """Store the records when there is room, if the topic's publishers wait for that."""
        bus = self.bus
        with self.waiting(topic, full) as (vacancy, deadline):
            while True:
                vacancy.again()
                try:
                    return bus.append(topic, records, options)
                except TopicFull:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise
                    bus.hub.wait(vacancy, left)

    @contextmanager
    def waiting(self, topic: str, full: TopicFull) -> Iterator[tuple[Vacancy, float]]:
        """Wait for room: yield what is woken, and until when. Raises the error where publishers do not wait."""
        bus = self.bus
        found = bus.catalog.topics.get(topic)
        if found is None or found.options.overflow is not Overflow.BLOCK:
            raise full
        bus.slot()
        vacancy = Vacancy()
        bus.hub.add(vacancy)
        try:
            yield vacancy, time.monotonic() + found.options.period("overflow_timeout")
        finally:
            bus.hub.remove(vacancy, ())

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        return BlockingFeed(self.feed(spec, message_type))

    def feed(self, spec: SubscriptionSpec, message_type: type[M]) -> TailFeed[M] | GroupFeed[M]:
        """Open a feed, to be closed with the engine at the latest."""
        from tidings.engines.embedded.reading.group import GroupFeed  # slow to load, and who publishes reads nothing
        from tidings.engines.embedded.reading.tail import TailFeed

        kind = TailFeed if spec.group is None else GroupFeed
        feed = kind(self.bus, spec, message_type)
        self._feeds.add(feed)
        return feed

    # -- groups

    def create_group(self, spec: SubscriptionSpec) -> None:
        from tidings.engines.embedded.reading.start import bind

        bind(self.bus, spec)

    def drop_group(self, group: str) -> None:
        self.bus.groups.drop(group)
        self.bus.announce_groups()

    def seek_group(self, topic: str, group: str, start: Start) -> None:
        bus = self.bus
        bus.catalog.refresh()
        shards = bus.catalog.find(topic).shards
        if not any(Pattern.from_stored(pattern).matches(topic) for pattern in bus.groups.bindings().get(group, ())):
            raise GroupNotFound(group, topic)
        from tidings.engines.embedded.reading.start import start_offset

        starts = {shard.id: start_offset(bus, shard, start) for shard in shards}
        bus.groups.seek(group, starts, bus.clock.monotonic())
        bus.announce_groups()

    def has_group(self, group: str) -> bool:
        return group in self.bus.groups.bindings()

    def groups(self, topic: str | None = None) -> list[GroupInfo]:
        bus = self.bus
        bus.catalog.refresh()
        from tidings.engines.embedded import statistics  # slow to load, and who publishes asks for none

        return statistics.all_groups(bus, topic)

    # -- statistics

    def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        bus = self.bus
        bus.bury()
        bus.move_due()
        bus.catalog.refresh()
        from tidings.engines.embedded import statistics  # slow to load, and who publishes asks for none

        return statistics.of_topics(bus, names, window)

    def problems(self) -> list[str]:
        from tidings.engines.embedded import statistics  # slow to load, and who publishes asks for none

        return statistics.problems(self.bus)

    def close(self) -> None:
        with self._closing:
            if not self.closed:
                for feed in list(self._feeds):
                    feed.close()
                self.closed = True
                buses.release(self._key)


def _info(catalog: Catalog, topic: Topic, schemas: Sequence[SchemaVersion]) -> TopicInfo | None:
    """Return how a topic stands; None when it was dropped meanwhile."""
    try:
        extents = []
        for shard in topic.shards:
            catalog.use(shard)
            extents.append((shard.partition, *shard.log.extent()))
    except LogGone:
        return None
    sums = [[0, 0, 0] for _ in range(topic.options.partitions)]
    for partition, *extent in extents:
        sums[partition] = [total + part for total, part in zip(sums[partition], extent, strict=True)]
    partitions = tuple(PartitionInfo(n, *each) for n, each in enumerate(sums))
    return TopicInfo(topic.name, topic.options, partitions, tuple(schemas))


def sync(points: Sequence[tuple[Log, Point]], receipts: Sequence[Receipt]) -> None:
    """Return when all these logs are durable up to their points. Raises `PublishUnknown` for the receipts."""
    try:
        for log, point in points:
            log.sync(point)
    except PublishUnknown as error:
        raise PublishUnknown(str(error), tuple(receipt.message_id for receipt in receipts)) from error


def open_engine(url: URL) -> EmbeddedEngine:
    """Open `memory:`, `memory:name` or `file:path`."""
    return EmbeddedEngine(*place_of(url))


def place_of(url: URL) -> tuple[str, BusOptions, bool]:
    """Return the path, the options and whether it is in memory."""
    path = url.path.removeprefix("//")
    if url.scheme == "file" and not path:
        raise InvalidURL("file: names no directory; give file:./bus or file:/var/lib/bus")
    return path, read_options(url, BusOptions), url.scheme == "memory"


_proof: type[FullEngine] = EmbeddedEngine
