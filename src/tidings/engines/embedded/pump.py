"""Moves staged messages into their logs, exactly once; done by whoever waits for messages, when one is due.

A row is taken (durably, with the shard and the end of its log at that time), appended with its number in the record,
and removed once the log is as durable as the row was. Whoever finds a row whose mover died looks for the number in the
log from that end on: it is there, or it never will be.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from tidings.engines.embedded.catalog import Log, Shard
from tidings.engines.embedded.control.outbox import Entry, Outbox, Staged
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, WouldBlock
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.errors import EngineError, TidingsError
from tidings.model.clock import Clock
from tidings.model.message import Record
from tidings.spi import Output

MOVE_ROWS = 500
"""Rows moved at once: as many messages as a usual batch."""

FINISH_ROWS = 64
"""Rows of committed transactions that are in their logs and not yet removed: one sync then serves for all of them."""

STAGED = "staged"
"""Where the record of a moved message keeps its number, in `extra`."""


Moved = tuple[int, Log, Point]
"""A row that is in its log, up to this point."""


class Yard(Protocol):
    """What the pump needs of the bus."""

    clock: Clock
    outbox: Outbox

    def slot(self) -> int: ...

    def admit(self, name: str, records: Sequence[Record]) -> None: ...

    def make_room(self, name: str, count: int) -> None: ...

    def destination(self, topic: str, record: Record, priority: int) -> Shard: ...

    def find_shard(self, topic: str, number: int | None) -> Shard | None: ...

    def store(self, shard: Shard, records: Sequence[Record], wait: float) -> tuple[Log, Point]: ...


class Pump:
    """The moving of one bus in one process. Safe to share between threads. `due` is the (monotonic) time at which to
    look again: when the next message is due, and in any case after `LOOK_SECONDS`, since others stage messages, too."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._turn = threading.Lock()
        self._mutex = threading.Lock()
        self._moved: list[Moved] = []
        self._stuck: list[int] = []
        self.due = 0.0

    def hurry(self) -> None:
        """Look at once: something was staged."""
        self.due = 0.0

    def run(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Move what is due. With `wait` 0 it raises `WouldBlock` when there is something to move."""
        yard = self._yard
        now, wall = yard.clock.monotonic(), yard.clock.now()
        due = yard.outbox.next_due()
        ahead = LOOK_SECONDS if due is None else min(max(due - wall, 0.0), LOOK_SECONDS)
        if ahead > 0 and not self._moved and not self._stuck:
            self.due = now + ahead
            return
        if wait <= 0:
            raise WouldBlock
        if self._turn.acquire(timeout=wait):  # what another thread moves just now is to be seen, too
            try:
                self._run(wall)
            finally:
                self._turn.release()

    def _run(self, wall: float) -> None:
        try:
            with self._mutex:
                stuck, self._stuck = self._stuck, []
            if stuck:
                self._let_go(stuck)
            self.finish()
            moved = True
            while moved and (rows := self._yard.outbox.due(wall, MOVE_ROWS)):
                moved = self._move(rows)
            self._look_again(wall, moved)
        except (EngineError, OSError, LogGone):  # a full disk, a lock, a drop: whoever looks next tries again
            self.due = self._yard.clock.monotonic() + LOOK_SECONDS

    def _look_again(self, wall: float, moved: bool) -> None:
        """Note when to look again: what could not be moved now is tried now and then."""
        due = self._yard.outbox.next_due() if moved else None
        ahead = LOOK_SECONDS if due is None else min(max(due - wall, 0.001), LOOK_SECONDS)
        self.due = self._yard.clock.monotonic() + ahead

    def _move(self, rows: Sequence[Staged]) -> bool:
        """Take rows and move them; return whether there were any to take. One whose topic cannot be written to does not
        keep the others."""
        shards: dict[int, Shard] = {}
        ready = []
        for row in rows:
            try:
                shard = self._aim(row)
            except (TidingsError, OSError, LogGone):
                continue
            shards[shard.id] = shard
            ready.append(row)
        taken = self._yard.outbox.take(self._yard.slot(), ready) if ready else []
        self.move(taken, shards)
        self.finish()
        return bool(taken)

    def _aim(self, row: Staged) -> Shard:
        """Find the shard that a row goes to, and note from where on it may be there already."""
        yard = self._yard
        shard = yard.find_shard(row.topic, row.shard) if row.tried else None
        if shard is not None:  # the log may have lost its end with the power
            row.floor = min(row.floor or 0, shard.log.end())
            return shard
        if row.tried:  # its topic was dropped meanwhile
            yard.outbox.let_go([row.id], forget=True)
        shard = yard.destination(row.topic, row.record, row.priority)
        row.tried, row.shard, row.floor = False, shard.id, shard.log.end()
        return shard

    def prepare(self, outputs: Sequence[Output], shards: dict[int, Shard]) -> list[Entry]:
        """Return the entries of outputs: those due now are to be moved by this process, to the shards given back."""
        yard = self._yard
        entries = []
        for topic, count in Counter(output.topic for output in outputs).items():
            yard.make_room(topic, count)
        for output in outputs:
            options = output.options
            yard.admit(output.topic, (output.record,))
            entry = Entry(topic=output.topic, record=output.record, priority=options.priority)
            if options.deliver_at is not None:
                entry.due = options.deliver_at
            else:
                shard = yard.destination(output.topic, output.record, options.priority)
                shards[shard.id] = shard
                entry.mover, entry.shard, entry.floor = yard.slot(), shard.id, shard.log.end()
            entries.append(entry)
        return entries

    def move_own(self, ids: Sequence[int], entries: Sequence[Entry], shards: Mapping[int, Shard]) -> None:
        """Move what this process has just committed. If that fails it is moved later: it is committed."""
        rows = [
            Staged(
                id=id,
                topic=entry.topic,
                priority=entry.priority,
                record=entry.record,
                due=entry.due,
                shard=entry.shard,
                floor=entry.floor,
                tried=False,
            )
            for id, entry in zip(ids, entries, strict=True)
            if entry.mover is not None
        ]
        try:
            self.move(rows, shards)
        except (EngineError, OSError, LogGone):
            self.hurry()

    def move(self, rows: Sequence[Staged], shards: Mapping[int, Shard]) -> None:
        """Append rows that this process has taken, unless they are in the log already. What cannot be moved is left to
        whoever looks next, and the error is raised when the others are moved."""
        failure: Exception | None = None
        waiting = _by_shard(rows)
        try:
            while waiting:
                number, of = next(iter(waiting.items()))
                try:
                    self._move_to(shards[number], of)
                except LogGone:
                    self._let_go([row.id for row in of], forget=True)
                except Exception as error:
                    failure = error
                    self._let_go([row.id for row in of])
                del waiting[number]
        finally:
            if waiting:
                self._let_go([row.id for of in waiting.values() for row in of])
        if failure is not None:
            raise failure

    def _move_to(self, shard: Shard, rows: Sequence[Staged]) -> None:
        there = _numbers(shard.log, [row for row in rows if row.tried])
        records = [_numbered(row) for row in rows if row.id not in there]
        if records:
            log, point = self._yard.store(shard, records, LOCK_WAIT_SECONDS)
        else:
            log, point = shard.log, shard.log.point()
        self._note([(row.id, log, point) for row in rows])

    def _let_go(self, ids: Sequence[int], *, forget: bool = False) -> None:
        """Leave rows to whoever looks next; if that fails, it is tried again with the next run."""
        try:
            self._yard.outbox.let_go(ids, forget=forget)
        except EngineError:
            with self._mutex:
                self._stuck += ids

    def finish(self) -> None:
        """Remove what was moved, as far as the logs are durable."""
        moved = self._take_moved(1)
        if moved:
            try:
                self._yard.outbox.finish(id for id, _, _ in moved)
            except BaseException:
                self._note(moved)
                raise

    def collect(self) -> list[Moved]:
        """Return what is in its log, durably, for the caller to remove in its own transaction; nothing as long as it
        is too little to be worth a sync."""
        return self._take_moved(FINISH_ROWS)

    def put_back(self, moved: list[Moved]) -> None:
        """The caller of `collect` could not remove it."""
        self._note(moved)

    def _note(self, moved: list[Moved]) -> None:
        with self._mutex:
            self._moved += moved

    def _take_moved(self, least: int) -> list[Moved]:
        """Take what was moved, if there is at least so much; keep what could not be made durable."""
        with self._mutex:
            if len(self._moved) < least:
                return []
            moved, self._moved = self._moved, []
        unsafe = _unsafe(moved)
        if unsafe:
            self._note([each for each in moved if id(each[1]) in unsafe])
        return [each for each in moved if id(each[1]) not in unsafe]


def _unsafe(moved: Iterable[Moved]) -> set[int]:
    """Make the logs durable; return (the ids of) those where that failed. A log that is gone needs no more."""
    furthest: dict[int, tuple[Log, Point]] = {}
    for _, log, point in moved:
        if point > furthest.get(id(log), (log, (-1, -1)))[1]:
            furthest[id(log)] = (log, point)
    return {number for number, (log, point) in furthest.items() if not _is_safe(log, point)}


def _is_safe(log: Log, point: Point) -> bool:
    try:
        try:
            log.sync(point)
        except EngineError:
            log.secure()
    except LogGone:
        return True
    except (EngineError, OSError):
        return False
    return True


def _by_shard(rows: Iterable[Staged]) -> dict[int, list[Staged]]:
    found: dict[int, list[Staged]] = {}
    for row in rows:
        assert row.shard is not None
        found.setdefault(row.shard, []).append(row)
    return found


def _numbered(row: Staged) -> Record:
    record = row.record
    record.extra = {**(record.extra or {}), STAGED: row.id}
    return record


def _numbers(log: Log, rows: Sequence[Staged]) -> set[int]:
    """Return which of these rows are in the log."""
    wanted = {row.id for row in rows}
    found: set[int] = set()
    at = min((row.floor or 0 for row in rows), default=0)
    while wanted - found and (batches := log.read(at)):
        for batch in batches if wanted else ():
            found.update(r.extra[STAGED] for r in batch.records if r.extra and r.extra.get(STAGED) in wanted)
        at = batches[-1].end
    return found
