"""Which message ids a log has had lately: an index derived from the log, which stays the truth.

A small SQLite file beside the segments, used by the holder of the shard's lock only. It is caught up with the log
before it is asked, so it may lag, be lost or be deleted at any time. Nothing in it is ever synced: after a start of the
machine it is made anew from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import msgspec

from tidings.engines.embedded.disk.place import boot_id
from tidings.engines.embedded.log.frame import Batch
from tidings.errors import DamagedData, PublishFailed
from tidings.model.message import Record

BUSY_MS = 1000
"""How long to wait for another process that has the file for itself: it does only while it closes it, which takes
milliseconds, and is outside the shard's lock."""

FORGET_ROWS = 2000
"""Old ids removed each time that new ones are added: more than come in with one append usually, so it keeps up."""

Row = tuple[str, int, int]
"""An id with its offset and its time, in nanoseconds since the epoch."""

Start = Callable[[int], int]
"""Returns the offset of the first message since a time."""

_DDL = """
CREATE TABLE about (boot TEXT NOT NULL, next INTEGER NOT NULL) STRICT;
CREATE TABLE seen (id TEXT PRIMARY KEY, offset INTEGER NOT NULL, time_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seen_age ON seen (time_ns);
"""


class Seen:
    """The ids of one log. `path` None: in memory. Not safe to share: its log has a lock."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._latest: tuple[int, Sequence[Row]] | None = None
        self._since = 0

    def find(
        self, records: Sequence[Record], since: int, end: int, read: Callable[[int], list[Batch]], start: Start
    ) -> dict[str, int]:
        """Return the offsets of those ids that the log, which ends at `end`, has had since then (in nanoseconds since
        the epoch). What is not known yet is read before; a new index begins at `start(since)`."""
        try:
            self._catch_up(end, read, lambda: start(since))
            ids = msgspec.json.encode([record.id for record in records]).decode()
            query = "SELECT id, offset FROM seen WHERE id IN (SELECT value FROM json_each(?)) AND time_ns >= ?"
            rows: list[Any] = self._open().execute(query, (ids, since)).fetchall()
            return dict(rows)
        except apsw.Error as error:
            self._discard()
            raise PublishFailed(f"{self._path}: {error}; nothing of this call was stored, try again") from error

    def _catch_up(self, end: int, read: Callable[[int], list[Batch]], start: Callable[[], int]) -> None:
        at = self._place(start)
        if self._latest is not None and self._latest[0] == at and at + len(self._latest[1]) == end:
            self._learn(self._latest[1], end)
        elif at < end:
            for batches in _chunks(read, at, end):
                self._learn(_rows(batches), batches[-1].end)
        self._latest = None

    def remember(self, base: int, time_ns: int, records: Sequence[Record], since: int) -> None:
        """Keep in mind what was appended: it is learned with the next one, without reading it again."""
        rows = [(record.id, offset, time_ns) for offset, record in enumerate(records, base)]
        self._latest, self._since = (base, rows), since

    def _learn(self, rows: Iterable[Row], end: int) -> None:
        connection = self._open()
        with connection:
            connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)
            old = "SELECT id FROM seen WHERE time_ns < ? ORDER BY time_ns LIMIT ?"
            connection.execute(f"DELETE FROM seen WHERE id IN ({old})", (self._since, FORGET_ROWS))
            connection.execute("UPDATE about SET next = ?", (end,))

    def _place(self, start: Callable[[], int]) -> int:
        """Return the offset up to which the index knows the log. Others may have brought it on."""
        rows: list[Any] = self._open().execute("SELECT next FROM about").fetchall()
        if rows:
            return int(rows[0][0])
        at = start()
        self._open().execute("INSERT INTO about VALUES (?, ?)", (boot_id(), at))
        return at

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(":memory:" if self._path is None else str(self._path))
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF").fetchall()
        if connection.execute("PRAGMA user_version").fetchall() == [(0,)]:
            connection.execute(f"BEGIN; {_DDL} PRAGMA user_version=1; COMMIT")
        elif connection.execute("SELECT 1 FROM about WHERE boot <> ?", (boot_id(),)).fetchall():
            connection.execute("DELETE FROM seen; DELETE FROM about")
        return connection

    def _discard(self) -> None:
        """Something is wrong with the file: it is made anew from the log."""
        self.close()
        if self._path is not None:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self._path.with_name(self._path.name + suffix).unlink()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _chunks(read: Callable[[int], list[Batch]], at: int, end: int) -> Iterable[list[Batch]]:
    """Read a log from offset `at` up to `end`, stepping over what is damaged."""
    while at < end:
        try:
            batches = read(at)
        except DamagedData as damage:
            if damage.resume_offset is None or damage.resume_offset <= at:
                return
            at = damage.resume_offset
            continue
        if not batches:
            return
        yield batches
        at = batches[-1].end


def _rows(batches: Iterable[Batch]) -> Iterable[Row]:
    for batch in batches:
        for offset, record in enumerate(batch.records, batch.base):
            yield record.id, offset, batch.time_ns


def place_once(
    known: dict[str, int], records: Sequence[Record], base: int
) -> tuple[list[tuple[int, bool]], list[Record]]:
    """Return the offset of each record, with whether it is a repetition, and those that are to be appended at `base`.

    An id that occurs twice among the records is a repetition, too.
    """
    places = dict(known)
    placed: list[tuple[int, bool]] = []
    fresh: list[Record] = []
    for record in records:
        offset = places.get(record.id)
        placed.append((base + len(fresh) if offset is None else offset, offset is not None))
        if offset is None:
            places[record.id] = base + len(fresh)
            fresh.append(record)
    return placed, fresh
