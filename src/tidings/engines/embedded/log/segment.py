"""One segment file: reading its batches, finding offsets in it. Knows nothing of locks, writers or other segments.

The sparse marks (offset, time, position) come from the `.index` file next to it, which is only ever a hint: a mark is
believed when a sound batch header of that offset stands at its position.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from tidings.engines.embedded.log.frame import (
    EXTRA,
    HEADER_BYTES,
    MAGIC,
    SEAL,
    SEGMENT_HEADER_BYTES,
    Batch,
    Header,
    decode_records,
    parse_header,
    parse_segment_header,
)
from tidings.errors import DamagedData

READ_BYTES = 256 * 1024
"""Bytes asked of the kernel at once when reading on; a thousand small messages, and little enough for any cache."""

INDEX_BYTES = 256 * 1024
"""Distance of two marks: opening a segment scans at most this much, which takes a few milliseconds."""

_MARK = struct.Struct("<QqQ")


def log_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020}.log"


def index_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020}.index"


def write_all(fd: int, data: bytes, position: int) -> None:
    """Write all of `data`; the kernel may take it in parts when the disk is all but full."""
    written = os.pwrite(fd, data, position)
    while written < len(data):
        written += os.pwrite(fd, data[written:], position + written)


class Segment:
    """An open segment: `end` bytes and `next_offset` are verified so far; `sealed` when its seal was seen."""

    def __init__(self, folder: Path, base: int) -> None:
        self.path = log_path(folder, base)
        self.base = base
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._read_header()
            self.marks: list[tuple[int, int, int]] = []
            self.last_time_ns = self.created_ns
            self._load_marks(index_path(folder, base))
        except BaseException:
            os.close(self.fd)
            raise

    def _read_header(self) -> None:
        head = parse_segment_header(os.pread(self.fd, SEGMENT_HEADER_BYTES, 0))
        if head is None or head[1] != self.base:
            raise DamagedData(str(self.path), 0, "the segment header fails its checksum")
        self.salt, _, self.created_ns = head
        self.end = SEGMENT_HEADER_BYTES
        self.next_offset = self.base
        self.sealed = False

    def _load_marks(self, path: Path) -> None:
        """Take the marks that hold, and start the verified part at the last of them."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        size = self.size()
        for offset, time_ns, position in _MARK.iter_unpack(data[: len(data) // _MARK.size * _MARK.size]):
            follows = position < size and (not self.marks or offset > self.marks[-1][0])
            header = self.header_at(position) if follows else None
            if header is not None and header.base == offset and header.time_ns == time_ns:
                self.marks.append((offset, time_ns, position))
        if self.marks:
            self.next_offset, self.last_time_ns, self.end = self.marks[-1]

    @staticmethod
    def pack_mark(offset: int, time_ns: int, position: int) -> bytes:
        return _MARK.pack(offset, time_ns, position)

    def write(self, data: bytes) -> None:
        """Write at the end, all of it; on an `OSError` part of it may have been written."""
        write_all(self.fd, data, self.end)

    def header_at(self, position: int) -> Header | None:
        return parse_header(os.pread(self.fd, HEADER_BYTES, position), 0, self.salt + position)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def size(self) -> int:
        return os.lseek(self.fd, 0, os.SEEK_END)

    def advance(self, header: Header) -> bool:
        """Count the batch at `end` as verified; return whether it got a mark."""
        marked = self.end - (self.marks[-1][2] if self.marks else 0) >= INDEX_BYTES
        if marked:
            self.marks.append((header.base, header.time_ns, self.end))
        self.end += HEADER_BYTES + header.length
        self.next_offset = header.base + header.count
        self.last_time_ns = header.time_ns
        self.sealed = header.kind == SEAL
        return marked

    def scan(self, limit: int) -> int:
        """Verify headers from `end` on up to byte `limit`; return how many bytes after `end` could not be.

        Zero means that everything up to `limit` is sound. Anything else is a batch still being written, a torn tail,
        or damage: who holds the writer's lock can tell.
        """
        while self.end < limit and not self.sealed:
            data = os.pread(self.fd, min(READ_BYTES, limit - self.end), self.end)
            at, start = 0, self.end
            while header := parse_header(data, at, self.salt + self.end):
                if self.end + HEADER_BYTES + header.length > limit:
                    return limit - self.end
                self.advance(header)
                at = self.end - start
            if self.end == start:
                return limit - self.end
        return 0

    def finish(self, following: int) -> None:
        """Verify the rest of a segment that another one, of first offset `following`, has followed: it is complete, so
        whatever cannot be read in it is damage."""
        size = self.size()
        while self.scan(size) and self.step_over(size):
            continue
        if not self.sealed:
            self.end, self.next_offset = max(self.end, size), following

    def step_over(self, size: int) -> bool:
        """Go on at the next sound batch after bytes that are not sound; False when there is none."""
        sound = self.next_sound(self.end, size)
        if sound is None:
            return False
        before = self.end
        self.scan(self.size())
        if self.end == before:
            self.end, self.next_offset = sound[0], sound[1].base
        return True

    def body_is_sound(self, header: Header, position: int) -> bool:
        body = os.pread(self.fd, header.length, position + HEADER_BYTES)
        return decode_records(header, body) is not None

    def next_sound(self, position: int, limit: int) -> tuple[int, Header] | None:
        """Return the first sound batch after the byte `position`, looking for magic bytes; None up to `limit`."""
        while position < limit:
            data = os.pread(self.fd, READ_BYTES + HEADER_BYTES, position)
            at = data.find(MAGIC, 1)
            while at >= 0:
                header = parse_header(data, at, self.salt + position + at)
                if header and position + at + HEADER_BYTES + header.length <= limit:
                    return position + at, header
                at = data.find(MAGIC, at + 1)
            position += READ_BYTES
        return None

    def locate(self, offset: int) -> int:
        """Return the position of the batch that holds `offset`, or of the first one after it."""
        at = bisect_right(self.marks, offset, key=lambda mark: mark[0]) - 1
        return self._walk(at, lambda header: header.end > offset)[0]

    def find_time(self, time_ns: int) -> int:
        """Return the offset of the first batch published at `time_ns` or later."""
        at = bisect_right(self.marks, time_ns - 1, key=lambda mark: mark[1]) - 1
        header = self._walk(at, lambda header: header.time_ns >= time_ns)[1]
        return header.base if header else self.next_offset

    def _walk(self, mark: int, found: Callable[[Header], bool]) -> tuple[int, Header | None]:
        position = self.marks[mark][2] if mark >= 0 else SEGMENT_HEADER_BYTES
        while position < self.end:
            header = self.header_at(position)
            if header is None:
                skip = self.next_sound(position, self.end)
                if skip is None:
                    break
                position, header = skip
            if found(header):
                return position, header
            position += HEADER_BYTES + header.length
        return self.end, None

    def read(self, position: int, confirmed: bool = False) -> tuple[list[Batch], int]:
        """Return the sound batches from `position` on that one read brings, and the position after them.

        None at the end, and none where a batch is still being written. Raises `DamagedData` where the next batch is
        there but fails its checksum. What is read beyond `end` counts as verified.
        """
        batches: list[Batch] = []
        size = self.size()
        data, at = os.pread(self.fd, max(0, min(READ_BYTES, size - position)), position), 0
        header = parse_header(data, 0, self.salt + position)
        if header is not None and HEADER_BYTES + header.length > len(data):
            data = os.pread(self.fd, HEADER_BYTES + header.length, position)
        while header is not None:
            after = at + HEADER_BYTES + header.length
            records = decode_records(header, data[at + HEADER_BYTES : after])
            if records is None:
                break
            if position == self.end:
                self.advance(header)
            if records:
                batches.append(Batch(header.base, header.time_ns, records, bool(header.flags & EXTRA)))
            position, at = position + after - at, after
            header = parse_header(data, at, self.salt + position)
        if not batches and not (self.sealed and position == self.end) and self._is_damage(position, size, header):
            if not confirmed or self.size() < size:
                return self.read(position, confirmed=self.size() >= size)
            raise self.damage(position)
        return batches, position

    def _is_damage(self, position: int, size: int, header: Header | None) -> bool:
        """Whether what stands at `position`, and could not be read, is more than a batch that is not finished.

        `size` is from before the reading: a file grows after its bytes are written, so what is below it was all there.
        """
        if position < self.end or (header is not None and position + HEADER_BYTES + header.length <= size):
            return True
        return position < size and self.next_sound(position, size) is not None

    def damage(self, position: int) -> DamagedData:
        skip = self.next_sound(position, self.end)
        resume = skip[1].base if skip else self.next_offset
        return DamagedData(str(self.path), position, "a record batch fails its checksum", resume)
