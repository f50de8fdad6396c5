"""A temporary subscription: a place in each shard, in memory only."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence

from msgspec.structs import replace

from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard
from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.courses import Course
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.reading.feed import BaseFeed
from tidings.engines.embedded.reading.merge import first_published, stable_ends
from tidings.engines.embedded.reading.start import start_offset
from tidings.engines.embedded.waking.board import STAGED
from tidings.model.options import MAX_PREFETCH, Durability, Guarantee
from tidings.model.retry import is_exhausted, retry_delay
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import M, Output, Settlement

EVERYTHING = -1
"""As a place that is written down: this subscription has read everything, and waits for what its filter matches."""


class TailFeed(BaseFeed[M]):
    """Reads what is published, for itself alone."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        super().__init__(bus, spec, message_type)
        self._riding: dict[int, Course] = {}
        self._levels: dict[str, set[int]] = {}
        self._direct: set[int] = set()
        self._places: dict[int, int] = {}
        self._retries: list[tuple[float, int, M]] = []
        self._order = itertools.count()
        shards = self._enter()
        self._attach(None)
        for shard in shards:
            if spec.start == "end" and self._sift is None:
                self._fresh.pop(shard.id, None)  # nothing to read yet; what comes from now on touches it again
            self._places[shard.id] = start_offset(self.bus, shard, spec.start)
        if spec.start == "end" and self._sift is None:
            self._said = dict(self._places)

    # -- riding along, with a filter

    def _follow(self, shard: Shard) -> None:
        """With a filter, what is new is looked at together with others that have one; unless the topic has several
        priorities: what comes of these has to be merged."""
        levels = self._levels.setdefault(shard.topic, set())
        levels.add(shard.priority)
        if self._sift is None:
            return super()._follow(shard)
        if len(levels) == 1:
            self.bus.courses.of(shard)  # hears of everything from now on, before the first look
        self._shards[shard.id] = shard
        self._fresh[shard.id] = None
        if len(levels) > 1:
            for each in [each for each in list(self._shards.values()) if each.topic == shard.topic]:
                if each.id not in self._direct:
                    self._direct.add(each.id)
                    self._get_off(each.id)
                    super()._follow(each)
        return None

    def _board(self, shard: Shard) -> bool:
        """Ride along with the others that have read everything, where that is possible. False: there is more."""
        if self._sift is None or shard.id in self._direct:
            return True
        place = self._places.get(shard.id, 0)
        if place > shard.log.end():  # it began further on, and waits by itself until the log has come as far
            self._direct.add(shard.id)
            super()._follow(shard)
            return False
        self._riding[shard.id] = course = self.bus.courses.of(shard)
        if course.board(self, self._sift.predicate, place):
            self._untold = self._untold or self._says_everything(shard.id)
            if self.closed or shard.id in self._direct:  # since it was asked: who did that may not have seen the ride
                self._get_off(shard.id)
            return True
        self._riding.pop(shard.id, None)
        return False

    def alight(self, shard: int, offset: int) -> None:
        """Read on by itself, from an offset at which there is something for this subscription."""
        self._riding.pop(shard, None)
        self._places[shard] = max(self._places.get(shard, 0), offset)
        self.touch(shard)

    def _says_everything(self, shard: int) -> bool:
        """Whether it has to be written down that a ride begins: one that began at the end said so when it came."""
        return shard in self._said or self._spec.start != "end"

    def _moves(self) -> dict[int, int]:
        """Who rides has read everything."""
        places = dict(self._places)
        for shard in list(self._riding):
            if self._says_everything(shard):
                places[shard] = EVERYTHING
            else:
                places.pop(shard, None)
        return {shard: place for shard, place in places.items() if self._said.get(shard) != place}

    def _get_off(self, shard: int) -> None:
        course = self._riding.get(shard)
        if course is not None and self._sift is not None:
            course.leave(self, self._sift.predicate)

    def _lose(self, shard: int) -> None:
        known = self._shards.get(shard)
        super()._lose(shard)
        for table in (self._riding, self._places, self._said):
            table.pop(shard, None)
        self._direct.discard(shard)
        if known is not None and all(each.topic != known.topic for each in list(self._shards.values())):
            self._levels.pop(known.topic, None)
        self.bus.courses.forget(shard)

    # -- reading

    def _poll(self, limit: int, wait: float) -> list[M]:
        self._stirred = False
        for number, course in tuple(self.bus.courses.stale.items()) if self._sift is not None else ():
            if number in self._riding:
                course.run()
        found = self._take_retries(limit)
        for shards in self._turns():
            if len(found) >= limit:
                break
            for shard in shards:
                self._fresh.pop(shard.id, None)
            try:
                more = self._read_all(shards, limit - len(found), found)
            except Exception:
                self._fresh.update((shard.id, None) for shard in shards)
                if not found:
                    raise
                break  # told by the next poll: what was found before is not lost
            self._fresh.update((shard.id, None) for shard in more)
        return found

    def _read_all(self, shards: list[Shard], limit: int, found: list[M]) -> list[Shard]:
        """Add up to `limit` messages; return the shards that may have more. The highest priority is read to its end."""
        if len(shards) > 1:
            return self._read_merged(shards, limit, found)
        stop, more = len(found) + limit, True
        while more and len(found) < stop:
            more = self._read(shards[0], stop - len(found), found)
            if not self._spec.priority_order:
                break
        return shards if more else []

    def _turns(self) -> list[list[Shard]]:
        """Return the shards that have something new, in the order in which to read them; those of a topic with several
        priorities, which have to be merged into publish order, come together."""
        fresh = [self._shards[number] for number in list(self._fresh) if number in self._shards]
        if self._spec.priority_order:
            return [[shard] for shard in sorted(fresh, key=lambda shard: -shard.priority)]
        turns: list[list[Shard]] = []
        merged: dict[str, None] = {}
        for shard in fresh:
            if len(self._levels.get(shard.topic, ())) > 1:
                merged[shard.topic] = None
            else:
                turns.append([shard])
        return [*turns, *map(self._all_of, merged)]

    def _all_of(self, topic: str) -> list[Shard]:
        """Return all shards of a topic that are read, also those of which nothing new was heard: something that was
        published before what was heard of may be there by now."""
        known = self.bus.catalog.topics.get(topic)
        shards = list(self._shards.values()) if known is None else known.shards
        return [shard for shard in shards if shard.topic == topic and shard.id in self._shards]

    def _read(self, shard: Shard, limit: int, found: list[M]) -> bool:
        """Add up to `limit` messages of a shard; return whether there may be more."""
        at, stop = self._places.get(shard.id, 0), len(found) + limit
        try:
            self.bus.catalog.use(shard)
            batches = shard.log.read(at)
            if not batches:
                return not self._board(shard)
        except LogGone:
            self._lose(shard.id)
            return False
        for batch in batches:
            self.skipped += max(0, batch.base - at)
            at = max(at, batch.base)
            while at < batch.end and len(found) < stop:
                last = min(batch.end, at + stop - len(found)) - 1
                found += self._wanted(shard, batch, self._messages(shard, batch, at, last, 1, 0))
                at = last + 1
            if len(found) >= stop:
                break
        self._places[shard.id] = at
        self._untold = True
        return True

    def _read_merged(self, shards: list[Shard], limit: int, found: list[M]) -> list[Shard]:
        """Add up to `limit` messages of several shards in publish order; return those that may have more."""
        by_number = {shard.id: shard for shard in shards}
        try:
            for shard in shards:
                self.bus.catalog.use(shard)
            ends = stable_ends(shards)
            stops = first_published(by_number, self._places, ends, limit)
            read = {shard.id: self._pages(shard, stops[shard.id]) for shard in shards}
        except LogGone:
            for shard in shards:
                self._lose(shard.id)
            return []
        places = {number: place for number, (place, _) in read.items()}
        if all(place == self._places.get(number, 0) for number, place in places.items()):
            return []  # what is missing up to the ends was lost with the power; it is read when something follows it
        self._places.update(places)
        self._untold = True
        for _, messages in sorted([page for _, pages in read.values() for page in pages], key=lambda page: page[0]):
            found += messages
        return [shard for shard in shards if self._places.get(shard.id, 0) < ends[shard.id]]

    def _pages(self, shard: Shard, stop: int) -> tuple[int, list[tuple[int, list[M]]]]:
        """Read a shard up to `stop`; return the place reached, and the wanted messages of each batch with its time."""
        pages = []
        at = self._places.get(shard.id, 0)
        while at < stop and (batches := shard.log.read(at)):
            for batch in batches:
                if at < stop:
                    self.skipped += max(0, min(batch.base, stop) - at)
                    messages = self._messages(shard, batch, max(at, batch.base), stop - 1, 1, 0)
                    pages.append((batch.time_ns, self._wanted(shard, batch, messages)))
                    at = min(batch.end, stop)
        return at, pages

    def _wanted(self, shard: Shard, batch: Batch, messages: list[M]) -> list[M]:
        """Leave out what the filter does, what has expired, and other keys than the one asked for."""
        if self._sift is not None:
            messages = self._sift.wanted(shard, batch, messages)
        if batch.extra:
            now = self.clock.now()
            messages = [m for m in messages if (until := m.expires_at) is None or until > now]
        if self._spec.key is not None:
            messages = [message for message in messages if message.key == self._spec.key]
        return messages

    def is_behind(self) -> bool:
        return super().is_behind() or not self._riding.keys().isdisjoint(self.bus.courses.stale)

    def _take_retries(self, limit: int) -> list[M]:
        retries, now = self._retries, self.clock.monotonic() if self._retries else 0.0
        found: list[M] = []
        while retries and len(found) < limit and (retries[0][0] <= now or len(retries) > MAX_PREFETCH):
            message = heapq.heappop(retries)[2]
            if message.expires_at is None or message.expires_at > self.clock.now():
                found.append(message)
        return found

    def is_ready(self) -> bool:
        if super().is_ready() or (self._riding and not self._riding.keys().isdisjoint(self.bus.courses.stale)):
            return True
        return bool(self._retries and self._retries[0][0] <= self.clock.monotonic())

    def _due(self) -> float:
        return self._retries[0][0] if self._retries else float("inf")

    # -- settling

    def settle(self, settlements: Sequence[Settlement], wait: float = LOCK_WAIT_SECONDS) -> None:
        """Nacked and released messages come again, to this subscription; there is nothing to ack."""
        letters: list[Entry] = []
        retries: list[tuple[float, M]] = []
        for settlement in settlements:
            if settlement.action != "ack":
                self._decide(settlement, letters, retries)
        if letters:
            self.bus.outbox.add(letters, wait, durable=False)
            self.bus.hub.announce_change(STAGED)
        for due, message in retries:
            heapq.heappush(self._retries, (due, next(self._order), message))
        self._wake()

    def stir(self) -> None:
        """What becomes of the messages of groups is none of its business."""

    def _decide(self, settlement: Settlement, letters: list[Entry], retries: list[tuple[float, M]]) -> None:
        """Add what comes of a settlement: a dead letter, or a delivery later."""
        message, action, terms = settlement.message, settlement.action, self.terms(settlement.message)
        if terms.delivery == Guarantee.AT_MOST_ONCE and action != "release":
            return
        if action == "nack" and is_exhausted(terms, message.attempt):
            action = "exhaust"
        if action in ("reject", "exhaust"):
            letter = self.letter(settlement, action)
            letters += [letter] if letter is not None else []
        elif action in ("nack", "release"):
            seconds = settlement.seconds or 0.0
            if action == "nack" and settlement.seconds is None:
                seconds = retry_delay(terms, message.attempt, random.random())
            again = replace(message, attempt=message.attempt + (action == "nack"))
            retries.append((self.clock.monotonic() + seconds, again))  # type: ignore[arg-type]

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        """Publish the outputs together; there is nothing to ack."""
        shards: dict[int, Shard] = {}
        entries = self.bus.pump.prepare(outputs, shards)
        ids = self.bus.outbox.add(entries, LOCK_WAIT_SECONDS, durability is Durability.DISK)
        self.bus.pump.move_own(ids, entries, shards)
        self.settle(settlements)

    renew_every: float | None = None
    """Nothing is leased."""

    def renew(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Nothing is leased."""

    def close(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        if self.closed:
            return
        if self.is_own():
            for shard in list(self._riding):
                self._get_off(shard)
            self.bus.members.leave(self._consumer, wait)
            self.bus.hub.remove(self, self._shards)
        self.closed = True
        for shard in list(self._riding):  # boarded meanwhile, by a poll that was under way
            self._get_off(shard)
        self._wake()
