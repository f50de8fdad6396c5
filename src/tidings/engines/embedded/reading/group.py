"""A consumer of a group: claims ranges, reads them, and says what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Generic

import msgspec
from msgspec import Struct

from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import MAX_CLAIMS, Claim, Lost, Range, Run, Span, Work
from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.reading.feed import BaseFeed
from tidings.engines.embedded.reading.merge import first_published, stable_ends
from tidings.engines.embedded.reading.policy import Policy
from tidings.engines.embedded.reading.start import bind
from tidings.engines.embedded.sift import Sift
from tidings.engines.embedded.waking.board import LOOK_SECONDS, ROOM_MADE, STAGED
from tidings.errors import DamagedData, EngineError, LeaseLost
from tidings.model.options import Durability
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import M, Output, Settlement

REMEMBERED_ACKS = 1000
"""Ranges acked lately: an ack may be repeated while its first time is among them; as many as the usual prefetch."""


class Page(Struct, Generic[M]):
    """What was claimed of one stored batch. `is_new`: delivered for the first time; `extra`: some may have expired."""

    shard: int
    time_ns: int
    is_new: bool
    extra: bool
    messages: list[M]


class GroupFeed(BaseFeed[M]):
    """Reads what falls to this consumer."""

    def __init__(self, bus: Bus, spec: SubscriptionSpec, message_type: type[M]) -> None:
        super().__init__(bus, spec, message_type)
        assert spec.group is not None
        self._claims = self.bus.claims
        self.renew_every: float | None = bus.options.lease_seconds / 3
        self._acked: deque[Range] = deque(maxlen=REMEMBERED_ACKS)
        self._next_due = 0.0
        self._owed: list[Range] = []
        self._member: Member | None = None
        self._policy: Policy[M] = Policy(self, spec.key, spec.ordering, self.record)
        self.bus.bury()
        self.bus.members.check(self._limits())
        self._group = bind(self.bus, spec)
        kept = self.bus.groups.filter(spec.group)
        self._sift = None if kept is None else Sift(kept, self.bus.verdicts)
        self._enter()
        self._attach(self._group)
        self._watch()
        self.bus.announce_groups()

    def _watch(self) -> None:
        if self.bus.presence is not None:
            self.bus.hub.watch(self.bus.members.peers())

    def discover(self, topic: Topic) -> None:
        self._member = None
        super().discover(topic)

    def _lose(self, shard: int) -> None:
        self._member = None
        super()._lose(shard)

    def _who(self) -> Member:
        who = self._member
        if who is None:
            self._member = who = self._make_member(list(self._shards.values()))
        unleased = self.bus.catalog.unleased
        if unleased or who.unleased:
            who.unleased = frozenset(shard.id for shard in list(self._shards.values()) if shard.topic in unleased)
        return who

    def _make_member(self, shards: Sequence[Shard]) -> Member:
        numbers = msgspec.json.encode([shard.id for shard in shards]).decode()
        who = Member(self._group, self._consumer, numbers, self.bus.options.lease_seconds)
        if self._spec.ordering:
            who.homes = {shard.id: shard.home for shard in shards}
        if self._spec.priority_order:
            priorities = sorted({shard.priority for shard in shards}, reverse=True)
            who.levels = tuple(frozenset(s.id for s in shards if s.priority == each) for each in priorities)
        return who

    # -- reading

    def _poll(self, limit: int, wait: float) -> list[M]:
        """Claim what there is, then read it."""
        now = self.clock.monotonic()
        if self._stirred:
            self._watch()
        elif not self._fresh and now < self._next_due:
            return []
        self._pay(wait)
        who = self._who()
        claims, spans, more = self._claim(who, limit, now, wait)
        try:
            more = more or len(claims) >= MAX_CLAIMS or sum(map(len, claims)) >= limit
            self._after_claim(who, claims, spans if more else {}, now)
            return self._admit(claims, now)
        except DamagedData:
            raise
        except BaseException:
            self._give_back(claims, ())
            raise

    def _admit(self, claims: Sequence[Claim], now: float) -> list[M]:
        """Read what was claimed, and return what is to be delivered of it."""
        pages: list[Page[M]] = []
        for at, claim in enumerate(claims):
            try:
                self._read(claim, pages)
            except DamagedData:
                self._give_back(claims[at:], pages)
                if not any(page.messages for page in pages):
                    raise
                break
        if len(pages) > 1 and not self._spec.priority_order:
            retries_first = not self._spec.ordering
            pages.sort(key=lambda page: 0 if retries_first and not page.is_new else page.time_ns)
        found: list[M] = []
        for page in pages:
            found += page.messages
        retried, extra = any(claim.attempt > 1 for claim in claims), any(page.extra for page in pages)
        return self._policy.admit(found, now) if self._policy.is_needed(extra, retried) else found

    def _claim(self, who: Member, limit: int, now: float, wait: float) -> tuple[list[Claim], dict[int, Span], bool]:
        """Claim; return also what could be claimed anew, and whether there is more of it."""
        fresh, self._fresh = self._fresh, {}
        stirred, self._stirred = self._stirred, False
        try:
            if stirred:
                fresh.update(dict.fromkeys(self._behind()))
            spans, who.merged, cut = self._spans(fresh, limit)
            claims = self._claims.claim(who, spans, limit, now, wait)
        except BaseException:
            self._fresh = {**fresh, **self._fresh}
            self._stirred = self._stirred or stirred
            raise
        more = bool(cut if who.owned is None else cut & who.owned)
        return claims, spans, more or (who.merged and bool(claims))

    def _after_claim(self, who: Member, claims: Sequence[Claim], left: dict[int, Span], now: float) -> None:
        """Say what others have to know, and note when to claim again: at once when there is something left."""
        self.skipped += sum(claim.skipped for claim in claims)
        if left:
            self._fresh = {**dict.fromkeys(left), **self._fresh}
            self._next_due = 0.0
        else:
            due = self._claims.next_due(who, now)
            self._next_due = float("inf") if due is None else due
        if who.gained:
            self.bus.announce_groups()
        if self.bus.catalog.blocking and (self._sift is not None or any(not claim.lease for claim in claims)):
            self.bus.hub.announce_change(ROOM_MADE)

    def _behind(self) -> list[int]:
        """Return the shards on which the group is not at the end, as far as the board says: it may have been moved."""
        places, written = self.bus.groups.cursors(self._group), self.bus.hub.written
        return [number for number in list(self._shards) if not 0 < written(number) <= places.get(number, 0)]

    def _spans(self, fresh: dict[int, None], limit: int) -> tuple[dict[int, Span], bool, set[int]]:
        """Return what may be claimed of these shards, in the order in which to claim it, whether it was cut to be in
        publish order, and of which there is more."""
        shards = [self._shards[number] for number in fresh if number in self._shards]
        spans = {shard.id: span for shard in shards if (span := self._span(shard)) is not None}
        merged = not self._spec.priority_order and len({shard.priority for shard in shards}) > 1
        if not merged and self._sift is None:
            return spans, False, set()
        cursors = self.bus.groups.cursors(self._group)
        places = {number: max(span.first, cursors.get(number, 0)) for number, span in spans.items()}
        cut = self._in_publish_order(spans, places, limit) if merged else spans
        if self._sift is not None:
            cut = {number: self._wanted(number, span, places[number], limit) for number, span in cut.items()}
        return cut, merged, {number for number in spans if cut[number].end < spans[number].end}

    def _span(self, shard: Shard) -> Span | None:
        try:
            self.bus.catalog.use(shard)
            first, end = shard.log.span()
        except LogGone:
            self._lose(shard.id)
            return None
        return Span(first, end)

    def _wanted(self, number: int, span: Span, place: int, limit: int) -> Span:
        """Cut a span down to what the filter lets `limit` messages through of, and say which."""
        assert self._sift is not None
        try:
            runs, end = self._sift.runs(self._shards[number], place, span.end, limit)
        except LogGone:
            runs, end = [], place
        return Span(span.first, end, place, tuple(runs), cut=end < span.end)

    def _in_publish_order(self, spans: dict[int, Span], places: dict[int, int], limit: int) -> dict[int, Span]:
        """Cut the spans of each topic down to the messages that were published first."""
        cut = dict(spans)
        topics: dict[str, dict[int, Shard]] = {}
        for number in spans:
            topics.setdefault(self._shards[number].topic, {})[number] = self._shards[number]
        for shards in topics.values():
            try:
                ends = stable_ends(list(shards.values()))
                stops = first_published(shards, places, ends, limit, self._sift)
            except LogGone:
                stops = dict.fromkeys(shards, 0)
            cut.update((n, Span(spans[n].first, stop)) for n, stop in stops.items())
        return cut

    def _read(self, claim: Claim, pages: list[Page[M]]) -> None:
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
                messages = self._messages(shard, batch, at, claim.last, claim.attempt, claim.lease)
                if claim.runs and self._sift is not None:
                    messages = self._sift.wanted(shard, batch, messages)
                pages.append(Page(claim.shard, batch.time_ns, claim.attempt == 1, batch.extra, messages))
                at = max(at, batch.end)
                if at > claim.last:
                    break
            if not batches:
                return self._postpone(claim, at)
        return None

    def _postpone(self, claim: Claim, first: int) -> None:
        """Offsets that were given once and are not in the log, which only a loss of power brings about: whether they
        are gone is certain when a message follows them, until then they are asked for now and then."""
        if claim.lease:
            later = Range(claim.shard, first, claim.last, claim.lease, "release", LOOK_SECONDS)
            self._claims.settle(self._group, [later], self.clock.monotonic(), LOCK_WAIT_SECONDS)

    def _skip(self, claim: Claim, first: int, last: int) -> None:
        runs = [(max(low, first), min(high, last)) for low, high in claim.runs or ((first, last),)]
        gone = [Range(claim.shard, low, high, claim.lease, "skip") for low, high in runs if low <= high]
        self.skipped += sum(part.last - part.first + 1 for part in gone)
        if claim.lease and gone:
            self._claims.settle(self._group, gone, self.clock.monotonic(), LOCK_WAIT_SECONDS)

    def _give_back(self, claims: Sequence[Claim], pages: Sequence[Page[M]]) -> None:
        """Give back what was claimed and could not be read; if that is not possible now, before the next claim."""
        read = {(page.shard, message.offset) for page in pages for message in page.messages}
        self._owed += [
            Range(claim.shard, offset, offset, claim.lease, "release" if claim.lease else "restore")
            for claim in claims
            for offset in claim.offsets()
            if (claim.shard, offset) not in read
        ]
        self._next_due = 0.0
        with suppress(EngineError):
            self._pay(LOCK_WAIT_SECONDS)

    def _pay(self, wait: float) -> None:
        """Record what could not be given back before."""
        if self._owed:
            self._claims.settle(self._group, self._owed, self.clock.monotonic(), wait)
            self._owed = []

    def _due(self) -> float:
        return self._next_due

    def is_ready(self) -> bool:
        return super().is_ready() or self._next_due <= self.clock.monotonic()

    # -- settling

    def settle(self, settlements: Sequence[Settlement], wait: float = LOCK_WAIT_SECONDS) -> None:
        """Record what became of deliveries. Raises `LeaseLost` for those that are no longer this consumer's."""
        self._check()
        now, ranges = self.clock.monotonic(), list(self._ranges(settlements))
        letters: list[Entry] = []
        if any(part.action != "ack" for part in ranges):
            settlements, letters = self._policy.decide(settlements, now)
            ranges = list(self._ranges(settlements))
        self._record(settlements, ranges, letters, now, wait)

    def record(self, settlements: Sequence[Settlement], letters: Sequence[Entry], now: float) -> None:
        """Record what was decided at this (monotonic) time."""
        self._record(settlements, list(self._ranges(settlements)), letters, now, LOCK_WAIT_SECONDS)

    def _record(
        self,
        settlements: Sequence[Settlement],
        ranges: Sequence[Range],
        letters: Sequence[Entry],
        now: float,
        wait: float,
    ) -> None:
        lost = self._claims.settle(self._group, ranges, now, wait, letters)
        lost = [gone for gone in lost if not self._was_acked(*gone)]
        refused = {lease for lease, _ in lost}
        self._acked.extend(part for part in ranges if part.action == "ack" and part.lease not in refused)
        self._tell(ranges, bool(letters))
        if lost:
            topics = {settlement.message.lease: settlement.message.topic for settlement in settlements}
            raise LeaseLost(topics[lost[0][0]], tuple(offset for _, offset in lost))

    def _tell(self, ranges: Sequence[Range], staged: bool) -> None:
        """Tell those whom it concerns: other consumers, whoever moves dead letters, publishers that wait for room."""
        if any(part.action in ("nack", "release") for part in ranges):
            self.bus.announce_groups()
        if staged:
            self.bus.hub.announce_change(STAGED)
        if self.bus.catalog.blocking:
            self.bus.hub.announce_change(ROOM_MADE)
        if self._member is not None and self._member.leaving:
            self.stir()

    def _was_acked(self, lease: int, offset: int) -> bool:
        """Whether this is only the repetition of an ack, such as after one that was cancelled half-way."""
        runs = (run for part in self._acked if part.lease == lease for run in part.runs or ((part.first, part.last),))
        return any(first <= offset <= last for first, last in runs)

    def _ranges(self, settlements: Sequence[Settlement]) -> Iterator[Range]:
        """Join settlements that are alike: those of neighbours, and with a filter those of one lease, which belongs to
        one shard: between them is what was passed over, or else they are taken apart again."""
        numbers = {(shard.topic, shard.partition, shard.priority): shard.id for shard in list(self._shards.values())}
        at = 0
        while at < len(settlements):
            settlement = settlements[at]
            message, action, seconds = settlement.message, settlement.action, settlement.seconds
            lease, first, last = message.lease, message.offset, message.offset
            runs: list[Run] = []
            at += 1
            while at < len(settlements):
                following = settlements[at]
                offset = following.message.offset
                if offset <= last or following.message.lease != lease or following.action != action:
                    break
                if following.seconds != seconds or not lease or (offset > last + 1 and self._sift is None):
                    break
                if offset > last + 1:
                    runs.append((first, last))
                    first = offset
                last, at = offset, at + 1
            gaps = (*runs, (first, last)) if runs else ()
            shard = numbers.get((message.topic, message.partition, message.priority), -1)
            yield Range(shard, message.offset, last, lease, action, seconds or 0.0, gaps)

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        """Record the settlements and publish the outputs, all or nothing. Raises `LeaseLost`: nothing took effect."""
        self._check()
        now = self.clock.monotonic()
        settlements, letters = self._policy.decide(settlements, now)
        pump, shards = self.bus.pump, dict[int, Shard]()
        entries = [*pump.prepare(outputs, shards), *letters]
        ranges = list(self._ranges(settlements))
        moved = pump.collect()
        work = Work(self._group, ranges, entries, [id for id, _, _ in moved], durability is Durability.DISK)
        try:
            ids = self._claims.commit(work, now)
        except BaseException as error:
            pump.put_back(moved)
            if not isinstance(error, Lost):
                raise
            topics = {settlement.message.lease: settlement.message.topic for settlement in settlements}
            raise LeaseLost(topics[error.lost[0][0]], tuple(offset for _, offset in error.lost)) from None
        self._acked.extend(part for part in ranges if part.action == "ack")
        pump.move_own(ids, entries, shards)
        later = any(entry.mover is None for entry in entries)
        self._tell(ranges, later)

    def renew(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Renew the leases of all that this consumer holds."""
        self._check()
        self._claims.renew(self._consumer, self.clock.monotonic() + self.bus.options.lease_seconds, wait)

    def close(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Give back what is held and leave the group. In a forked child it only forgets."""
        if self.closed:
            return
        if self.is_own():
            self.bus.members.leave(self._consumer, wait)
            self.bus.hub.remove(self, self._shards)
            self.bus.announce_groups()
        self.closed = True
        self._wake()
