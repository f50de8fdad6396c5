"""The embedded engine, blocking: what `spi.Engine` asks, on a bus of this process."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidings.engines.embedded import bus as buses
from tidings.engines.embedded import place
from tidings.engines.embedded.bus import Bus, BusOptions
from tidings.engines.embedded.catalog import Catalog, Log, Topic
from tidings.engines.embedded.feeds import GroupFeed, TailFeed, bind, start_offset
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import Point
from tidings.errors import Closed, GroupNotFound, InvalidURL, PublishUnknown, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, Start, SubscriptionSpec, TopicOptions
from tidings.model.topics import Pattern
from tidings.model.url import URL, read_options
from tidings.spi import Feed, GroupEngine, GroupInfo, M, PartitionInfo, Settlement, TopicInfo

ON_DISK = {Capability.OS_DURABILITY, Capability.DISK_DURABILITY, Capability.PROCESSES}
"""What `file:` can do and `memory:` cannot."""

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

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        feed = self.feed
        found = feed.poll(limit)
        if found or timeout == 0:
            return found
        clock = feed.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - clock.monotonic()
            if left is not None and left <= 0:
                return []
            feed.wait(left)
            found = feed.poll(limit)
            if found:
                return found

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self.feed.settle(settlements)

    def renew(self) -> None:
        self.feed.renew()

    def close(self) -> None:
        self.feed.close()


class EmbeddedEngine:
    """An open `memory:` or `file:` URL. Safe to share between threads."""

    def __init__(self, path: str, options: BusOptions, memory: bool) -> None:
        self.name = "memory" if memory else "file"
        self.capabilities = frozenset(Capability) - (ON_DISK if memory else set())
        self.max_message_bytes = options.max_message_bytes
        self.default_durability = Durability.MEMORY if memory else options.durability or Durability.DISK
        folder = None if memory else Path(path).resolve()
        shared = f"{self.name}:{folder or path} {options}"
        self._key = shared if path else f"{shared} {next(_private)}"
        self._bus = buses.acquire(self._key, lambda: Bus(folder, options))
        self._feeds: weakref.WeakSet[TailFeed[Any] | GroupFeed[Any]] = weakref.WeakSet()
        self._closing = threading.Lock()
        self.closed = False

    @property
    def bus(self) -> Bus:
        if self.closed:
            raise Closed("the client is closed")
        return self._bus.current()

    # -- topics

    def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        topic = self.bus.create_topic(name, options)
        return _info(self.bus.catalog, topic) or TopicInfo(name, topic.options, ())

    def drop_topic(self, name: str) -> None:
        self.bus.drop_topic(name)

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        bus = self.bus
        bus.catalog.refresh()
        known = dict(bus.catalog.topics)
        chosen = sorted(known if names is None else known.keys() & set(names))
        with place.refusing(bus.folder):
            return [info for name in chosen if (info := _info(bus.catalog, known[name])) is not None]

    # -- messages

    def check(self, durability: Durability) -> Durability:
        """Return the level that will really be reached when this one is asked for."""
        if self.name == "memory":
            if durability is not Durability.MEMORY:
                raise UnsupportedFeature("memory:", f"durability {durability}", "open a file: URL")
            return durability
        return Durability.DISK if durability is Durability.DISK else Durability.OS

    def publish(self, topic: str, records: Sequence[Record], durability: Durability) -> list[Receipt]:
        reached = self.check(durability)
        receipts, points = self.bus.append(topic, records, reached)
        if reached is Durability.DISK:
            sync(points, receipts)
        return receipts

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        return BlockingFeed(self.feed(spec, message_type))

    def feed(self, spec: SubscriptionSpec, message_type: type[M]) -> TailFeed[M] | GroupFeed[M]:
        """Open a feed, to be closed with the engine at the latest."""
        kind = TailFeed if spec.group is None else GroupFeed
        feed = kind(self.bus, spec, message_type)
        self._feeds.add(feed)
        return feed

    # -- groups

    def create_group(self, spec: SubscriptionSpec) -> None:
        bind(self.bus, spec)

    def drop_group(self, group: str) -> None:
        self.bus.groups.drop(group)

    def seek_group(self, topic: str, group: str, start: Start) -> None:
        bus = self.bus
        shards = bus.catalog.find(topic).shards
        if not any(Pattern.from_stored(pattern).matches(topic) for pattern in bus.groups.bindings().get(group, ())):
            raise GroupNotFound(group, topic)
        bus.groups.seek(group, {shard.id: start_offset(bus, shard, start) for shard in shards})
        bus.announce_groups()

    def groups(self, topic: str | None = None) -> list[GroupInfo]:
        bus = self.bus
        bus.catalog.refresh()
        found = []
        for group, stored in bus.groups.bindings().items():
            patterns = [Pattern.from_stored(text) for text in stored]
            for name, each in sorted(bus.catalog.topics.items()):
                if (topic is None or name == topic) and any(pattern.matches(name) for pattern in patterns):
                    ends = {shard.id: start_offset(bus, shard, "end") for shard in each.shards}
                    found.append(bus.groups.describe(group, name, ends))
        return found

    def close(self) -> None:
        with self._closing:
            if not self.closed:
                for feed in list(self._feeds):
                    feed.close()
                self.closed = True
                buses.release(self._key)


def _info(catalog: Catalog, topic: Topic) -> TopicInfo | None:
    """Return how a topic stands; None when it was dropped meanwhile."""
    try:
        extents = []
        for shard in topic.shards:
            catalog.use(shard)
            extents.append((shard.partition, *shard.log.extent()))
    except LogGone:
        return None
    return TopicInfo(topic.name, topic.options, tuple(PartitionInfo(*extent) for extent in extents))


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


_proof: type[GroupEngine] = EmbeddedEngine
