"""Messages on their way into a log: rows that commit together with acks, and are moved by `Pump` exactly once.

Whoever moves a row says so before: its slot, the shard, and the end of the log at that time. When it dies, whoever
comes next looks from there on whether the row is in the log already: its number travels with the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control.database import Control
from tidings.model.message import Record

Execute = Callable[..., Any]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode

_ROW = "id, topic, priority, record, due, shard, floor"


class Entry(Struct, kw_only=True):
    """A message to stage. `due`: not before, in seconds since the epoch. `mover` (a slot), `shard` and `floor` are set
    when it is to be moved at once by who stages it. `answers` is the (lease, offset) whose settlement it is part of."""

    topic: str
    record: Record
    priority: int
    due: float = 0.0
    mover: int | None = None
    shard: int | None = None
    floor: int | None = None
    answers: tuple[int, int] | None = None


class Staged(Struct, kw_only=True):
    """A staged row. `tried`: somebody has begun to move it, to `shard` from `floor` on."""

    id: int
    topic: str
    priority: int
    record: Record
    due: float
    shard: int | None
    floor: int | None
    tried: bool


class Outbox:
    """The staged messages of a bus. Safe to share between threads and processes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    @staticmethod
    def stage(run: Execute, entries: Iterable[Entry]) -> list[int]:
        """Add entries, as part of a transaction; return their numbers."""
        ids = []
        for e in entries:
            row = (e.topic, e.record.id, e.priority, _encode(e.record), e.due, e.mover, e.shard, e.floor)
            into = "INSERT INTO staged (topic, message_id, priority, record, due, mover, shard, floor) "
            run(into + "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            ids += [int(run("SELECT last_insert_rowid()").fetchall()[0][0])]
        return ids

    def add(self, entries: Sequence[Entry], wait: float, durable: bool) -> list[int]:
        """Add entries in a transaction of their own."""
        with self._control.write(wait, durable=durable) as run:
            return self.stage(run, entries)

    def add_once(self, entries: Sequence[Entry], wait: float, durable: bool) -> list[tuple[int, bool]]:
        """Add the entries whose ids do not wait for their time already; return their numbers, and whether they did."""
        query = "SELECT id FROM staged WHERE topic = ? AND message_id = ? AND due > 0 LIMIT 1"
        numbers = []
        with self._control.write(wait, durable=durable) as run:
            for entry in entries:
                known = run(query, (entry.topic, entry.record.id)).fetchall()
                numbers.append((known[0][0] if known else self.stage(run, [entry])[0], bool(known)))
        return numbers

    def next_due(self) -> float | None:
        """Return when the next one is due that nobody moves."""
        due: float | None = self._control.read("SELECT min(due) FROM staged WHERE mover IS NULL")[0][0]
        return due

    def due(self, now: float, limit: int) -> list[Staged]:
        """Return those that are due and that nobody moves, those due first at the front."""
        query = f"SELECT {_ROW} FROM staged WHERE mover IS NULL AND due <= ? ORDER BY due, id LIMIT ?"
        return [_read(row) for row in self._control.read(query, (now, limit))]

    def take(self, slot: int, rows: Sequence[Staged]) -> list[Staged]:
        """Say that this process moves these rows to their `shard`, from `floor` on; return those that nobody else
        took meanwhile. Durable: after a loss of power it must still be known where to look."""
        taken = []
        with self._control.write(durable=True) as run:
            for row in rows:
                free = "id = ? AND mover IS NULL AND (floor IS NOT NULL) = ?"
                place = (slot, row.shard, row.floor, row.id, row.tried)
                run(f"UPDATE staged SET mover = ?, shard = ?, floor = ? WHERE {free}", place)
                if run("SELECT changes()").fetchall() == [(1,)]:
                    taken.append(row)
        return taken

    def let_go(self, ids: Iterable[int], *, forget: bool = False) -> None:
        """Leave rows to whoever looks next. `forget` where they were to go: their topic was dropped."""
        change = "mover = NULL, shard = NULL, floor = NULL" if forget else "mover = NULL"
        with self._control.write() as run:
            for id in ids:
                run(f"UPDATE staged SET {change} WHERE id = ?", (id,))

    @staticmethod
    def remove(run: Execute, ids: Iterable[int]) -> None:
        """Forget rows that were moved, as part of a transaction."""
        for id in ids:
            run("DELETE FROM staged WHERE id = ?", (id,))

    def finish(self, ids: Iterable[int]) -> None:
        """Forget rows that were moved."""
        with self._control.write() as run:
            self.remove(run, ids)

    def cancel(self, id: int, topic: str, message_id: str) -> bool:
        """Take back a message that nobody has begun to move."""
        with self._control.write(durable=True) as run:
            query = "SELECT record FROM staged WHERE id = ? AND topic = ? AND mover IS NULL AND floor IS NULL"
            rows = run(query, (id, topic)).fetchall()
            if not rows or _decode(rows[0][0]).id != message_id:
                return False
            run("DELETE FROM staged WHERE id = ?", (id,))
        return True

    def scheduled(self, topic: str) -> int:
        """Return how many messages of a topic wait for their time."""
        return int(self._control.read("SELECT count(*) FROM staged WHERE topic = ? AND due > 0", (topic,))[0][0])


def _read(row: tuple[Any, ...]) -> Staged:
    id, topic, priority, record, due, shard, floor = row
    return Staged(
        id=id,
        topic=topic,
        priority=priority,
        record=_decode(record),
        due=due,
        shard=shard,
        floor=floor,
        tried=floor is not None,
    )
