"""One open bus of this process: its parts, put together once and shared by all clients that name the same place."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from tidings.engines.embedded import flow
from tidings.engines.embedded.catalog import SEGMENT_BYTES, Catalog, Log, Shard, Topic
from tidings.engines.embedded.control.claims import Claims
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.control.groups import Groups
from tidings.engines.embedded.control.members import Members
from tidings.engines.embedded.control.outbox import Entry, Outbox
from tidings.engines.embedded.courses import Courses
from tidings.engines.embedded.disk import place
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, close_in_child
from tidings.engines.embedded.disk.room import Room
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.pump import Pump
from tidings.engines.embedded.sift import Verdicts
from tidings.engines.embedded.waking.board import GROUPS_CHANGED, STAGED, TOPICS_CHANGED, Bells, Board
from tidings.engines.embedded.waking.hub import Hub
from tidings.engines.embedded.waking.presence import Presence
from tidings.errors import BusBusy, EngineError, PublishFailed, PublishUnknown, TopicNotFound
from tidings.model.clock import Clock, SystemClock
from tidings.model.compression import Compression, choose
from tidings.model.message import Receipt, Record, set_expiry
from tidings.model.options import (
    LEASE_SECONDS,
    MAX_EXTEND_SECONDS,
    MAX_MESSAGE_BYTES,
    Durability,
    Guarantee,
    PublishOptions,
    TopicOptions,
    check_range,
)

CARE_SECONDS = 5.0
"""How often somebody who waits looks for deaths that were not told, and for what retention no longer keeps."""

RECORD_BYTES = 100
"""What a record takes on the disk beside its data, roughly: id, header, content type and its part of the headers."""

DROPS = 3
"""How often a publish follows a topic that is dropped and made again under its feet."""


MAX_BATCH_BODY = 2**30
"""Largest message or segment that can be asked for: the length of a batch is stored in 32 bits."""

MIN_SEGMENT_BYTES = 1024
"""Smallest segment: smaller ones hold more header than data."""

MIN_LEASE_SECONDS = 0.1
"""Shortest lease: it is renewed at a third of it, and an event loop may well be busy for some tens of milliseconds."""


class BusOptions(Struct, frozen=True, kw_only=True):
    """The options of `memory:` and `file:` URLs."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    lease_seconds: float = LEASE_SECONDS
    segment_bytes: int = SEGMENT_BYTES
    durability: Durability | None = None
    allow_network_filesystem: bool = False

    def __post_init__(self) -> None:
        check_range("max_message_bytes", self.max_message_bytes, 1, MAX_BATCH_BODY)
        check_range("lease_seconds", self.lease_seconds, MIN_LEASE_SECONDS, MAX_EXTEND_SECONDS)
        check_range("segment_bytes", self.segment_bytes, MIN_SEGMENT_BYTES, MAX_BATCH_BODY)


