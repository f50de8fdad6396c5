"""Who is attached: the subscriptions of all processes, and what is to be done when one of these dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.errors import InvalidOption, TooManySubscribers
from tidings.model.topics import Pattern
from tidings.spi import ConsumerInfo

Execute = Callable[..., Any]


class Applicant(Struct, frozen=True, kw_only=True):
    """A subscription that is to be attached. `since` is wall time, `until` monotonic: when it counts as stopped.
    `rides`: it has read everything as long as it tells of no place."""

    group: int | None
    name: str
    slot: int
    pid: int
    patterns: tuple[str, ...]
    ordering: bool
    since: float
    until: float
    rides: bool = False


class Attached(Struct, frozen=True):
    """An attached subscription: `since` and `last`, when it came and when it got a message, are wall times; `places`
    is how far a temporary one has read; of other shards it has read everything if it `rides`, else nothing."""

    name: str
    group: str | None
    pid: int
    since: float
    last: float | None
    patterns: tuple[Pattern, ...]
    places: dict[int, int]
    rides: bool

    def reads(self, topic: str) -> bool:
        return any(pattern.matches(topic) for pattern in self.patterns)


_SLOTS = (
    "WITH RECURSIVE taken(slot) AS (SELECT min(slot) FROM consumers "
    "UNION ALL SELECT (SELECT min(slot) FROM consumers WHERE slot > taken.slot) FROM taken WHERE slot IS NOT NULL) "
    "SELECT slot FROM taken WHERE slot IS NOT NULL"
)
"""The different slots, from one to the next in the index: a process with ten thousand subscriptions has one."""


class Members:
    """The attached subscriptions of a bus. Safe to share between threads and processes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def join(self, who: Applicant, limits: Mapping[str, int]) -> int:
        """Attach a subscription and return its number. `limits`: how many subscribers some of its topics may have.

        Raises `TooManySubscribers`, and `InvalidOption` when the group is consumed otherwise.
        """
        with self._control.write() as run:
            _check_limits(run, limits)
            _check_order(run, who)
            run(
                "INSERT INTO consumers (group_id, name, slot, pid, patterns, ordering, since, until, rides) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    who.group,
                    who.name,
                    who.slot,
                    who.pid,
                    msgspec.json.encode(who.patterns).decode(),
                    int(who.ordering),
                    who.since,
                    who.until,
                    int(who.rides),
                ),
            )
            return int(run("SELECT last_insert_rowid()").fetchall()[0][0])

    def check(self, limits: Mapping[str, int]) -> None:
        """Raise `TooManySubscribers` when one more would be too many."""
        if limits:
            with self._control.write() as run:
                _check_limits(run, limits)

    def leave(self, consumer: int, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Detach a consumer: what it holds is free at once, and the attempt does not count."""
        with self._control.write(wait) as run:
            _free(run, consumer, 1)

    def bury(self, is_dead: Callable[[int], bool]) -> bool:
        """Free what the subscriptions of dead processes held; the attempts count, since they may have crashed on it.
        Messages that such a process was moving are left to others. Return whether there was something."""
        slots = {row[0] for row in self._control.read(_SLOTS)}
        movers = self._control.read("SELECT DISTINCT mover FROM staged WHERE mover IS NOT NULL")
        slots = {slot for slot in slots | {row[0] for row in movers} if is_dead(slot)}
        if slots:
            with self._control.write() as run:
                slots = {slot for slot in slots if is_dead(slot)}  # nobody has taken it over meanwhile
                for slot in slots:
                    for (consumer,) in run("SELECT id FROM consumers WHERE slot = ?", (slot,)).fetchall():
                        _free(run, consumer, 0)
                    run("UPDATE staged SET mover = NULL WHERE mover = ?", (slot,))
        return bool(slots)

    def peers(self) -> set[int]:
        """Return the process numbers of all attached subscriptions of groups."""
        return {row[0] for row in self._control.read("SELECT DISTINCT pid FROM consumers WHERE group_id IS NOT NULL")}

    @staticmethod
    def forget(run: Execute) -> None:
        """After a start of the machine: everybody is dead, and the times of its clock mean nothing now."""
        run("UPDATE pending SET consumer = NULL, lease = 0, due = 0")
        run("DELETE FROM consumers; DELETE FROM places; DELETE FROM assignments; UPDATE staged SET mover = NULL")
        run("UPDATE cursors SET acked_mark = acked, failed_mark = failed, marked = 0")
        run("UPDATE cursors SET acked_past = acked, failed_past = failed, past = 0")

    def consumers(self, group: int) -> tuple[ConsumerInfo, ...]:
        """Return the attached consumers of a group."""
        query = (
            "SELECT name, pid, coalesce(sum(last - first + 1), 0) FROM consumers "
            "LEFT JOIN pending ON consumer = consumers.id WHERE consumers.group_id = ? GROUP BY consumers.id ORDER BY 1"
        )
        return tuple(ConsumerInfo(*row) for row in self._control.read(query, (group,)))

    def subscribers(self) -> list[Attached]:
        """Return the attached subscriptions, the oldest first."""
        places: dict[int, dict[int, int]] = {}
        for consumer, shard, place in self._control.read("SELECT consumer, shard, next FROM places"):
            places.setdefault(consumer, {})[shard] = place
        query = (
            "SELECT consumers.name, groups.name, pid, since, got, patterns, consumers.id, rides FROM consumers "
            "LEFT JOIN groups ON groups.id = group_id ORDER BY consumers.id"
        )
        return [
            Attached(name, group, pid, since, last, _patterns(stored), places.get(consumer, {}), bool(rides))
            for name, group, pid, since, last, stored, consumer, rides in self._control.read(query)
        ]

    def tell(self, consumer: int, last: float | None, places: Mapping[int, int], wait: float) -> None:
        """Write down how far a subscription is, for statistics: when it got a message, and its places that moved."""
        with self._control.write(wait) as run:
            run("UPDATE consumers SET got = ? WHERE id = ?", (last, consumer))
            attached = "SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM consumers WHERE id = ?)"
            for shard, place in places.items():
                run(f"INSERT OR REPLACE INTO places {attached}", (consumer, shard, place, consumer))


def _free(run: Execute, consumer: int, attempts: int) -> None:
    run(
        "UPDATE pending SET consumer = NULL, lease = 0, due = 0, attempt = attempt - ? WHERE consumer = ?",
        (attempts, consumer),
    )
    run("DELETE FROM assignments WHERE consumer = ?", (consumer,))
    run("DELETE FROM places WHERE consumer = ?", (consumer,))
    run("DELETE FROM consumers WHERE id = ?", (consumer,))


def _check_limits(run: Execute, limits: Mapping[str, int]) -> None:
    if limits:
        patterns = [row[0] for row in run("SELECT patterns FROM consumers").fetchall()]
        for topic, limit in limits.items():
            if sum(_reads(stored, topic) for stored in patterns) >= limit:
                raise TooManySubscribers(topic, limit)


def _check_order(run: Execute, who: Applicant) -> None:
    other = "SELECT 1 FROM consumers WHERE group_id = ? AND ordering <> ? LIMIT 1"
    if who.group is not None and run(other, (who.group, int(who.ordering))).fetchall():
        raise InvalidOption("ordering", who.ordering, "the group has consumers attached that say otherwise")


def _patterns(stored: str) -> tuple[Pattern, ...]:
    return tuple(map(Pattern.from_stored, msgspec.json.decode(stored, type=list[str])))


def _reads(stored: str, topic: str) -> bool:
    return any(pattern.matches(topic) for pattern in _patterns(stored))
