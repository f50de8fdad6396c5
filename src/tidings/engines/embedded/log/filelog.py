"""The log of one shard on disk: appending under the shard's lock, syncing outside it, reading without it.

Any number of processes append to and read one log. Nothing tells them of each other: whoever looks finds how far the
file has grown. Only the holder of the lock writes, so only he may judge an unfinished batch at the end to be torn.
"""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, FileLock, WouldBlock
from tidings.engines.embedded.log.frame import (
    DATA,
    SEAL,
    SEAL_BODY,
    SEGMENT_HEADER_BYTES,
    Batch,
    Body,
    Header,
    batch_header,
    make_body,
)
from tidings.engines.embedded.log.recovery import Floor, recover, rewrite
from tidings.engines.embedded.log.seen import Seen, place_once
from tidings.engines.embedded.log.segment import Segment, index_path
from tidings.engines.embedded.log.segments import LogGone, LogLimits, Segments
from tidings.engines.embedded.log.stamps import Stamps
from tidings.engines.embedded.log.syncing import GroupSync, Point
from tidings.errors import BusBusy, DamagedData, PublishFailed, StorageFull
from tidings.model.compression import Compression
from tidings.model.message import Record

CACHED_CHUNKS = 8
"""Chunks of decoded batches kept, so that the readers of one process share what one of them has read."""