class Bus:
    """The parts of an open bus. `generation` changes when a forked child opens it again."""

    def __init__(self, folder: Path | None, options: BusOptions, clock: Clock | None = None) -> None:
        self.folder = folder
        self.options = options
        self.clock = clock or SystemClock()
        self.generation = 0
        self._opening = threading.RLock()
        self._cared = 0.0
        self._open()
        _buses.add(self)

    def _open(self) -> None:
        folder = self.folder
        if folder is not None:
            place.prepare(folder, allow_network=self.options.allow_network_filesystem)
        with place.refusing(folder or "memory:"), ExitStack() as parts:
            self.room = Room(folder) if folder is not None else None
            self.control = _closing(parts, Control(folder, self.room))
            self.groups = Groups(self.control)
            self.claims = Claims(self.control)
            self.members = Members(self.control)
            self.outbox = Outbox(self.control)
            self.pump = Pump(self)
            self.verdicts = Verdicts()
            board = bells = None
            self.presence: Presence | None = None
            if folder is not None:
                board = _closing(parts, Board(folder / "topics", fresh=self._is_first_of_boot()))
                self.presence = _closing(parts, Presence(folder / "consumers"))
                bells = _closing(parts, Bells(folder / "consumers"))
            self.catalog = _closing(parts, Catalog(self.control, folder, self.clock, board, self.options.segment_bytes))
            self.hub: Hub[Topic] = _closing(parts, Hub(board, bells, self.catalog.refresh))
            self.courses = Courses(self.verdicts, self.hub, self.catalog.use)
            self.hub.on_death = self.bury
            self.hub.on_staged = self.pump.hurry
            _on_turn(self.clock, self._turned)
            self.catalog.on_new = self.hub.discover
            self.catalog.on_gone = self.courses.end
            self.catalog.load()
            parts.callback(self._finish)
            self._parts = parts.pop_all()
        self.stale = False

    def _is_first_of_boot(self) -> bool:
        """Whether the machine was started since the bus was used: then the hints and the leases mean nothing."""
        boot = place.boot_id()
        if self.control.read("SELECT 1 FROM meta WHERE name = 'boot' AND value = ?", (boot,)):
            return False
        with self.control.write() as run:
            known = run("SELECT value FROM meta WHERE name = 'boot'").fetchall()
            if known == [(boot,)]:
                return False
            run("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (boot,))
            Members.forget(run)
        return bool(known)

    def current(self) -> Bus:
        """Open again in a forked child: locks, sockets and SQLite connections are the parent's alone."""
        if self.stale:
            with self._opening:
                if self.stale:
                    self.generation += 1
                    self._open()
        return self

    def leave_to_parent(self) -> None:
        """Called in a forked child, where other threads' locks may be held for ever: let go without touching them."""
        self.stale = True
        self._opening = threading.RLock()
        _orphans.append((self._parts, self.control, self.catalog, self.hub))

    # -- topics

    def topic(self, name: str) -> Topic:
        """Return the topic, made with default options if need be."""
        return self.catalog.topics.get(name) or self.create_topic(name, None)

    def create_topic(self, name: str, options: TopicOptions | None) -> Topic:
        known = name in self.catalog.topics
        with place.refusing(self.folder):
            topic, made = self.catalog.create(name, options)
        if made or not known:  # whoever made it may have died before telling
            self.hub.announce_change(TOPICS_CHANGED)
        return topic

    def drop_topic(self, name: str) -> None:
        with place.refusing(self.folder):
            self.catalog.drop(name)
        self.hub.announce_change(TOPICS_CHANGED)

    # -- publishing

    def append(
        self, name: str, records: Sequence[Record], options: PublishOptions, wait: float = LOCK_WAIT_SECONDS
    ) -> tuple[list[Receipt], list[tuple[Log, Point]]]:
        """Store the records; return their receipts, which hold once the points are synced. Raises `TopicFull`."""
        self.catalog.glance()
        topic = self.catalog.topics.get(name) or self.create_topic(name, None)
        if not topic.is_plain:
            self._admit(topic, records)
        if self.room is not None:
            self.room.take(sum([len(record.data) for record in records]) + RECORD_BYTES * len(records))
        level = topic.levels.get(options.priority) or self._level(topic, options.priority)
        if len(records) == 1 or len(level) == 1:
            shard = level[0] if len(level) == 1 else level[_partition(topic, records[0])]
            receipts, log, point = self._append(topic, shard, records, options, wait)
            return receipts, [(log, point)]
        return self._append_each(topic, records, options, wait)

    def _admit(self, topic: Topic, records: Sequence[Record]) -> None:
        self.admit(topic.name, records)
        self.make_room(topic.name, len(records))

    def make_room(self, name: str, count: int) -> None:
        """Return when the topic takes `count` messages more. Raises `TopicFull`."""
        topic = self.catalog.topics.get(name)
        if topic is not None and topic.options.max_length is not None:
            flow.make_room(self, topic, count)

    def admit(self, name: str, records: Sequence[Record]) -> None:
        """Raise `SchemaMismatch` unless the records fit the topic's schema."""
        self.catalog.glance()
        topic = self.catalog.topics.get(name)
        if topic is not None and topic.options.schema is not None:
            from tidings.model import schema as schemas  # slow to load, and most topics have none

            schema = schemas.parse_schema(topic.options.schema)
            for record in records:
                schemas.check(schema, name, record.content_type, record.data)

    def _level(self, topic: Topic, priority: int) -> list[Shard]:
        """Return the shards of a priority, made if need be."""
        try:
            with place.refusing(self.folder):
                self.catalog.add_level(topic, priority)
        except TopicNotFound as error:
            raise BusBusy(f"topic {topic.name!r} was dropped while publishing to it; try again") from error
        self.hub.announce_change(TOPICS_CHANGED)
        return topic.levels[priority]

    def _append_each(
        self, topic: Topic, records: Sequence[Record], options: PublishOptions, wait: float
    ) -> tuple[list[Receipt], list[tuple[Log, Point]]]:
        """Store records of several partitions. When a later partition fails the earlier ones are stored: unknown."""
        level = topic.levels[options.priority]
        parts: dict[Shard, list[int]] = {}
        for at, record in enumerate(records):
            parts.setdefault(level[_partition(topic, record)], []).append(at)
        receipts: dict[int, Receipt] = {}
        points: list[tuple[Log, Point]] = []
        for shard, places in parts.items():
            part = [records[at] for at in places]
            try:
                patience = LOCK_WAIT_SECONDS if points else wait
                stored, log, point = self._append(topic, shard, part, options, patience)
            except PublishFailed as error:
                if not points:
                    raise
                ids = tuple(receipt.message_id for receipt in receipts.values())
                raise PublishUnknown(f"{len(ids)} of {len(records)} messages were stored: {error}", ids) from error
            points.append((log, point))
            receipts.update(zip(places, stored, strict=True))
        return [receipts[at] for at in range(len(records))], points

    def _append(
        self, topic: Topic, shard: Shard, records: Sequence[Record], options: PublishOptions, wait: float
    ) -> tuple[list[Receipt], Log, Point]:
        name, partition, durability = topic.name, shard.partition, options.durability
        for _ in range(DROPS):
            try:
                self.catalog.use(shard)
                if topic.is_plain:
                    base, point = shard.log.append(records, wait, options.compression)
                    receipts = [Receipt(r.id, name, partition, at, durability) for at, r in enumerate(records, base)]
                else:
                    placed, point = self._store(topic, shard, records, options.compression, wait)
                    receipts = [
                        Receipt(r.id, name, partition, at, durability, known)
                        for r, (at, known) in zip(records, placed, strict=True)
                    ]
            except LogGone:
                self.catalog.load()
                shard = self.destination(name, records[0], shard.priority)
                topic = self.topic(name)
            else:
                self.hub.announce(shard.id)
                return receipts, shard.log, point
        raise BusBusy(f"topic {name!r} was dropped {DROPS} times while publishing to it")

    def _store(
        self, topic: Topic, shard: Shard, records: Sequence[Record], compression: Compression | None, wait: float
    ) -> tuple[list[tuple[int, bool]], Point]:
        """Append as the topic's options say; return the offset of each record, and whether it was there before."""
        terms = topic.options
        if terms.message_ttl is not None:
            set_expiry(records, self.clock.now() + terms.period("message_ttl"))
        compression = compression or choose(terms.compression)
        if terms.delivery is Guarantee.EXACTLY_ONCE:
            return shard.log.append_once(records, terms.period("dedup_window"), wait, compression)
        base, point = shard.log.append(records, wait, compression)
        return [(offset, False) for offset in range(base, base + len(records))], point

    # -- what the pump needs

    def schedule(self, name: str, records: Sequence[Record], options: PublishOptions, wait: float) -> list[Receipt]:
        """Stage records that are to be delivered later."""
        assert options.deliver_at is not None
        self.topic(name)
        self.admit(name, records)
        entries = [
            Entry(topic=name, record=record, priority=options.priority, due=options.deliver_at) for record in records
        ]
        durable, level = options.durability is Durability.DISK, options.durability
        if self.topic(name).options.delivery == Guarantee.EXACTLY_ONCE:
            numbers = self.outbox.add_once(entries, wait, durable)
        else:
            numbers = [(number, False) for number in self.outbox.add(entries, wait, durable)]
        self.hub.announce_change(STAGED)
        return [
            Receipt(record.id, name, -1, -1, level, known, number)
            for record, (number, known) in zip(records, numbers, strict=True)
        ]

    def destination(self, topic: str, record: Record, priority: int) -> Shard:
        """Return the shard that a record belongs to; the topic is made if need be."""
        found = self.topic(topic)
        level = found.levels.get(priority) or self._level(found, priority)
        return level[_partition(found, record)]

    def find_shard(self, topic: str, number: int | None) -> Shard | None:
        """Return a shard of a topic by its number; None when there is no such topic any more."""
        shard = self._known_shard(topic, number)
        if shard is None:  # others may have made it
            self.catalog.load()
            shard = self._known_shard(topic, number)
        return shard

    def _known_shard(self, topic: str, number: int | None) -> Shard | None:
        found = self.catalog.topics.get(topic)
        return next((shard for shard in found.shards if shard.id == number), None) if found else None

    def store(self, shard: Shard, records: Sequence[Record], wait: float) -> tuple[Log, Point]:
        """Append what was staged; there is no limit to it, as it was accepted before. Raises `LogGone`."""
        self.catalog.use(shard)
        point = self._store(self.topic(shard.topic), shard, records, None, wait)[1]
        self.hub.announce(shard.id)
        return shard.log, point

    def _turned(self) -> None:
        """The hands of a clock were turned: what waits for a time looks at it again."""
        self.pump.hurry()
        self.hub.wake()

    def _finish(self) -> None:
        with suppress(EngineError):
            self.pump.finish()

    # -- consumers

    def slot(self) -> int:
        """Return the slot of this process, taken when first asked for."""
        presence = self.presence
        if presence is None:
            return 0
        with self._opening:
            if presence.slot < 0:
                with place.refusing(self.folder):
                    slot = presence.enter()
                    self.hub.hang(slot)
                self.members.bury(lambda other: other == slot or not presence.is_alive(other))
        return presence.slot

    def bury(self) -> None:
        """Free what dead processes held, and tell those who wait for it."""
        presence = self.presence
        if presence is not None and self.members.bury(lambda slot: not presence.is_alive(slot)):
            self.announce_groups()

    def move_due(self) -> None:
        """Have what was to be delivered by now where it belongs, for who looks and does not wait."""
        if self.pump.due <= self.clock.monotonic():
            self.pump.run(LOCK_WAIT_SECONDS)

    def announce_groups(self) -> None:
        """Tell the consumers everywhere that something is theirs to take, or that somebody came or went."""
        self.hub.announce_change(GROUPS_CHANGED)

    def needs_care(self) -> bool:
        """Whether it is time for `care`; true for one of those who ask."""
        now = self.clock.monotonic()
        due = now - self._cared >= CARE_SECONDS
        if due:
            self._cared = now
        return due

    def care(self) -> None:
        """What is to be done now and then by whoever waits: it may wait for locks."""
        self.bury()
        self.catalog.load()
        self.hub.stir()
        if self.room is not None:
            self.room.restore()
        for topic in list(self.catalog.topics.values()):
            if topic.options.retention_period is not None:
                self._trim(self.catalog, topic)

    @staticmethod
    def _trim(catalog: Catalog, topic: Topic) -> None:
        for shard in topic.shards:
            try:
                catalog.use(shard)
                shard.log.trim()
            except (LogGone, OSError, BusBusy):
                continue

    def close(self) -> None:
        _buses.discard(self)
        if not self.stale:
            self._parts.close()


def _partition(topic: Topic, record: Record) -> int:
    """Return the partition of a record. An exactly-once topic sends what has no key by its id: a repetition has to go
    where the first one went."""
    key = record.key
    if key is None and topic.options.delivery is Guarantee.EXACTLY_ONCE:
        key = record.id
    return topic.partition_for(key)


def _on_turn(clock: Clock, turned: Callable[[], None]) -> None:
    """A clock whose hands are turned by somebody tells so."""
    on_turn = getattr(clock, "on_turn", None)
    if on_turn is not None:
        on_turn(turned)


class _Closable(Protocol):
    def close(self) -> object: ...


P = TypeVar("P", bound=_Closable)


def _closing(parts: ExitStack, part: P) -> P:
    parts.callback(part.close)
    return part


# -- one bus per place and process

_buses: weakref.WeakSet[Bus] = weakref.WeakSet()
_orphans: list[Any] = []
_shared: dict[str, tuple[Bus, int]] = {}
_sharing = threading.Lock()


def acquire(key: str, make: Callable[[], Bus]) -> Bus:
    """Return the bus of this key that is open in the process, or open it."""
    with _sharing:
        bus, users = _shared.get(key) or (make(), 0)
        _shared[key] = (bus, users + 1)
        return bus


def release(key: str) -> None:
    """Close the bus when its last user lets go of it."""
    with _sharing:
        bus, users = _shared.pop(key)
        if users > 1:
            _shared[key] = (bus, users - 1)
        else:
            bus.close()


def _after_fork() -> None:
    global _sharing
    _sharing = threading.Lock()
    for bus in list(_buses):
        bus.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
os.register_at_fork(after_in_child=close_in_child)
