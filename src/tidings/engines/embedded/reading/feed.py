"""What a reader reads from, as far as temporary subscriptions and consumers of a group have it in common.

A feed is polled without waiting; `wait` sleeps until a poll may find something. It holds places, not messages, so a
slow reader costs nothing and slows nobody.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic

from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.control.members import Applicant
from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.disk import place
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, WouldBlock
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.reading.start import matching
from tidings.engines.embedded.sift import Sift
from tidings.errors import Closed, EngineError, InvalidOption
from tidings.model.dead_letter import bury
from tidings.model.message import Message
from tidings.model.options import TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import M, Settlement

TELL_SECONDS = 1.0
"""How often a subscription writes down how far it is, for statistics: as fresh as a person looks at them, and so rare
that it costs nothing."""

TELL_AGAIN_SECONDS = 0.05
"""How soon it tries again when somebody else was writing: a transaction takes a fraction of that."""

REASONS = {"exhaust": "retries exhausted", "expire": "expired", "lapse": "expired"}
"""What a dead letter says of a cause that is not a consumer's decision."""


class BaseFeed(ABC, Generic[M]):
    """What both feeds are to the hub: a set of shards that have something new, and a way to be woken."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        self.bus = bus.current()
        self._generation = bus.generation
        self._spec = spec
        self._make = message_type
        self._sift = None if spec.filter is None else Sift(spec.filter, self.bus.verdicts)
        self._consumer = -1
        self._fresh: dict[int, None] = {}
        self._shards: dict[int, Shard] = {}
        self._stirred = False
        self._got: float | None = None
        self._said: dict[int, int] = {}
        self._untold = False
        self._tell_at = float("-inf")
        self.closed = False
        self.clock = bus.clock
        self.patterns = spec.patterns
        self.waker: Callable[[], None] | None = None
        self.skipped = 0

    def _enter(self) -> list[Shard]:
        """Be told of news from now on; return the shards of the topics that exist already."""
        bus = self.bus
        for pattern in self.patterns:
            if pattern.literal is not None:
                bus.topic(pattern.literal)
        self._check_partitions()
        bus.slot()
        bus.catalog.refresh()
        bus.hub.look()
        bus.hub.add(self)
        topics = matching(bus, self.patterns)
        shards = [shard for topic in topics for shard in self._of(topic)]
        for shard in shards:
            if shard.id not in self._shards:
                self._follow(shard)
        bus.catalog.refresh()
        return shards

    def _check_partitions(self) -> None:
        """Raise `InvalidOption` for partitions that a topic of this name does not have: nothing would ever come."""
        wanted = self._spec.partitions
        for pattern in self.patterns:
            topic = self.bus.catalog.topics.get(pattern.literal or "")
            if topic is not None and wanted is not None and wanted[0] >= topic.options.partitions:
                reason = f"topic {topic.name!r} has the partitions 0 to {topic.options.partitions - 1}"
                raise InvalidOption("partition", wanted[0], reason)

    def _of(self, topic: Topic) -> Iterable[Shard]:
        """Return the shards of a topic that this subscription reads."""
        partitions = self._spec.partitions
        if partitions is None:
            return topic.shards
        return [shard for shard in topic.shards if shard.partition in partitions]

    def _limits(self) -> dict[str, int]:
        """Return how many subscribers some of the topics may have."""
        limits = {topic.name: topic.options.max_subscribers for topic in matching(self.bus, self.patterns)}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def _attach(self, group: int | None) -> None:
        """Show that the subscription is there. Raises `TooManySubscribers`."""
        bus, spec = self.bus, self._spec
        bus.bury()
        who = Applicant(
            group=group,
            name=spec.consumer,
            slot=bus.slot(),
            pid=os.getpid(),
            patterns=tuple(map(str, self.patterns)),
            ordering=spec.ordering,
            since=self.clock.now(),
            until=self.clock.monotonic() + bus.options.lease_seconds,
            rides=group is None and self._sift is not None and spec.start == "end",
        )
        try:
            self._consumer = bus.members.join(who, self._limits())
        except BaseException:
            self.closed = True
            bus.hub.remove(self, self._shards)
            raise

    def _follow(self, shard: Shard) -> None:
        """Be told of what is new on a shard, which is to be looked at for a first time."""
        self._shards[shard.id] = shard
        self.bus.hub.follow(self, shard.id)
        self._fresh[shard.id] = None

    def touch(self, shard: int) -> None:
        self._fresh[shard] = None
        self._wake()

    def stir(self) -> None:
        self._stirred = True
        self._wake()

    def vacate(self) -> None:
        """Readers need no room."""

    def discover(self, topic: Topic) -> None:
        for shard in self._of(topic):
            if shard.id not in self._shards:
                self._follow(shard)
        self._wake()

    def _wake(self) -> None:
        waker = self.waker
        if waker is not None:
            waker()

    def is_behind(self) -> bool:
        """Whether a poll has left something to look at: what it looked at was not wanted."""
        return bool(self._fresh)

    def is_ready(self) -> bool:
        return bool(self._fresh) or self._stirred or self.closed

    def _check(self) -> None:
        if self.closed or not self.is_own():
            raise Closed("the subscription is closed, or it belongs to the process this one was forked from")

    def is_own(self) -> bool:
        """Whether the feed belongs to this process, and its bus is open as it was."""
        return not self.bus.stale and self.bus.generation == self._generation

    def _lose(self, shard: int) -> None:
        """The topic of this shard was dropped."""
        self._shards.pop(shard, None)
        self._fresh.pop(shard, None)

    def poll(self, limit: int, wait: float = LOCK_WAIT_SECONDS) -> list[M]:
        """Return up to `limit` messages that are there now. With `wait` 0 it may raise `WouldBlock`."""
        self._check()
        self.bus.hub.glance()
        now = self.clock.monotonic()
        try:
            if self.bus.pump.due <= now:
                self.bus.pump.run(wait)
            found = self._poll(limit, wait)
        except OSError as error:
            raise place.translated(self.bus.folder, error) from error
        if found:
            self._got = now
            self._untold = True
        if self._untold and now >= self._tell_at:
            self._tell_how_far(now)
        return found

    def _tell_how_far(self, now: float) -> None:
        """Write down when this got something last, and its places that moved; should that fail, then soon."""
        places = self._moves()
        last = None if self._got is None else self.clock.now() - (now - self._got)
        try:
            self.bus.members.tell(self._consumer, last, places, 0.0)  # what was read waits for nobody
        except (EngineError, WouldBlock, OSError):
            self._tell_at = now + TELL_AGAIN_SECONDS
        else:
            self._tell_at = now + TELL_SECONDS
            self._untold = False
            self._said.update(places)

    def _moves(self) -> dict[int, int]:
        """Return the places that are not as they were written down last. A group has its own."""
        return {}

    @abstractmethod
    def _poll(self, limit: int, wait: float) -> list[M]: ...

    def pause(self) -> float:
        """Return how long to sleep at most before polling again."""
        self._check()
        due = min(self._due(), self.bus.pump.due)
        if self._untold:
            due = min(due, self._tell_at)
        return max(0.0, due - self.clock.monotonic())

    @abstractmethod
    def _due(self) -> float:
        """Return the (monotonic) time at which there is something by itself."""

    def wait(self, seconds: float | None) -> None:
        """Sleep until a poll may find something, or `seconds` have passed, or earlier."""
        if self.bus.needs_care():
            self.bus.care()
        pause = self.pause()
        self.bus.hub.wait(self, pause if seconds is None else min(pause, seconds))

    def _messages(self, shard: Shard, batch: Batch, first: int, last: int, attempt: int, lease: int) -> list[M]:
        """Make messages of the offsets `first` to `last` that are in the batch."""
        make, topic, partition, at, priority = (
            self._make,
            shard.topic,
            shard.partition,
            batch.time_ns / 1e9,
            shard.priority,
        )
        low = max(first - batch.base, 0)
        records = batch.records[low : max(last - batch.base + 1, 0)]
        return [
            make(record, topic, partition, offset, at, attempt, lease, priority)
            for offset, record in enumerate(records, batch.base + low)
        ]

    def letter(self, settlement: Settlement, cause: str) -> Entry | None:
        """Return the dead letter of a message that died of `cause`, if its topic has a place for it."""
        message, terms = settlement.message, self.terms(settlement.message)
        target = terms.dead_letters_of(message.topic)
        if target is None or (cause in ("expire", "lapse") and not terms.dead_letter_expired):
            return None
        self.bus.topic(target)  # now, so that whoever looks for dead letters finds where they will be
        said, error = settlement.reason, settlement.error
        reason = REASONS.get(cause) or said or "rejected"
        error = error or (said if said != reason else "")
        attempts = message.attempt - (cause in ("expire", "lapse"))  # it was fetched, and not delivered
        record = bury(message, self._spec.group, reason, error, attempts, self.clock.now())
        return Entry(topic=target, record=record, priority=message.priority, answers=(message.lease, message.offset))

    def terms(self, message: Message) -> TopicOptions:
        """Return the options of a message's topic; the usual ones when it was dropped."""
        topic = self.bus.catalog.topics.get(message.topic)
        return topic.options if topic is not None else _USUAL


_USUAL = TopicOptions()
