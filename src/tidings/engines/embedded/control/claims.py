"""What the consumers of a group hold, and what becomes of it: every decision is one transaction on control.db.

A message of a group is in one of four states. Not claimed: at or after the cursor. Leased: in a `pending` row with a
consumer. Free: in a `pending` row without one, to be claimed again when it is due. Gone: none of these, and counted as
acked, dead, expired, skipped or filtered.

    from         claim        ack    reject, expire  nack     release    lease ends or consumer dies
    not claimed  leased(1)    -      -               -        -          -
    leased(n)    -            acked  dead, expired   free(n)  free(n-1)  claimable again as n
    free(n)      leased(n+1)  -      -               -        -          -

The filter of a group leads from not claimed to filtered, `seek` from all states to not claimed or acked. A topic that
delivers at most once has no leases: from not claimed to acked at the claim; `restore` makes that free(0).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control import assignment
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.control.outbox import Entry, Outbox
from tidings.errors import Closed

MAX_CLAIMS = 256
"""Ranges claimed at once: after many single nacks the rest waits for the next fetch, so a transaction stays short."""

MARK_SECONDS = 30.0
"""Counts are marked this often, so a rate covers between one and two of these: as short as shows a change in time, as
long as smooths a batch."""

Execute = Callable[..., Any]

_COUNTED = {
    "ack": "acked = acked + :n",
    "skip": "skipped = skipped + :n",
    "expire": "expired = expired + :n",
    "reject": "dead = dead + :n, failed = failed + :n",
    "exhaust": "dead = dead + :n",
    "nack": "failed = failed + :n",
    "restore": "acked = acked - :n",
    "lapse": "acked = acked - :n, expired = expired + :n",
}
"""Actions that count, and what. To skip is to ack what retention removed; to exhaust is to reject what was delivered
as often as it may be, and not settled."""

_ENDS = {"ack", "skip", "expire", "reject", "exhaust"}
"""Actions after which the message is gone for the group."""

_AMONG = "shard IN (SELECT value FROM json_each(?))"

_ROW = "id, shard, first, last, attempt, due, consumer, lease"


Run = tuple[int, int]
"""A first and a last offset."""


class Claim(Struct, frozen=True):
    """The right of one consumer to the offsets `first` to `last` of a shard, for their `attempt`-th delivery; with
    `runs` only to those: the others were passed over.

    `skipped` messages before them had been removed by retention. `lease` is 0 when there is nothing left to settle.
    """

    shard: int
    first: int
    last: int
    attempt: int
    lease: int
    skipped: int = 0
    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return _size(self.runs) if self.runs else self.last - self.first + 1

    def offsets(self) -> Iterator[int]:
        """Yield what it is the right to."""
        for first, last in self.runs or ((self.first, self.last),):
            yield from range(first, last + 1)


class Span(Struct, frozen=True):
    """What may be claimed of a shard: the offsets `first` up to, not including, `end`.

    With `wanted`, runs at or after `place`, only these: the group passes over the others. `cut`: there is more of it.
    """

    first: int
    end: int
    place: int = 0
    wanted: tuple[Run, ...] | None = None
    cut: bool = False


class Wish(Struct):
    """What a member asks for, and has got so far: `limit` is what may be added."""

    who: Member
    spans: Mapping[int, Span]
    limit: int
    now: float
    claims: list[Claim]

    def take(self, claims: list[Claim]) -> None:
        self.claims += claims
        self.limit -= sum(map(len, claims))


class Range(Struct, frozen=True):
    """A part of a claim that is settled in one way; with `runs` only these of it."""

    shard: int
    first: int
    last: int
    lease: int
    action: str
    seconds: float = 0.0
    runs: tuple[Run, ...] = ()


class Work(Struct, frozen=True):
    """A transaction of a consumer: ranges to settle, messages to stage, numbers of staged ones that were moved."""

    group: int
    ranges: Sequence[Range]
    entries: Sequence[Entry]
    moved: Sequence[int]
    durable: bool


class Lost(Exception):
    """Some of a transaction's deliveries, as (lease, offset), are not its consumer's any more."""

    def __init__(self, lost: list[tuple[int, int]]) -> None:
        self.lost = lost


class Claims:
    """The deliveries of a bus. Safe to share between threads and processes."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._leases = itertools.count(int.from_bytes(os.urandom(7)))
        self._marked: dict[int, float] = {}

    # -- claiming

    def claim(self, who: Member, spans: Mapping[int, Span], limit: int, now: float, wait: float) -> list[Claim]:
        """Claim up to `limit` messages: what is due of the member's shards, then what is new in `spans`, in their
        order. What retention removed before is counted as skipped. Raises `Closed` when the group was dropped."""
        wish = Wish(who, spans, limit, now, [])
        with self._control.write(wait) as run:
            if not run("SELECT 1 FROM consumers WHERE id = ?", (who.consumer,)).fetchall():
                raise Closed("the consumer group was dropped, so this subscription to it has ended")
            owned = assignment.share(run, who, now) if who.homes is not None else None
            for level in who.levels or (None,):
                shards = owned if level is None else level if owned is None else owned & level
                if not self._claim_level(run, wish, shards):
                    break
        return wish.claims

    def _claim_level(self, run: Execute, wish: Wish, shards: Set[int] | None) -> bool:
        """Claim from some shards (None: all): first what is due, then what is new. Return whether that is all of it."""
        among = wish.who.shards if shards is None else msgspec.json.encode(list(shards)).decode()
        due = self._claim_due(run, wish.who, among, wish.limit, wish.now)
        wish.take(due)
        if len(due) == MAX_CLAIMS or (due and wish.who.merged):
            return False
        cut = False
        for shard, span in wish.spans.items():
            if wish.limit <= 0:
                break
            if shards is None or shard in shards:
                wish.take(self._claim_new(run, wish, shard, span))
                cut = cut or span.cut
        return wish.limit > 0 and not cut

    def _claim_due(self, run: Execute, who: Member, among: str, limit: int, now: float) -> list[Claim]:
        claims: list[Claim] = []
        query = f"SELECT {_ROW} FROM pending WHERE group_id = ? AND due <= ? AND {_AMONG} ORDER BY shard, first LIMIT ?"
        rows = run(query, (who.group, now, among, max(0, min(limit, MAX_CLAIMS))))
        for row in rows.fetchall():
            if limit <= 0:
                break
            id, shard, first, last, attempt = row[:5]
            number = 0 if shard in who.unleased else next(self._leases)
            claim = Claim(shard, first, min(last, first + limit - 1), attempt + 1, number)
            self._carve(run, who.group, row, first, claim.last)
            if number:
                lease = "UPDATE pending SET consumer = ?, lease = ?, due = ?, attempt = ? WHERE id = ?"
                run(lease, (who.consumer, number, now + who.lease_seconds, claim.attempt, id))
            else:
                run("DELETE FROM pending WHERE id = ?", (id,))
                _count(run, _COUNTED["ack"], len(claim), who.group, shard)
            if claim.attempt > 1:
                _count(run, "redelivered = redelivered + :n", len(claim), who.group, shard)
            claims.append(claim)
            limit -= len(claim)
        return claims

    def _claim_new(self, run: Execute, wish: Wish, shard: int, span: Span) -> list[Claim]:
        """Move the cursor, and claim what is wanted of what it moves over."""
        who, now = wish.who, wish.now
        row = run("SELECT next FROM cursors WHERE group_id = ? AND shard = ?", (who.group, shard)).fetchall()
        place = row[0][0] if row else 0
        first = max(place, span.first)
        runs, end = _new_runs(span, first, wish.limit)
        if end <= first:
            return []
        lease = 0 if shard in who.unleased else next(self._leases)
        count = _size(runs)
        run(
            "INSERT INTO cursors (group_id, shard, next, skipped, acked, filtered, marked, past) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next, "
            "skipped = skipped + excluded.skipped, acked = acked + excluded.acked, "
            "filtered = filtered + excluded.filtered",
            (who.group, shard, end, first - place, 0 if lease else count, end - first - count, now, now),
        )
        if not runs:
            return []
        if lease and len(runs) == 1:
            self._insert(run, (who.group, shard, *runs[0], 1, now + who.lease_seconds, who.consumer, lease))
        elif lease:
            insert = (
                "INSERT INTO pending (group_id, shard, first, last, attempt, due, consumer, lease) "
                "SELECT ?, ?, value->>0, value->>1, 1, ?, ?, ? FROM json_each(?)"
            )
            rows = msgspec.json.encode(runs).decode()
            run(insert, (who.group, shard, now + who.lease_seconds, who.consumer, lease, rows))
        gaps = tuple(runs) if len(runs) > 1 else ()
        return [Claim(shard, runs[0][0], runs[-1][1], 1, lease, first - place, gaps)]

    @staticmethod
    def _insert(run: Execute, row: tuple[Any, ...]) -> None:
        run(
            "INSERT INTO pending (group_id, shard, first, last, attempt, due, consumer, lease) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def _carve(self, run: Execute, group: int, row: tuple[Any, ...], first: int, last: int) -> None:
        """Leave the row exactly `first` to `last`; what is around it gets rows of its own."""
        id, shard, row_first, row_last, *rest = row
        if row_first < first:
            self._insert(run, (group, shard, row_first, first - 1, *rest))
        if row_last > last:
            self._insert(run, (group, shard, last + 1, row_last, *rest))
        if (row_first, row_last) != (first, last):
            run("UPDATE pending SET first = ?, last = ? WHERE id = ?", (first, last, id))

    # -- settling

    def settle(
        self, group: int, ranges: Sequence[Range], now: float, wait: float, letters: Sequence[Entry] = ()
    ) -> list[tuple[int, int]]:
        """Settle ranges; return the (lease, offset) of messages that are no longer under their lease. The letters are
        staged whose message was still under its lease."""
        lost: list[tuple[int, int]] = []
        with self._control.write(wait) as run:
            for part in ranges:
                lost += self._settle(run, group, part, now)
            Outbox.stage(run, [entry for entry in letters if entry.answers not in lost] if lost else letters)
            self._mark(run, group, now)
        return lost

    def commit(self, work: Work, now: float) -> list[int]:
        """Do all of it or nothing; return the numbers of the entries. Raises `Lost`."""
        with self._control.write(durable=work.durable) as run:
            lost = [gone for part in work.ranges for gone in self._settle(run, work.group, part, now)]
            if lost:
                raise Lost(lost)
            self._mark(run, work.group, now)
            Outbox.remove(run, work.moved)
            return Outbox.stage(run, work.entries)

    def _settle(self, run: Execute, group: int, part: Range, now: float) -> list[tuple[int, int]]:
        if not part.lease:
            return self._settle_unleased(run, group, part)
        if part.runs and self._settle_together(run, group, part, now):
            return []
        lost = []
        for first, last in part.runs or ((part.first, part.last),):
            lost += self._settle_run(run, group, part, (first, last), now)
        return lost

    def _settle_together(self, run: Execute, group: int, part: Range, now: float) -> bool:
        """Settle runs that are as they were claimed, with one statement; when they are not do nothing: False."""
        where = "group_id = ? AND shard = ? AND first BETWEEN ? AND ? AND lease = ?"
        keys = (group, part.shard, part.first, part.last, part.lease)
        rows = run(f"SELECT first, last FROM pending WHERE {where} ORDER BY first", keys).fetchall()
        if rows != list(part.runs):
            return False
        self._apply(run, (where, keys), part, now)
        if part.action in _COUNTED:
            _count(run, _COUNTED[part.action], _size(part.runs), group, part.shard)
        return True

    def _settle_run(self, run: Execute, group: int, part: Range, of: Run, now: float) -> list[tuple[int, int]]:
        query = (
            f"SELECT {_ROW} FROM pending WHERE group_id = ? AND shard = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        )
        lost, (at, end) = [], of
        while at <= end:
            rows = run(query, (group, part.shard, at)).fetchall()
            if not rows or rows[0][3] < at or rows[0][7] != part.lease:
                lost.append((part.lease, at))
                at += 1
                continue
            row = rows[0]
            last = min(row[3], end)
            self._carve(run, group, row, at, last)
            self._apply(run, ("id = ?", (row[0],)), part, now)
            if part.action in _COUNTED:
                _count(run, _COUNTED[part.action], last - at + 1, group, part.shard)
            at = last + 1
        return lost

    def _settle_unleased(self, run: Execute, group: int, part: Range) -> list[tuple[int, int]]:
        """What was acked at the claim: it was not delivered after all, and is claimable again or has expired."""
        if part.action == "restore":
            self._insert(run, (group, part.shard, part.first, part.last, 0, 0.0, None, 0))
        if part.action in ("restore", "lapse"):
            _count(run, _COUNTED[part.action], part.last - part.first + 1, group, part.shard)
        return []

    @staticmethod
    def _apply(run: Execute, rows: tuple[str, tuple[int, ...]], part: Range, now: float) -> None:
        """The effect of an action on whole rows: a condition, and its parameters."""
        where, keys = rows
        if part.action in _ENDS:
            run(f"DELETE FROM pending WHERE {where}", keys)
        elif part.action == "extend":
            run(f"UPDATE pending SET due = ? WHERE {where}", (now + part.seconds, *keys))
        else:
            due = now + part.seconds if part.seconds or part.action == "nack" else 0.0
            back = int(part.action == "release")
            query = f"UPDATE pending SET consumer = NULL, lease = 0, due = ?, attempt = attempt - ? WHERE {where}"
            run(query, (due, back, *keys))

    def _mark(self, run: Execute, group: int, now: float) -> None:
        """Mark the counts of the group now and then."""
        if now - self._marked.get(group, 0.0) >= MARK_SECONDS:
            self._marked[group] = now
            run(
                "UPDATE cursors SET acked_past = acked_mark, failed_past = failed_mark, past = marked, "
                "acked_mark = acked, failed_mark = failed, marked = ?1 WHERE group_id = ?2 AND marked <= ?1 - ?3",
                (now, group, MARK_SECONDS),
            )

    def renew(self, consumer: int, until: float, wait: float) -> None:
        """Let the leases of a consumer end no sooner than `until`."""
        with self._control.write(wait) as run:
            run("UPDATE pending SET due = max(due, ?) WHERE consumer = ?", (until, consumer))
            run("UPDATE consumers SET until = ? WHERE id = ?", (until, consumer))

    def next_due(self, who: Member, now: float) -> float | None:
        """Return the (monotonic) time at which something becomes claimable for the member by itself: a message, or the
        partition of a consumer that was stopped."""
        query = f"SELECT min(due) FROM pending WHERE group_id = ? AND {_AMONG}"
        due: float | None = self._control.read(query, (who.group, who.shards))[0][0]
        if who.homes is None:
            return due
        others = "SELECT min(until) FROM consumers WHERE group_id = ? AND id <> ? AND until > ?"
        until: float | None = self._control.read(others, (who.group, who.consumer, now))[0][0]
        return min((time for time in (due, until) if time is not None), default=None)


def _size(runs: Iterable[Run]) -> int:
    return sum(last - first + 1 for first, last in runs)


def _new_runs(span: Span, first: int, limit: int) -> tuple[Sequence[Run], int]:
    """Return what to claim from `first` on, and where the cursor goes."""
    if span.wanted is None:
        end = min(span.end, first + limit)
        return ((first, end - 1),), end
    if first < span.place:  # the group was moved back meanwhile: nobody has looked at what is there
        return (), first
    runs = []
    for low, high in span.wanted:
        low = max(low, first)
        if low <= high:
            high = min(high, low + limit - 1)
            runs.append((low, high))
            limit -= high - low + 1
        if limit <= 0:
            return runs, runs[-1][1] + 1
    return runs, span.end


def _count(run: Execute, change: str, n: int, group: int, shard: int) -> None:
    run(
        f"UPDATE cursors SET {change} WHERE group_id = :group AND shard = :shard",
        {"n": n, "group": group, "shard": shard},
    )
