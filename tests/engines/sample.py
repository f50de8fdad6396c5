"""Logs and segments for the tests of the engines, small enough to look at every byte."""

from __future__ import annotations

from pathlib import Path

from tests.engines.hands import Hands
from tidings.engines.embedded.log import frame
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.recovery import Floor
from tidings.engines.embedded.log.segment import log_path
from tidings.engines.embedded.log.segments import LogLimits
from tidings.engines.embedded.log.stamps import Stamps
from tidings.model.codec import BYTES
from tidings.model.message import Record

SALT = 0x1234
TIME_NS = 1_000_000_000

Entry = tuple[int, bytes]
"""The offset and the data of a message."""


opened: list[FileLog] = []
"""What is to be closed after the test."""


def records(*data: bytes) -> list[Record]:
    return [Record(f"id-{number}", BYTES, each) for number, each in enumerate(data)]


def batch(position: int, base: int, *data: bytes, time_ns: int = TIME_NS, salt: int = SALT) -> bytes:
    """A whole batch as it stands at a position of a segment."""
    body = frame.make_body(records(*data))
    return frame.batch_header(body, base, time_ns, salt + position) + body.data


def seal(position: int, base: int, salt: int = SALT) -> bytes:
    return frame.batch_header(frame.SEAL_BODY, base, TIME_NS, salt + position, kind=frame.SEAL)


def write_segment(folder: Path, *batches: tuple[bytes, ...], base: int = 0, sealed: bool = False) -> bytes:
    """Write a segment of these batches, one nanosecond apart; return its bytes."""
    content = frame.segment_header(SALT, base, TIME_NS)
    offset = base
    for number, data in enumerate(batches):
        content += batch(len(content), offset, *data, time_ns=TIME_NS + number)
        offset += len(data)
    if sealed:
        content += seal(len(content), offset)
    log_path(folder, base).write_bytes(content)
    return content


def damage(path: Path, number: int) -> None:
    """Turn over a bit in the body of the `number`-th batch of a segment file."""
    content = bytearray(path.read_bytes())
    at = frame.SEGMENT_HEADER_BYTES
    for _ in range(number):
        at += frame.HEADER_BYTES + int.from_bytes(content[at + 4 : at + 8], "little")
    content[at + frame.HEADER_BYTES + 3] ^= 1
    path.write_bytes(content)


def file_log(
    folder: Path, limits: LogLimits | None = None, floor: Floor | None = None, clock: Hands | None = None
) -> FileLog:
    """Another process's view of the log in this folder, as it were: it shares nothing but the files."""
    folder.mkdir(exist_ok=True)
    found = floor or Floor()
    limits = limits or LogLimits(segment_bytes=1 << 20)
    log = FileLog(folder, limits, Stamps(clock or Hands()), lambda: found, lambda end: None)
    opened.append(log)
    return log


def memory_log(limits: LogLimits | None = None, clock: Hands | None = None) -> MemoryLog:
    return MemoryLog(limits or LogLimits(segment_bytes=1 << 20), Stamps(clock or Hands()))


def contents(log: FileLog | MemoryLog, offset: int = 0) -> list[Entry]:
    """Everything from `offset` to the end."""
    found: list[Entry] = []
    while batches := log.read(offset):
        for each in batches:
            found += [(number, r.data) for number, r in enumerate(each.records, each.base) if number >= offset]
        offset = max(offset, batches[-1].end)
    return found


def numbered(first: int, count: int) -> list[Entry]:
    """What `contents` finds when the data of each message is its offset as text."""
    return [(number, b"%d" % number) for number in range(first, first + count)]


def fill(log: FileLog | MemoryLog, count: int, per_batch: int = 1) -> None:
    """Append messages whose data is their offset, so that anything out of place shows."""
    for _ in range(0, count, per_batch):
        first = log.end()
        base, _ = log.append(records(*(b"%d" % (first + each) for each in range(per_batch))))
        assert base == first