RESUME_POINTS = 256
"""Places remembered where a reader stopped, so that going on needs no search; one is used per reader at a time."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _not_stored(what: object, error: OSError) -> PublishFailed:
    """The one place where errors of writing become errors of publishing."""
    kind = StorageFull if error.errno in _FULL else PublishFailed
    return kind(f"{what}: {error.strerror}; nothing of this call was stored")


class FileLog:
    """One shard's log. Safe to share between threads; every process has its own object for the same folder."""

    def __init__(
        self, folder: Path, limits: LogLimits, stamps: Stamps, floor: Callable[[], Floor], post: Callable[[int], None]
    ) -> None:
        """`floor` tells what is known of the log from elsewhere, `post` is told its end whenever that has moved."""
        self._folder = folder
        self._post = post
        self._limits = limits
        self._floor = floor
        self._stamps = stamps
        self._mutex = threading.RLock()
        self._lock: FileLock | None = None
        self._segments = Segments(folder)
        self._active: Segment | None = None
        self._chunks: deque[list[Batch]] = deque(maxlen=CACHED_CHUNKS)
        self._resume: OrderedDict[int, Point] = OrderedDict()
        self._sync = GroupSync(self._flush)
        self._seen = Seen(folder / "seen.db")
        self._suspect: Point | None = None

    # -- writing

    def append(
        self, records: Sequence[Record], wait: float = LOCK_WAIT_SECONDS, compression: Compression | None = None
    ) -> tuple[int, Point]:
        """Append the records as one batch; return the first offset, and the point to `sync`.

        All or nothing: on `StorageFull`, `PublishFailed` and `BusBusy` nothing was stored. `wait` bounds the wait for
        the lock; with 0 it raises `WouldBlock` at once. Raises `LogGone` when the topic was dropped.
        """
        body = make_body(records, compression)
        now_ns = self._stamps.now_ns()
        try:
            self._enter(wait)
        except OSError as error:
            raise _not_stored(self._folder, error) from error
        try:
            segment = self._writable(now_ns)
            return self._append(segment, body, now_ns), (segment.base, segment.end)
        except OSError as error:
            raise _not_stored(self._folder, error) from error
        finally:
            self._leave()

    def append_once(
        self, records: Sequence[Record], window: float, wait: float, compression: Compression | None = None
    ) -> tuple[list[tuple[int, bool]], Point]:
        """Append those records whose ids the log has not had for `window` seconds, as one batch.

        Return the offset of each, with whether it was there before, and the point up to which all of them are synced.
        """
        body = make_body(records, compression)
        now_ns = self._stamps.now_ns()
        try:
            self._enter(wait)
        except OSError as error:
            raise _not_stored(self._folder, error) from error
        try:
            segment = self._writable(now_ns)
            since = now_ns - int(window * 1e9)
            end = segment.next_offset
            placed, fresh = place_once(self._seen.find(records, since, end, self.read, self.find_time), records, end)
            if fresh:
                kept = body if len(fresh) == len(records) else make_body(fresh, compression)
                base = self._append(segment, kept, now_ns)
                self._seen.remember(base, segment.last_time_ns, fresh, since)
            return placed, (segment.base, segment.end)
        except OSError as error:
            raise _not_stored(self._folder, error) from error
        finally:
            self._leave()

    def _append(self, segment: Segment, body: Body, now_ns: int) -> int:
        """Write the batch at the end of the segment and say so; return its first offset. Called with the lock."""
        base = segment.next_offset
        time_ns = max(now_ns, segment.last_time_ns)
        self._write(segment, batch_header(body, base, time_ns, segment.salt + segment.end) + body.data)
        if segment.advance(Header(len(body.data), body.crc, base, body.count, time_ns, DATA)):
            self._write_mark(segment)
        self._post(base + body.count)
        return base

    def sync(self, point: Point) -> None:
        """Return when the log is durable up to `point`. Raises `PublishUnknown` when that could not be proven."""
        self._sync.wait(point)

    def secure(self) -> None:
        """Make all that is written durable, also after a sync that failed. Raises `OSError` when that fails again."""
        with self._exclusive():
            segment = self._active or self._open_active()
            try:
                os.fdatasync(segment.fd)
            except OSError:
                self._distrust()
                raise
            self._sync.confirm((segment.base, segment.end))

    def _enter(self, wait: float) -> None:
        """Take the mutex, then the lock of the shard. Plain calls: this is on the way of every message."""
        if not self._mutex.acquire(timeout=wait):
            raise WouldBlock if wait <= 0 else BusBusy(f"{self._folder}: a thread held the log for {wait:g} s")
        try:
            (self._lock or self._open_lock()).acquire(wait)
        except BaseException:
            self._mutex.release()
            raise

    def _leave(self) -> None:
        assert self._lock is not None
        self._lock.release()
        self._mutex.release()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._enter(LOCK_WAIT_SECONDS)
        try:
            yield
        finally:
            self._leave()

    def _open_lock(self) -> FileLock:
        try:
            self._lock = FileLock(str(self._folder / "lock"))
        except FileNotFoundError:
            raise LogGone from None
        return self._lock

    def _writable(self, now_ns: int) -> Segment:
        """Return the segment to append to, caught up with what others appended."""
        segment = self._active or self._open_active()
        size = segment.size()
        if size < segment.end:
            self._forget()
            raise LogGone
        if size > segment.end and segment.scan(size):
            recover(segment, self._floor())
        if segment.sealed:
            segment = self._follow(segment) or self._begin(segment, now_ns)
            return self._writable(now_ns)
        return self._roll(segment, now_ns) if self._limits.is_full(segment, now_ns) else segment

    def _write(self, segment: Segment, data: bytes) -> None:
        """Write at the end of the segment, all of it or nothing."""
        try:
            segment.write(data)
        except OSError:
            self._take_back(segment)
            raise

    def _take_back(self, segment: Segment) -> None:
        """Cut off a half-written batch. If that fails too it stays unfinished, which no reader takes for a batch."""
        try:
            os.ftruncate(segment.fd, segment.end)
        except OSError:
            self._forget()

    def _write_mark(self, segment: Segment) -> None:
        """Add the newest mark to the index file. Failing to is no failure: an index is rebuilt by reading on."""
        try:
            fd = os.open(index_path(self._folder, segment.base), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            return
        try:
            os.write(fd, segment.pack_mark(*segment.marks[-1]))
        except OSError:
            return
        finally:
            os.close(fd)

    def _flush(self) -> tuple[Point, OSError | None]:
        """Sync what is written. The flag `GroupSync.busy` keeps the descriptor open meanwhile."""
        reached = self._sync.synced
        try:
            with self._mutex:
                segment = self._active or self._reopened()
                fd, reached = segment.fd, (segment.base, segment.end)
            os.fdatasync(fd)
        except OSError as error:
            with self._mutex:
                self._distrust()
            return reached, error
        return reached, None

    def _distrust(self) -> None:
        """A sync failed: what was not synced before has to be written again before the next one."""
        self._suspect = self._sync.synced
        self._forget()

    # -- segments

    def _open_active(self) -> Segment:
        """Open and recover the newest segment. Called with the lock."""
        now_ns = self._stamps.now_ns()
        bases = self._segments.refresh()
        floor = self._floor()
        if not bases:
            self._active = self._segments.create(floor.given, now_ns)
            return self._active
        self._active = segment = Segment(self._folder, bases[-1])
        recover(segment, floor)
        self._post(segment.next_offset)
        if self._suspect is not None:
            self._mend(segment, self._suspect)
        return segment

    def _mend(self, segment: Segment, suspect: Point) -> None:
        """After a failed sync: write what may not have reached the disk once more, and sync that."""
        try:
            rewrite(segment, suspect[1] if suspect[0] == segment.base else 0)
            os.fdatasync(segment.fd)
        except OSError:
            self._forget()
            raise
        self._suspect = None

    def _reopened(self) -> Segment:
        with self._exclusive():
            return self._active or self._open_active()

    def _forget(self) -> None:
        """Close the newest segment; whoever needs it next opens and recovers it."""
        if self._active is not None:
            self._active.close()
            self._active = None

    def _follow(self, sealed: Segment) -> Segment | None:
        """Go on to the newest segment after a sealed one, if it is there."""
        if self._segments.after(sealed.base) is None:
            return None
        self._segments.keep(sealed)
        self._active = Segment(self._folder, self._segments.bases[-1])
        return self._active

    def _begin(self, sealed: Segment, now_ns: int) -> Segment:
        """Create the segment after a sealed one. Called with the lock."""
        self._segments.keep(sealed)
        self._active = self._segments.create(sealed.next_offset, max(now_ns, sealed.last_time_ns))
        return self._active

    def _roll(self, segment: Segment, now_ns: int) -> Segment:
        """Seal the segment, durably, and begin the next: whoever meets the seal knows where to go on."""
        header = Header(0, 0, segment.next_offset, 0, segment.last_time_ns, SEAL)
        seed = segment.salt + segment.end
        self._write(segment, batch_header(SEAL_BODY, header.base, header.time_ns, seed, kind=SEAL))
        segment.advance(header)
        try:
            os.fdatasync(segment.fd)
        except OSError:
            self._distrust()
            raise
        active = self._begin(segment, now_ns)
        self._segments.trim(self._limits, active, now_ns)
        return active

    # -- reading

    def end(self) -> int:
        """Return the offset that the next message will get, as the log itself says."""
        with self._mutex:
            return self._caught_up().next_offset

    def point(self) -> Point:
        """Return the point at which the log ends now."""
        with self._mutex:
            segment = self._caught_up()
            return segment.base, segment.end

    def span(self) -> tuple[int, int]:
        """Return the first offset, as far as this process has seen, and the next one."""
        with self._mutex:
            next_offset = self._caught_up().next_offset
            return (self._segments.bases or self._segments.refresh())[0], next_offset

    def _caught_up(self) -> Segment:
        segment = self._active or self._reopened()
        size = segment.size()
        if size < segment.end:
            self._forget()
            raise LogGone
        if size > segment.end and segment.scan(size):
            segment.step_over(size)
        if segment.size() < size:
            self._forget()
            return self._caught_up()
        if segment.sealed and self._follow(segment):
            return self._caught_up()
        return segment

    def read(self, offset: int) -> list[Batch]:
        """Return the next stored batches that hold `offset` or more; none at the end of the log.

        The first may begin before `offset`; it begins after it where retention removed messages. Raises `DamagedData`.
        """
        with self._mutex:
            batches = self._cached(offset)
            return batches or self._read(offset)

    def _cached(self, offset: int) -> list[Batch]:
        if not self._chunks or offset >= self._chunks[-1][-1].end:
            return []
        for chunk in self._chunks:
            if chunk[0].base <= offset < chunk[-1].end:
                return (
                    chunk[bisect_right(chunk, offset, key=lambda batch: batch.base) - 1 :] if len(chunk) > 1 else chunk
                )
        return []

    def _read(self, offset: int) -> list[Batch]:
        active = self._active or self._caught_up()
        if active.size() < active.end:
            self._forget()
            raise LogGone
        base, position = self._resume.pop(offset) if offset in self._resume else self._find(offset, active)
        while True:
            try:
                segment = active if base == active.base else self._segments.old(base)
            except FileNotFoundError:
                self._segments.refresh()
                base, position = self._find(offset, active)
                continue
            following = self._segments.after(base) if segment is not active or segment.sealed else None
            batches: list[Batch] = []
            if following is None or offset < following:
                batches, position = segment.read(position)
                if not batches and following is None and segment.sealed:
                    following = self._segments.after(base)
            if batches or following is None:
                return self._remember(batches[-1].end if batches else offset, batches, (base, position))
            if offset < following and not segment.sealed:
                raise DamagedData(str(segment.path), position, "the segment was cut short", following)
            active = self._caught_up()
            base, position = following, SEGMENT_HEADER_BYTES

    def _find(self, offset: int, active: Segment) -> Point:
        """Return where to look for `offset`: in its segment, or in the oldest that retention left."""
        if not self._segments.bases:
            self._segments.refresh()
        base = self._segments.holding(offset)
        try:
            segment = active if base == active.base else self._segments.old(base)
        except FileNotFoundError:
            self._segments.refresh()
            return self._find(offset, active)
        return base, segment.locate(offset)

    def _remember(self, offset: int, batches: list[Batch], point: Point) -> list[Batch]:
        """Remember where reading goes on at `offset`, and the batches for the other readers."""
        self._resume[offset] = point
        if len(self._resume) > RESUME_POINTS:
            self._resume.popitem(last=False)
        if batches:
            self._chunks.append(batches)
        return batches

    def find_time(self, time_ns: int) -> int:
        """Return the offset of the first message published at `time_ns` (since the epoch) or later."""
        with self._mutex:
            active = self._caught_up()
            for base in reversed(self._segments.refresh()[:-1] if active.created_ns >= time_ns else []):
                segment = self._segments.old(base)
                if segment.created_ns < time_ns:
                    return segment.find_time(time_ns)
            return active.find_time(time_ns) if active.created_ns < time_ns else self._segments.bases[0]

    # -- care

    def limit(self, limits: LogLimits) -> None:
        """Keep other limits from now on."""
        self._limits = limits

    def extent(self) -> tuple[int, int, int]:
        """Return the first offset, the next offset and the bytes of the log."""
        with self._mutex:
            next_offset = self._caught_up().next_offset
            first = self._segments.refresh()[0]
            return first, next_offset, self._segments.size()

    def trim(self) -> None:
        """Remove what the retention limits no longer keep; begin a new segment when the newest is of age."""
        limits, now_ns = self._limits, self._stamps.now_ns()
        if limits.keep_bytes is limits.keep_messages is limits.keep_seconds is None:
            return
        with self._exclusive():
            self._segments.trim(limits, self._writable(now_ns), now_ns)

    def drop(self) -> None:
        """Remove the log. Whoever has it open gets `LogGone`."""
        with self._exclusive():
            self._forget()
            self._segments.close()
            self._seen.close()
            self._segments.drop()

    def close(self) -> bool:
        """Close the files, if no sync is under way; they open again on the next use."""
        with self._mutex:
            if self._sync.busy:
                return False
            self._forget()
            self._segments.close()
            self._resume.clear()
            self._seen.close()
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.close()
            return True
