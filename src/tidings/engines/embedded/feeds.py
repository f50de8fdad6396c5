"""What a reader reads from: `TailFeed` for temporary subscriptions, `GroupFeed` for consumers of a group.

Both are polled without waiting; `wait` sleeps until a poll may find something. A feed holds places, not messages, so a
slow reader costs nothing and slows nobody.
"""

from __future__ import annotations

import heapq
import itertools
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic

import msgspec
from msgspec.structs import replace

from tidings.engines.embedded import place
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.groups import Claim, Member, Range
from tidings.engines.embedded.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.errors import Closed, DamagedData, LeaseLost
from tidings.model.options import MAX_PREFETCH, Start, SubscriptionSpec
from tidings.model.topics import Pattern
from tidings.spi import M, Settlement

REMEMBERED_ACKS = 1000
"""Ranges acked lately: an ack may be repeated while its first time is among them; as many as the usual prefetch."""


class _Feed(ABC, Generic[M]):
    """What both feeds are to the hub: a set of shards that have something new, and a way to be woken."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        self.bus = bus.current()
        self._generation = bus.generation
        self._spec = spec
        self._make = message_type
        self._fresh: dict[int, None] = {}
        self._shards: dict[int, Shard] = {}
        self._stirred = False
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
        bus.slot()
        bus.catalog.refresh()
        bus.hub.look()
        bus.hub.add(self)
        shards = [shard for topic in matching(bus, self.patterns) for shard in topic.shards]
        for shard in shards:
            if shard.id not in self._shards:
                self._follow(shard)
        bus.catalog.refresh()
        return shards

    def _follow(self, shard: Shard) -> None:
        self._shards[shard.id] = shard
        self._fresh[shard.id] = None
        self.bus.hub.follow(self, shard.id)

    def touch(self, shard: int) -> None:
        self._fresh[shard] = None
        self._wake()

    def stir(self) -> None:
        self._stirred = True
        self._wake()

    def discover(self, topic: Topic) -> None:
        for shard in topic.shards:
            if shard.id not in self._shards:
                self._follow(shard)
        self._wake()

    def _wake(self) -> None:
        waker = self.waker
        if waker is not None:
            waker()

    def is_ready(self) -> bool:
        return bool(self._fresh) or self._stirred or self.closed

    def _check(self) -> None:
        if self.closed or self.bus.stale or self.bus.generation != self._generation:
            raise Closed("the subscription is closed, or it belongs to the process this one was forked from")

    def _lose(self, shard: int) -> None:
        """The topic of this shard was dropped."""
        self._shards.pop(shard, None)
        self._fresh.pop(shard, None)

    def poll(self, limit: int, wait: float = LOCK_WAIT_SECONDS) -> list[M]:
        """Return up to `limit` messages that are there now. With `wait` 0 it may raise `WouldBlock`."""
        self._check()
        self.bus.hub.glance()
        try:
            return self._poll(limit, wait)
        except OSError as error:
            raise place.translated(self.bus.folder, error) from error

    @abstractmethod
    def _poll(self, limit: int, wait: float) -> list[M]: ...

    def pause(self) -> float:
        """Return how long to sleep at most before polling again."""
        self._check()
        return max(0.0, self._due() - self.clock.monotonic())

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
        make, topic, partition, at = self._make, shard.topic, shard.partition, batch.time_ns / 1e9
        low = max(first - batch.base, 0)
        records = batch.records[low : max(last - batch.base + 1, 0)]
        return [
            make(record, topic, partition, offset, at, attempt, lease)
            for offset, record in enumerate(records, batch.base + low)
        ]


class TailFeed(_Feed[M]):
    """A temporary subscription: a place in each shard, in memory only."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        super().__init__(bus, spec, message_type)
        self._places: dict[int, int] = {}
        self._retries: list[tuple[float, int, M]] = []
        self._order = itertools.count()
        for shard in self._enter():
            if spec.start == "end":
                self._fresh.pop(shard.id, None)  # nothing to read yet; what comes from now on touches it again
            self._places[shard.id] = start_offset(self.bus, shard, spec.start)

    def _poll(self, limit: int, wait: float) -> list[M]:
        self._stirred = False
        found = self._take_retries(limit)
        for number in list(self._fresh):
            if len(found) >= limit:
                break
            self._fresh.pop(number, None)
            shard = self._shards.get(number)
            if shard is not None and self._read(shard, limit - len(found), found):
                self._fresh[number] = None
        return found

    def _read(self, shard: Shard, limit: int, found: list[M]) -> bool:
        """Add up to `limit` messages of a shard; return whether there may be more."""
        at, stop = self._places.get(shard.id, 0), len(found) + limit
        try:
            self.bus.catalog.use(shard)
            batches = shard.log.read(at)
        except LogGone:
            self._lose(shard.id)
            return False
        for batch in batches:
            self.skipped += max(0, batch.base - at)
            at = max(at, batch.base)
            messages = self._messages(shard, batch, at, at + stop - len(found) - 1, 1, 0)
            found += messages
            at += len(messages)
            if len(found) >= stop:
                break
        self._places[shard.id] = at
        return bool(batches)

    def _take_retries(self, limit: int) -> list[M]:
        retries, now = self._retries, self.clock.monotonic() if self._retries else 0.0
        found: list[M] = []
        while retries and len(found) < limit and (retries[0][0] <= now or len(retries) > MAX_PREFETCH):
            found.append(heapq.heappop(retries)[2])
        return found

    def is_ready(self) -> bool:
        return super().is_ready() or bool(self._retries and self._retries[0][0] <= self.clock.monotonic())

    def _due(self) -> float:
        return self._retries[0][0] if self._retries else float("inf")

    def settle(self, settlements: Sequence[Settlement], wait: float = LOCK_WAIT_SECONDS) -> None:
        """Nacked and released messages come again, to this subscription; there is nothing to ack."""
        for settlement in settlements:
            if settlement.action in ("nack", "release"):
                counted = settlement.action == "nack"
                again = replace(settlement.message, attempt=settlement.message.attempt + counted)
                due = self.clock.monotonic() + settlement.seconds
                heapq.heappush(self._retries, (due, next(self._order), again))  # type: ignore[misc]
        self.stir()

    renew_every: float | None = None
    """Nothing is leased."""

    def renew(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Nothing is leased."""

    def close(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        if not self.closed:
            self.closed = True
            self.bus.hub.remove(self, self._shards)
            self._wake()


class GroupFeed(_Feed[M]):
    """A consumer of a group: claims ranges, reads them, and says what became of them."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        super().__init__(bus, spec, message_type)
        assert spec.group is not None
        self._groups = self.bus.groups
        self.renew_every: float | None = bus.options.lease_seconds / 3
        self._acked: deque[Range] = deque(maxlen=REMEMBERED_ACKS)
        self._next_due = 0.0
        self._member: Member | None = None
        self._group = bind(self.bus, spec)
        self._enter()
        self.bus.bury()
        self._consumer = self._groups.join(self._group, spec.consumer, self.bus.slot(), os.getpid())
        self._watch()
        self.bus.announce_groups()

    def _watch(self) -> None:
        if self.bus.presence is not None:
            self.bus.hub.watch(self._groups.peers())

    def discover(self, topic: Topic) -> None:
        self._member = None
        super().discover(topic)

    def _lose(self, shard: int) -> None:
        self._member = None
        super()._lose(shard)

    def _who(self) -> Member:
        if self._member is None:
            shards = msgspec.json.encode(list(self._shards)).decode()
            self._member = Member(self._group, self._consumer, shards, self.bus.options.lease_seconds)
        return self._member

    def _poll(self, limit: int, wait: float) -> list[M]:
        """Claim what there is, then read it."""
        now = self.clock.monotonic()
        if self._stirred:
            self._watch()
        elif not self._fresh and now < self._next_due:
            return []
        claims = self._claim(limit, now, wait)
        found: list[M] = []
        for at, claim in enumerate(claims):
            try:
                self._read(claim, found)
            except DamagedData:
                self._give_back(claims[at:], found)
                if not found:
                    raise
                break
            except BaseException:
                self._give_back(claims, ())
                raise
        return found

    def _claim(self, limit: int, now: float, wait: float) -> list[Claim]:
        fresh, self._fresh = self._fresh, {}
        stirred, self._stirred = self._stirred, False
        try:
            if stirred:
                fresh.update(dict.fromkeys(self._behind()))
            spans = self._spans(fresh)
            claims = self._groups.claim(self._who(), spans, limit, now, wait)
        except BaseException:
            self._fresh = {**fresh, **self._fresh}
            self._stirred = self._stirred or stirred
            raise
        self.skipped += sum(claim.skipped for claim in claims)
        if sum(map(len, claims)) >= limit:
            self._fresh = {**dict.fromkeys(spans), **self._fresh}
            self._next_due = 0.0
        else:
            self._next_due = self._groups.next_due(self._group) or float("inf")
        return claims

    def _behind(self) -> list[int]:
        """Return the shards on which the group is not at the end, as far as the board says: it may have been moved."""
        places, written = self._groups.cursors(self._group), self.bus.hub.written
        return [number for number in self._shards if not 0 < written(number) <= places.get(number, 0)]

    def _spans(self, fresh: dict[int, None]) -> dict[int, tuple[int, int]]:
        """Return what the logs of these shards hold: the first offset, and the one after the last."""
        spans = {}
        for number in fresh:
            shard = self._shards.get(number)
            if shard is not None:
                try:
                    self.bus.catalog.use(shard)
                    spans[number] = shard.log.span()
                except LogGone:
                    self._lose(number)
        return spans

    def _read(self, claim: Claim, found: list[M]) -> None:
        """Add the messages of a claim; what retention removed of it is skipped and counted."""
        shard, at = self._shards[claim.shard], claim.first
        while at <= claim.last:
            try:
                batches = shard.log.read(at)
            except LogGone:
                return self._lose(claim.shard)
            for batch in batches:
                if batch.base > at:
                    self._skip(claim, at, min(batch.base - 1, claim.last))
                found += self._messages(shard, batch, at, claim.last, claim.attempt, claim.lease)
                at = max(at, batch.end)
                if at > claim.last:
                    break
            if not batches:
                return self._postpone(claim, at)
        return None

    def _postpone(self, claim: Claim, first: int) -> None:
        """Offsets that were given once and are not in the log, which only a loss of power brings about: whether they
        are gone is certain when a message follows them, until then they are asked for now and then."""
        later = Range(claim.shard, first, claim.last, claim.lease, "release", LOOK_SECONDS)
        self._groups.settle(self._group, [later], self.clock.monotonic(), LOCK_WAIT_SECONDS)

    def _skip(self, claim: Claim, first: int, last: int) -> None:
        self.skipped += last - first + 1
        gone = Range(claim.shard, first, last, claim.lease, "skip")
        self._groups.settle(self._group, [gone], self.clock.monotonic(), LOCK_WAIT_SECONDS)

    def _give_back(self, claims: Sequence[Claim], found: Sequence[M]) -> None:
        """Give back what was claimed and could not be read."""
        read = {(message.lease, message.offset) for message in found}
        ranges = [
            Range(claim.shard, offset, offset, claim.lease, "release")
            for claim in claims
            for offset in range(claim.first, claim.last + 1)
            if (claim.lease, offset) not in read
        ]
        self._groups.settle(self._group, ranges, self.clock.monotonic(), LOCK_WAIT_SECONDS)
        self._next_due = 0.0

    def _due(self) -> float:
        return self._next_due

    def is_ready(self) -> bool:
        return super().is_ready() or self._next_due <= self.clock.monotonic()

    def settle(self, settlements: Sequence[Settlement], wait: float = LOCK_WAIT_SECONDS) -> None:
        """Record what became of deliveries. Raises `LeaseLost` for those that are no longer this consumer's."""
        self._check()
        ranges = list(self._ranges(settlements))
        lost = self._groups.settle(self._group, ranges, self.clock.monotonic(), wait)
        lost = [gone for gone in lost if not self._was_acked(*gone)]
        refused = {lease for lease, _ in lost}
        self._acked.extend(part for part in ranges if part.action == "ack" and part.lease not in refused)
        if any(settlement.action in ("nack", "release") for settlement in settlements):
            self.bus.announce_groups()
        if lost:
            topics = {settlement.message.lease: settlement.message.topic for settlement in settlements}
            raise LeaseLost(topics[lost[0][0]], tuple(offset for _, offset in lost))

    def _was_acked(self, lease: int, offset: int) -> bool:
        """Whether this is only the repetition of an ack, such as after one that was cancelled half-way."""
        return any(part.lease == lease and part.first <= offset <= part.last for part in self._acked)

    def _ranges(self, settlements: Sequence[Settlement]) -> Iterator[Range]:
        """Join settlements of neighbours that are alike: a lease belongs to one shard."""
        numbers = {(shard.topic, shard.partition): shard.id for shard in self._shards.values()}
        at = 0
        while at < len(settlements):
            settlement = settlements[at]
            message, action, seconds = settlement.message, settlement.action, settlement.seconds
            lease, last = message.lease, message.offset
            at += 1
            while at < len(settlements):
                following = settlements[at]
                other = following.message
                if other.offset != last + 1 or other.lease != lease or following.action != action:
                    break
                if following.seconds != seconds:
                    break
                last, at = last + 1, at + 1
            yield Range(
                numbers.get((message.topic, message.partition), -1), message.offset, last, lease, action, seconds
            )

    def renew(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Renew the leases of all that this consumer holds."""
        self._check()
        self._groups.renew(self._consumer, self.clock.monotonic() + self.bus.options.lease_seconds, wait)

    def close(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Give back what is held and leave the group. In a forked child it only forgets."""
        if self.closed:
            return
        if not self.bus.stale and self.bus.generation == self._generation:
            self._groups.leave(self._consumer, wait)
            self.bus.hub.remove(self, self._shards)
            self.bus.announce_groups()
        self.closed = True
        self._wake()


def matching(bus: Bus, patterns: Sequence[Pattern]) -> list[Topic]:
    """Return the topics that one of the patterns matches."""
    topics = bus.catalog.topics
    if all(pattern.literal is not None for pattern in patterns):
        return [topics[name] for name in dict.fromkeys(map(str, patterns)) if name in topics]
    return [topic for topic in list(topics.values()) if any(pattern.matches(topic.name) for pattern in patterns)]


def start_offset(bus: Bus, shard: Shard, start: Start) -> int:
    """Return the offset where reading a shard from `start` begins."""
    try:
        if start == "end" and (written := bus.hub.written(shard.id)):
            return written
        bus.catalog.use(shard)
        if start == "end":
            return shard.log.end()
        if isinstance(start, float):
            return shard.log.find_time(int(start * 1e9))
        return start if isinstance(start, int) else shard.log.extent()[0]
    except LogGone:
        return 0


def bind(bus: Bus, spec: SubscriptionSpec) -> int:
    """Make the group of a spec collect from its topics, from its start where it has no place yet."""
    assert spec.group is not None
    stored = [str(pattern) for pattern in spec.patterns]
    if bus.groups.is_bound(spec.group, stored):
        return bus.groups.find(spec.group)
    for pattern in spec.patterns:
        if pattern.literal is not None:
            bus.topic(pattern.literal)
    bus.catalog.refresh()
    placed = [Pattern.from_stored(text) for text in bus.groups.bindings().get(spec.group, ())]
    topics = [topic for topic in matching(bus, spec.patterns) if not any(p.matches(topic.name) for p in placed)]
    starts = {shard.id: start_offset(bus, shard, spec.start) for topic in topics for shard in topic.shards}
    return bus.groups.bind(spec.group, stored, starts)
