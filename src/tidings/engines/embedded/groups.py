"""The place of each consumer group, and what its consumers hold: every decision is one transaction on control.db.

A message of a group is in one of four states. Not claimed: at or after the cursor. Leased: in a `pending` row with a
consumer. Free: in a `pending` row without one, to be claimed again when it is due. Acked (or rejected, and counted):
none of these.

    from         claim          ack     nack          release       lease ends or consumer dies   seek
    not claimed  leased(1)      -       -             -             -                             not claimed or acked
    leased(n)    -              acked   free(n)       free(n-1)     claimable again as n          not claimed or acked
    free(n)      leased(n+1)    -       -             -             -                             not claimed or acked
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control import Control
from tidings.engines.embedded.locks import LOCK_WAIT_SECONDS
from tidings.errors import Closed, GroupNotFound
from tidings.spi import ConsumerInfo, GroupInfo

MAX_CLAIMS = 256
"""Ranges claimed at once: after many single nacks the rest waits for the next fetch, so a transaction stays short."""

Execute = Callable[..., Any]

_COUNTED = {"skip": "skipped", "reject": "rejected"}
"""Actions after which a message is gone for the group without having been acked, and the column that counts them."""

_ROW = "id, shard, first, last, attempt, due, consumer, lease"


class Claim(Struct, frozen=True):
    """The right of one consumer to the offsets `first` to `last` of a shard, for their `attempt`-th delivery.

    `skipped` messages before them had been removed by retention.
    """

    shard: int
    first: int
    last: int
    attempt: int
    lease: int
    skipped: int = 0

    def __len__(self) -> int:
        return self.last - self.first + 1


class Member(Struct, frozen=True):
    """A consumer as it claims: `shards` is the JSON list of those it reads."""

    group: int
    consumer: int
    shards: str
    lease_seconds: float


class Range(Struct, frozen=True):
    """A part of a claim that is settled in one way."""

    shard: int
    first: int
    last: int
    lease: int
    action: str
    seconds: float = 0.0


class Groups:
    """The groups of a bus. Safe to share between threads and processes."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._leases = itertools.count(int.from_bytes(os.urandom(7)))

    # -- groups

    def find(self, name: str) -> int:
        """Return the number of a group. Raises `GroupNotFound`."""
        rows = self._control.read("SELECT id FROM groups WHERE name = ?", (name,))
        if not rows:
            raise GroupNotFound(name)
        return int(rows[0][0])

    def bind(self, name: str, patterns: Iterable[str], starts: dict[int, int]) -> int:
        """Make the group collect from the patterns: on the shards of `starts` from there, on later ones from 0.

        A place that the group has already is kept. Return the number of the group.
        """
        with self._control.write(durable=True) as run:
            run("INSERT OR IGNORE INTO groups (name) VALUES (?)", (name,))
            ((group,),) = run("SELECT id FROM groups WHERE name = ?", (name,)).fetchall()
            for pattern in patterns:
                run("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (group, pattern))
            for shard, start in starts.items():
                run("INSERT OR IGNORE INTO cursors (group_id, shard, next) VALUES (?, ?, ?)", (group, shard, start))
        return int(group)

    def is_bound(self, name: str, patterns: Iterable[str]) -> bool:
        query = "SELECT pattern FROM bindings JOIN groups ON id = group_id WHERE name = ?"
        return {row[0] for row in self._control.read(query, (name,))} >= set(patterns)

    def bindings(self) -> dict[str, list[str]]:
        """Return the stored patterns of each group."""
        found: dict[str, list[str]] = {}
        query = "SELECT name, pattern FROM groups LEFT JOIN bindings ON id = group_id ORDER BY name, pattern"
        for name, pattern in self._control.read(query):
            found.setdefault(name, []).extend([pattern] if pattern is not None else [])
        return found

    def drop(self, name: str) -> None:
        group = self.find(name)
        with self._control.write(durable=True) as run:
            for table in ("bindings", "cursors", "pending", "consumers"):
                run(f"DELETE FROM {table} WHERE group_id = ?", (group,))
            run("DELETE FROM groups WHERE id = ?", (group,))

    def seek(self, name: str, starts: dict[int, int]) -> None:
        """Move the place of the group on these shards; what is held there becomes nobody's."""
        group = self.find(name)
        with self._control.write(durable=True) as run:
            for shard, start in starts.items():
                run("DELETE FROM pending WHERE group_id = ? AND shard = ?", (group, shard))
                run(
                    "INSERT INTO cursors (group_id, shard, next) VALUES (?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET next = excluded.next",
                    (group, shard, start),
                )

    def cursors(self, group: int) -> dict[int, int]:
        """Return the next offset to claim for each shard that has been claimed from or bound."""
        return dict(self._control.read("SELECT shard, next FROM cursors WHERE group_id = ?", (group,)))

    def describe(self, name: str, topic: str, ends: dict[int, int]) -> GroupInfo:
        """Return how the group stands on a topic whose shards end at `ends`."""
        group, shards = self.find(name), msgspec.json.encode(list(ends)).decode()
        among = "shard IN (SELECT value FROM json_each(?))"
        cursors = self._control.read(
            f"SELECT shard, next, skipped, rejected FROM cursors WHERE group_id = ? AND {among}", (group, shards)
        )
        counts = self._control.read(
            "SELECT coalesce(sum((last - first + 1) * (consumer IS NOT NULL)), 0), coalesce(sum(last - first + 1), 0) "
            f"FROM pending WHERE group_id = ? AND {among}",
            (group, shards),
        )
        held, pending = counts[0]
        places = {row[0]: row[1] for row in cursors}
        ahead = sum(max(0, end - places.get(shard, 0)) for shard, end in ends.items())
        skipped, rejected = sum(row[2] for row in cursors), sum(row[3] for row in cursors)
        consumers = self._consumers(group)
        return GroupInfo(name, topic, ahead + pending, held, pending - held, skipped, rejected, consumers)

    def _consumers(self, group: int) -> tuple[ConsumerInfo, ...]:
        query = (
            "SELECT name, pid, coalesce(sum(last - first + 1), 0) FROM consumers "
            "LEFT JOIN pending ON consumer = consumers.id WHERE consumers.group_id = ? GROUP BY consumers.id ORDER BY 1"
        )
        return tuple(ConsumerInfo(*row) for row in self._control.read(query, (group,)))

    # -- consumers

    def join(self, group: int, name: str, slot: int, pid: int) -> int:
        """Attach a consumer and return its number."""
        with self._control.write() as run:
            run("INSERT INTO consumers (group_id, name, slot, pid) VALUES (?, ?, ?, ?)", (group, name, slot, pid))
            return int(run("SELECT last_insert_rowid()").fetchall()[0][0])

    def leave(self, consumer: int, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Detach a consumer: what it holds is free at once, and the attempt does not count."""
        with self._control.write(wait) as run:
            self._free(run, consumer, 1)
            run("DELETE FROM consumers WHERE id = ?", (consumer,))

    @staticmethod
    def _free(run: Execute, consumer: int, attempts: int) -> None:
        run(
            "UPDATE pending SET consumer = NULL, lease = 0, due = 0, attempt = attempt - ? WHERE consumer = ?",
            (attempts, consumer),
        )

    def bury(self, is_dead: Callable[[int], bool]) -> bool:
        """Free what the consumers of dead processes held; the attempts count, since they may have crashed on it."""
        rows = self._control.read("SELECT id, slot FROM consumers")
        slots = {slot for slot in {slot for _, slot in rows} if is_dead(slot)}
        dead = [consumer for consumer, slot in rows if slot in slots]
        if dead:
            with self._control.write() as run:
                for consumer in dead:
                    self._free(run, consumer, 0)
                    run("DELETE FROM consumers WHERE id = ?", (consumer,))
        return bool(dead)

    def peers(self) -> set[int]:
        """Return the process numbers of all attached consumers."""
        return {row[0] for row in self._control.read("SELECT DISTINCT pid FROM consumers")}

    @staticmethod
    def forget_leases(run: Execute) -> None:
        """After a start of the machine: every consumer is dead, and the times of its clock mean nothing now."""
        run("UPDATE pending SET consumer = NULL, lease = 0, due = 0")
        run("DELETE FROM consumers")

    # -- deliveries

    def claim(self, who: Member, spans: dict[int, tuple[int, int]], limit: int, now: float, wait: float) -> list[Claim]:
        """Claim up to `limit` messages: what is due of the member's shards, then what is new on those in `spans`, each
        given with the offsets that its log holds. What retention removed before is counted as skipped."""
        with self._control.write(wait) as run:
            if not run("SELECT 1 FROM consumers WHERE id = ?", (who.consumer,)).fetchall():
                raise Closed("the consumer group was dropped, so this subscription to it has ended")
            claims = self._claim_due(run, who, limit, now)
            limit -= sum(map(len, claims))
            for shard, span in spans.items():
                if limit <= 0:
                    break
                claim = self._claim_new(run, who, shard, span, limit, now + who.lease_seconds)
                if claim is not None:
                    claims.append(claim)
                    limit -= len(claim)
        return claims

    def _claim_due(self, run: Execute, who: Member, limit: int, now: float) -> list[Claim]:
        claims: list[Claim] = []
        query = (
            f"SELECT {_ROW} FROM pending WHERE group_id = ? AND due <= ? AND shard IN (SELECT value FROM json_each(?)) "
        )
        rows = run(query + "ORDER BY shard, first LIMIT ?", (who.group, now, who.shards, min(limit, MAX_CLAIMS)))
        for row in rows.fetchall():
            if limit <= 0:
                break
            id, shard, first, last, attempt = row[:5]
            claim = Claim(shard, first, min(last, first + limit - 1), attempt + 1, next(self._leases))
            self._carve(run, who.group, row, first, claim.last)
            lease = "UPDATE pending SET consumer = ?, lease = ?, due = ?, attempt = ? WHERE id = ?"
            run(lease, (who.consumer, claim.lease, now + who.lease_seconds, claim.attempt, id))
            claims.append(claim)
            limit -= len(claim)
        return claims

    def _claim_new(
        self, run: Execute, who: Member, shard: int, span: tuple[int, int], limit: int, until: float
    ) -> Claim | None:
        row = run("SELECT next FROM cursors WHERE group_id = ? AND shard = ?", (who.group, shard)).fetchall()
        place = row[0][0] if row else 0
        first = max(place, span[0])
        last = min(span[1], first + limit) - 1
        if last < first:
            return None
        claim = Claim(shard, first, last, 1, next(self._leases), first - place)
        run(
            "INSERT INTO cursors (group_id, shard, next, skipped) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET next = excluded.next, skipped = skipped + excluded.skipped",
            (who.group, shard, last + 1, first - place),
        )
        self._insert(run, (who.group, shard, first, last, 1, until, who.consumer, claim.lease))
        return claim

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

    def settle(self, group: int, ranges: Sequence[Range], now: float, wait: float) -> list[tuple[int, int]]:
        """Settle ranges; return the (lease, offset) of messages that are no longer under their lease."""
        lost: list[tuple[int, int]] = []
        with self._control.write(wait) as run:
            for part in ranges:
                lost += self._settle(run, group, part, now)
        return lost

    def _settle(self, run: Execute, group: int, part: Range, now: float) -> list[tuple[int, int]]:
        query = (
            f"SELECT {_ROW} FROM pending WHERE group_id = ? AND shard = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        )
        lost, at = [], part.first
        while at <= part.last:
            rows = run(query, (group, part.shard, at)).fetchall()
            if not rows or rows[0][3] < at or rows[0][7] != part.lease:
                lost.append((part.lease, at))
                at += 1
                continue
            row = rows[0]
            last = min(row[3], part.last)
            self._carve(run, group, row, at, last)
            self._apply(run, row[0], part, now)
            if part.action in _COUNTED:
                column = _COUNTED[part.action]
                count = f"UPDATE cursors SET {column} = {column} + ? WHERE group_id = ? AND shard = ?"
                run(count, (last - at + 1, group, part.shard))
            at = last + 1
        return lost

    @staticmethod
    def _apply(run: Execute, id: int, part: Range, now: float) -> None:
        """The effect of an action on a whole row. To skip is to ack what retention removed."""
        if part.action == "ack" or part.action in _COUNTED:
            run("DELETE FROM pending WHERE id = ?", (id,))
        elif part.action == "extend":
            run("UPDATE pending SET due = ? WHERE id = ?", (now + part.seconds, id))
        else:
            due = now + part.seconds if part.seconds or part.action == "nack" else 0.0
            back = int(part.action == "release")
            query = "UPDATE pending SET consumer = NULL, lease = 0, due = ?, attempt = attempt - ? WHERE id = ?"
            run(query, (due, back, id))

    def renew(self, consumer: int, until: float, wait: float) -> None:
        """Let the leases of a consumer end no sooner than `until`."""
        with self._control.write(wait) as run:
            run("UPDATE pending SET due = max(due, ?) WHERE consumer = ?", (until, consumer))

    def next_due(self, group: int) -> float | None:
        """Return the (monotonic) time at which something becomes claimable again by itself."""
        due: float | None = self._control.read("SELECT min(due) FROM pending WHERE group_id = ?", (group,))[0][0]
        return due
