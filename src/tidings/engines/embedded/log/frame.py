"""The bytes of a log: segment headers and record batches, as pure functions. The only file that knows the format.

A segment is a 32-byte header and then batches. A batch is a 40-byte header and a body, a msgpack list of records:

    magic 4 | body length 4 | body CRC32 4 | base offset 8 | count 4 | time ns 8 | codec 1 | kind 1 | 0 2 | CRC32 4

Two checksums, because they are made at different moments: the body's before the lock is taken, the header's after, when
the offset is known. The header's is seeded with the segment's salt and the position of the batch, so bytes of another
segment, or a log that travels as the data of a message, can never be taken for a batch.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from tidings.model.message import StoredRecord

FORMAT_VERSION = 1

_SEGMENT = struct.Struct("<8sIQq")
_SEGMENT_MAGIC = b"TIDSEG1\n"
SEGMENT_HEADER_BYTES = _SEGMENT.size + 4

_HEADER = struct.Struct("<4sIIQIqBBH")
_CRC = struct.Struct("<I")
MAGIC = b"\xf1TDB"
HEADER_BYTES = _HEADER.size + 4

DATA, SEAL = 0, 1
"""Kinds of batch. A seal is the last batch of a segment; its base offset names the segment that follows."""

PLAIN = 0
"""The one codec of this version: the body is not compressed."""

encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(list[StoredRecord]).decode
_pack = _HEADER.pack
_crc32 = zlib.crc32


class Header(Struct, gc=False):
    """A batch header that passed its checksum. `end` is the offset after its last record."""

    length: int
    body_crc: int
    base: int
    count: int
    time_ns: int
    kind: int

    @property
    def end(self) -> int:
        return self.base + self.count


class Batch(Struct, gc=False):
    """A stored batch in memory: the records with the offsets `base` up to `end`, published at `time_ns`."""

    base: int
    time_ns: int
    records: Sequence[StoredRecord]

    @property
    def end(self) -> int:
        return self.base + len(self.records)


def segment_header(salt: int, base: int, created_ns: int) -> bytes:
    """Return the first bytes of a segment whose first offset is `base`."""
    head = _SEGMENT.pack(_SEGMENT_MAGIC, salt, base, created_ns)
    return head + _CRC.pack(_crc32(head))


def parse_segment_header(data: bytes) -> tuple[int, int, int] | None:
    """Return (salt, base, created_ns), or None when these are not the first bytes of a sound segment."""
    if len(data) < SEGMENT_HEADER_BYTES or data[: len(_SEGMENT_MAGIC)] != _SEGMENT_MAGIC:
        return None
    if _crc32(data[: _SEGMENT.size]) != _CRC.unpack_from(data, _SEGMENT.size)[0]:
        return None
    _, salt, base, created_ns = _SEGMENT.unpack_from(data)
    return salt, base, created_ns


def body_crc(body: bytes) -> int:
    return _crc32(body)


def batch_header(
    body_length: int, crc: int, base: int, count: int, time_ns: int, seed: int, *, kind: int = DATA
) -> bytes:
    """Return the header of a batch; `seed` is the segment's salt plus the position of the batch."""
    head = _pack(MAGIC, body_length, crc, base, count, time_ns, PLAIN, kind, 0)
    return head + _CRC.pack(_crc32(head, seed & 0xFFFFFFFF))


def parse_header(data: bytes, at: int, seed: int) -> Header | None:
    """Return the header at `data[at:]`, or None when there is none that passes its checksum (or it is cut off)."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, length, crc, base, count, time_ns, codec, kind, _ = _HEADER.unpack_from(data, at)
    if magic != MAGIC or codec != PLAIN:
        return None
    end = at + _HEADER.size
    if _crc32(data[at:end], seed & 0xFFFFFFFF) != _CRC.unpack_from(data, end)[0]:
        return None
    return Header(length, crc, base, count, time_ns, kind)


def decode_records(header: Header, body: bytes) -> list[StoredRecord] | None:
    """Return the records of a body, or None when it fails its checksum or is not what its header says."""
    if len(body) != header.length or _crc32(body) != header.body_crc:
        return None
    if header.kind == SEAL:
        return []
    try:
        records = _decode_body(body)
    except msgspec.DecodeError:
        return None
    return records if len(records) == header.count else None
