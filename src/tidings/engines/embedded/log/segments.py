"""The segment files of one log: which there are, opening and creating them, removing the oldest."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path

from msgspec import Struct

from tidings.engines.embedded.disk.place import sync_folder
from tidings.engines.embedded.log.frame import segment_header
from tidings.engines.embedded.log.segment import Segment, index_path, log_path, write_all

OPEN_OLD_SEGMENTS = 4
"""Sealed segments kept open for readers that lag behind; each costs one file descriptor."""


class LogGone(Exception):
    """The topic was dropped by somebody, perhaps in another process: look its name up again."""


class LogLimits(Struct, frozen=True, kw_only=True):
    """When a segment is closed and when old ones go; None is no limit."""

    segment_bytes: int
    segment_messages: int | None = None
    segment_seconds: float | None = None
    keep_bytes: int | None = None
    keep_messages: int | None = None
    keep_seconds: float | None = None

    def is_full(self, segment: Segment, now_ns: int) -> bool:
        """Whether the next batch belongs into a new segment."""
        count = segment.next_offset - segment.base
        if segment.end >= self.segment_bytes or (self.segment_messages is not None and count >= self.segment_messages):
            return True
        age = (now_ns - segment.created_ns) / 1e9
        return self.segment_seconds is not None and count > 0 and age > self.segment_seconds


class Segments:
    """The segments of one folder. Not safe to share between threads: the log that owns it has a mutex."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old: OrderedDict[int, Segment] = OrderedDict()
        self.bases: list[int] = []

    def refresh(self) -> list[int]:
        """Look at the folder again and return the first offsets of its segments."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            raise LogGone from None
        self.bases = sorted(int(name[:-4]) for name in names if name.endswith(".log"))
        return self.bases

    def create(self, base: int, now_ns: int) -> Segment:
        """Create and open the segment of first offset `base`; it is durable when this returns."""
        path = log_path(self._folder, base)
        partial = path.with_suffix(".new")
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, segment_header(int.from_bytes(os.urandom(4)), base, now_ns), 0)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(partial, path)
        sync_folder(self._folder)
        self.refresh()
        return Segment(self._folder, base)

    def keep(self, segment: Segment) -> None:
        """Keep an open sealed segment for the readers that lag behind, and close the one longest unused."""
        self._old[segment.base] = segment
        self._old.move_to_end(segment.base)
        while len(self._old) > OPEN_OLD_SEGMENTS:
            self._old.popitem(last=False)[1].close()

    def old(self, base: int) -> Segment:
        """Return an open segment that is not the newest. Raises `FileNotFoundError` when retention removed it."""
        segment = self._old.get(base)
        if segment is None:
            following = self.after(base)
            segment = Segment(self._folder, base)
            if following is not None:
                segment.finish(following)
        self.keep(segment)
        return segment

    def holding(self, offset: int) -> int:
        """Return the base of the segment that holds `offset`, or of the oldest one if that is later."""
        return self.bases[max(0, bisect_right(self.bases, offset) - 1)]

    def after(self, base: int) -> int | None:
        """Return the base of the segment that follows, or None when there is none yet."""
        at = bisect_right(self.bases, base)
        if at == len(self.bases):
            at = bisect_right(self.refresh(), base)
        return self.bases[at] if at < len(self.bases) else None

    def size(self) -> int:
        """Return the bytes of all segments."""
        return sum(self._size(base) for base in self.bases)

    def _size(self, base: int) -> int:
        try:
            return log_path(self._folder, base).stat().st_size
        except FileNotFoundError:
            return 0

    def trim(self, limits: LogLimits, active: Segment, now_ns: int) -> None:
        """Remove the oldest segments while what stays still reaches every limit; never the newest segment."""
        self.refresh()
        while len(self.bases) > 1 and self._is_surplus(limits, active, now_ns):
            self._remove(self.bases.pop(0))

    def _is_surplus(self, limits: LogLimits, active: Segment, now_ns: int) -> bool:
        oldest, second = self.bases[0], self.bases[1]
        if limits.keep_messages is not None and active.next_offset - second >= limits.keep_messages:
            return True
        if limits.keep_bytes is not None and self.size() - self._size(oldest) >= limits.keep_bytes:
            return True
        if limits.keep_seconds is None:
            return False
        closed_ns = active.created_ns if second == active.base else self.old(second).created_ns
        return now_ns - closed_ns > limits.keep_seconds * 1e9

    def _remove(self, base: int) -> None:
        segment = self._old.pop(base, None)
        if segment is not None:
            segment.close()
        log_path(self._folder, base).unlink(missing_ok=True)
        index_path(self._folder, base).unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove the folder. Renamed first, so that nobody makes anything in it; then the files are emptied, so that
        whoever has one open sees it shrink and learns of it."""
        import shutil  # slow to load, and few programs drop topics

        gone = self._folder.with_name(f"{self._folder.name}.gone")
        try:
            self._folder.rename(gone)
        except FileNotFoundError:
            raise LogGone from None
        for path in gone.glob("*.log"):
            os.truncate(path, 0)
        shutil.rmtree(gone)

    def close(self) -> None:
        while self._old:
            self._old.popitem()[1].close()
