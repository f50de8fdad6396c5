"""The log of one shard in the memory of this process: the same operations as `FileLog`, without files."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.log.frame import Batch, has_extra
from tidings.engines.embedded.log.seen import Seen, place_once
from tidings.engines.embedded.log.segments import LogGone, LogLimits
from tidings.engines.embedded.log.stamps import Stamps
from tidings.engines.embedded.log.syncing import Point
from tidings.model.compression import Compression
from tidings.model.message import Record, StoredRecord

READ_BATCHES = 1000
"""Batches handed out by one read, so that a reader far behind does not copy the whole log."""


class MemoryLog:
    """One shard's log. Safe to share between threads. Trims batch by batch instead of segment by segment."""

    def __init__(self, limits: LogLimits, stamps: Stamps) -> None:
        self._limits = limits
        self._stamps = stamps
        self._mutex = threading.RLock()
        self._batches: list[Batch] = []
        self._bases: list[int] = []
        self._first = 0
        self._next = 0
        self._bytes = 0
        self._gone = False
        self._seen = Seen(None)

    def append(
        self, records: Sequence[Record], wait: float = LOCK_WAIT_SECONDS, compression: Compression | None = None
    ) -> tuple[int, Point]:
        """Append the records; return the first offset, and a point for `sync`. Memory is not compressed."""
        stored = [StoredRecord(r.id, r.content_type, r.data, r.key, r.headers, r.extra) for r in records]
        size = sum([len(record.data) for record in stored])
        with self._mutex:
            self._check()
            base, now_ns = self._next, self._stamps.now_ns()
            last_ns = self._batches[-1].time_ns if self._batches else 0
            self._batches.append(Batch(base, max(now_ns, last_ns), stored, has_extra(stored)))
            self._bases.append(base)
            self._next += len(stored)
            self._bytes += size
            if self._is_surplus(now_ns):
                self._trim(now_ns)
            return base, (0, self._next)

    def append_once(
        self, records: Sequence[Record], window: float, wait: float, compression: Compression | None = None
    ) -> tuple[list[tuple[int, bool]], Point]:
        """Append those records whose ids the log has not had for `window` seconds; see `FileLog.append_once`."""
        since = self._stamps.now_ns() - int(window * 1e9)
        with self._mutex:
            self._check()
            end = self._next
            known = self._seen.find(records, since, end, self.read, self.find_time)
            placed, fresh = place_once(known, records, end)
            if fresh:
                base = self.append(fresh)[0]
                self._seen.remember(base, self._batches[-1].time_ns, fresh, since)
            return placed, (0, self._next)

    def _check(self) -> None:
        if self._gone:
            raise LogGone

    def sync(self, point: Point) -> None:
        """Return at once: memory is as durable as it gets."""

    def secure(self) -> None:
        """Return at once, likewise."""

    def end(self) -> int:
        self._check()
        return self._next

    def point(self) -> Point:
        """Return the point at which the log ends now."""
        return 0, self._next

    def span(self) -> tuple[int, int]:
        """Return the first offset and the next one."""
        return self.extent()[:2]

    def read(self, offset: int) -> list[Batch]:
        """Return the next batches that hold `offset` or more; the first may begin before or (trimmed) after it."""
        with self._mutex:
            self._check()
            if offset >= self._next:
                return []
            at = max(self._first, bisect_right(self._bases, offset) - 1)
            return self._batches[at : at + READ_BATCHES]

    def find_time(self, time_ns: int) -> int:
        """Return the offset of the first message published at `time_ns` (since the epoch) or later."""
        with self._mutex:
            at = bisect_left(self._batches, time_ns, self._first, key=lambda batch: batch.time_ns)
            return self._bases[at] if at < len(self._bases) else self._next

    def extent(self) -> tuple[int, int, int]:
        """Return the first offset, the next offset and the bytes of the data."""
        with self._mutex:
            self._check()
            first = self._bases[self._first] if self._first < len(self._bases) else self._next
            return first, self._next, self._bytes

    def trim(self) -> None:
        """Remove what the retention limits no longer keep."""
        with self._mutex:
            self._trim(self._stamps.now_ns())

    def _is_surplus(self, now_ns: int) -> bool:
        limits, batches, first = self._limits, self._batches, self._first
        if len(batches) - first < 2:
            return False
        if limits.keep_messages is not None and self._next - batches[first + 1].base >= limits.keep_messages:
            return True
        if limits.keep_bytes is not None and self._bytes - _size(batches[first]) >= limits.keep_bytes:
            return True
        return limits.keep_seconds is not None and now_ns - batches[first].time_ns > limits.keep_seconds * 1e9

    def _trim(self, now_ns: int) -> None:
        """Forget the surplus; the lists are shortened when half of them is forgotten, as moving them costs."""
        while self._is_surplus(now_ns):
            self._bytes -= _size(self._batches[self._first])
            self._batches[self._first] = Batch(self._bases[self._first], 0, ())
            self._first += 1
        if self._first > len(self._batches) // 2:
            del self._batches[: self._first]
            del self._bases[: self._first]
            self._first = 0

    def limit(self, limits: LogLimits) -> None:
        """Keep other limits from now on."""
        self._limits = limits

    def drop(self) -> None:
        with self._mutex:
            self._gone = True
            self._batches.clear()
            self._bases.clear()

    def close(self) -> bool:
        return True


def _size(batch: Batch) -> int:
    return sum(len(record.data) for record in batch.records)
