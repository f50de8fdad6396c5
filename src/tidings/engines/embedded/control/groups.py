"""The consumer groups of a bus: what they collect from, and how far each is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control.database import Control
from tidings.errors import GroupNotFound
from tidings.model.subscription import check_filter
from tidings.model.topics import Pattern

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate

_COUNTS = ("acked", "dead", "expired", "skipped", "filtered", "redelivered", "failed")


class Group(Struct, frozen=True):
    """One group, what it collects from and what its messages have to match."""

    id: int
    name: str
    patterns: tuple[Pattern, ...]
    filter: Predicate | None

    def collects(self, topic: str) -> bool:
        return any(pattern.matches(topic) for pattern in self.patterns)


class Standing(Struct, frozen=True, kw_only=True):
    """How a group stands on some shards. `oldest` is the (shard, offset) of what it has not settled, per shard; the
    rates are per second, over the time since a mark that is one to two `MARK_SECONDS` back."""

    lag: int
    held: int
    retrying: int
    counts: dict[str, int]
    oldest: dict[int, int]
    ack_rate: float
    fail_rate: float


class Groups:
    """The groups of a bus. Safe to share between threads and processes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def find(self, name: str) -> int:
        """Return the number of a group. Raises `GroupNotFound`."""
        return self._row(name)[0]

    def filter(self, name: str) -> Predicate | None:
        """Return what the messages of a group have to match, None: nothing. Raises `GroupNotFound`."""
        return _read_filter(self._row(name)[1])

    def _row(self, name: str) -> tuple[int, str | None]:
        rows = self._control.read("SELECT id, filter FROM groups WHERE name = ?", (name,))
        if not rows:
            raise GroupNotFound(name)
        id, stored = rows[0]
        return id, stored

    def bind(
        self, name: str, patterns: Iterable[str], starts: dict[int, int], now: float, filter: Predicate | None = None
    ) -> int:
        """Make the group collect from the patterns what the filter matches: on the shards of `starts` from there, on
        later ones from 0. A place that the group has already is kept, and so is its filter. Return the number of the
        group. Raises `GroupExists` when it has another filter."""
        with self._control.write(durable=True) as run:
            new = (name, None if filter is None else filter.stored())
            run("INSERT OR IGNORE INTO groups (name, filter) VALUES (?, ?)", new)
            ((group, stored),) = run("SELECT id, filter FROM groups WHERE name = ?", (name,)).fetchall()
            check_filter(name, _read_filter(stored), filter)
            for pattern in patterns:
                run("INSERT OR IGNORE INTO bindings VALUES (?, ?)", (group, pattern))
            for shard, start in starts.items():
                query = "INSERT OR IGNORE INTO cursors (group_id, shard, next, marked, past) VALUES (?, ?, ?, ?, ?)"
                run(query, (group, shard, start, now, now))
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

    def all(self) -> list[Group]:
        """Return the groups, sorted by name."""
        query = (
            "SELECT id, name, filter, json_group_array(pattern) FILTER (WHERE pattern IS NOT NULL) "
            "FROM groups LEFT JOIN bindings ON id = group_id GROUP BY id ORDER BY name"
        )
        return [
            Group(id, name, tuple(map(Pattern.from_stored, sorted(msgspec.json.decode(stored)))), _read_filter(filter))
            for id, name, filter, stored in self._control.read(query)
        ]

    def drop(self, name: str) -> None:
        group = self.find(name)
        with self._control.write(durable=True) as run:
            for table in ("bindings", "cursors", "pending", "consumers", "assignments"):
                run(f"DELETE FROM {table} WHERE group_id = ?", (group,))
            run("DELETE FROM groups WHERE id = ?", (group,))

    def seek(self, name: str, starts: dict[int, int], now: float) -> None:
        """Move the place of the group on these shards; what is held there becomes nobody's."""
        group = self.find(name)
        with self._control.write(durable=True) as run:
            for shard, start in starts.items():
                run("DELETE FROM pending WHERE group_id = ? AND shard = ?", (group, shard))
                run(
                    "INSERT INTO cursors (group_id, shard, next, marked, past) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET next = excluded.next",
                    (group, shard, start, now, now),
                )

    def cursors(self, group: int) -> dict[int, int]:
        """Return the next offset to claim for each shard that has been claimed from or bound."""
        return dict(self._control.read("SELECT shard, next FROM cursors WHERE group_id = ?", (group,)))

    def drop_oldest(self, group: int, shard: int, count: int, end: int, now: float) -> int:
        """Let the group skip up to `count` of the messages before `end` that it has not claimed; return how many."""
        with self._control.write() as run:
            rows = run("SELECT next FROM cursors WHERE group_id = ? AND shard = ?", (group, shard)).fetchall()
            place = rows[0][0] if rows else 0
            dropped = max(0, min(count, end - place))
            run(
                "INSERT INTO cursors (group_id, shard, next, skipped, marked, past) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET next = excluded.next, skipped = skipped + excluded.skipped",
                (group, shard, place + dropped, dropped, now, now),
            )
        return dropped

    def standing(self, group: int, ends: dict[int, int], now: float) -> Standing:
        """Return how the group stands on shards that end at `ends`."""
        shards = msgspec.json.encode(list(ends)).decode()
        where = "WHERE group_id = ? AND shard IN (SELECT value FROM json_each(?))"
        cursors = self._control.read(
            f"SELECT shard, next, acked - acked_past, failed - failed_past, past, {', '.join(_COUNTS)} "
            f"FROM cursors {where}",
            (group, shards),
        )
        pending = self._control.read(
            "SELECT shard, min(first), sum(last - first + 1), sum((last - first + 1) * (consumer IS NOT NULL)) "
            f"FROM pending {where} GROUP BY shard",
            (group, shards),
        )
        places = {row[0]: row[1] for row in cursors}
        oldest = {shard: places.get(shard, 0) for shard, end in ends.items() if places.get(shard, 0) < end}
        ahead = sum(ends[shard] - place for shard, place in oldest.items())
        oldest.update((row[0], row[1]) for row in pending)
        waiting, held = sum(row[2] for row in pending), sum(row[3] for row in pending)
        return Standing(
            lag=ahead + waiting,
            held=held,
            retrying=waiting - held,
            counts={name: sum(row[at] for row in cursors) for at, name in enumerate(_COUNTS, 5)},
            oldest=oldest,
            ack_rate=sum(_rate(row[2], row[4], now) for row in cursors),
            fail_rate=sum(_rate(row[3], row[4], now) for row in cursors),
        )


def _read_filter(stored: str | None) -> Predicate | None:
    if stored is None:
        return None
    from tidings.model.predicate import Predicate  # slow to load, and most groups have none

    return Predicate.from_stored(stored)


def _rate(count: int, since: float, now: float) -> float:
    return count / (now - since) if now > since else 0.0
