"""The bytes of a log: segment headers and record batches, as pure functions. The only file that knows the format.

A segment is a 32-byte header and then batches. A batch is a 40-byte header and a body, a msgpack list of records:

    magic 4 | body length 4 | body CRC32 4 | base offset 8 | count 4 | time ns 8 | codec 1 | kind 1 | flags 2 | CRC32 4

A compressed body is the length of the list, 4 bytes, and then the list compressed. Flag 1: some records have `extra`.

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

from tidings.errors import EngineError
from tidings.model.compression import Compression, compress, decompress
from tidings.model.message import Record, StoredRecord

_SEGMENT = struct.Struct("<8sIQq")
_SEGMENT_MAGIC = b"TIDSEG1\n"
SEGMENT_HEADER_BYTES = _SEGMENT.size + 4

_HEADER = struct.Struct("<4sIIQIqBBH")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<I")
MAGIC = b"\xf1TDB"
HEADER_BYTES = _HEADER.size + 4

DATA, SEAL = 0, 1
"""Kinds of batch. A seal is the last batch of a segment; its base offset names the segment that follows."""

PLAIN = 0
"""The codec of a body that is not compressed."""

CODECS = {Compression.LZ4: 1, Compression.ZSTD: 2, Compression.GZIP: 3}
_KINDS = {number: kind for kind, number in CODECS.items()}

EXTRA = 1
"""The flag of a batch with records that have `extra`, which most readers need not look for in the others."""

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""Largest body that is compressed, and so the most that a reader unpacks: eight of the largest usual messages."""

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
    codec: int = PLAIN
    flags: int = 0

    @property
    def end(self) -> int:
        return self.base + self.count


class Batch(Struct, gc=False):
    """A stored batch in memory: the records with the offsets `base` up to `end`, published at `time_ns`; `extra` tells
    whether some have more to say."""

    base: int
    time_ns: int
    records: Sequence[StoredRecord]
    extra: bool = False

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


class Body(Struct, gc=False):
    """The body of a batch as it is stored, made before any lock is taken."""

    data: bytes
    crc: int
    count: int
    codec: int
    flags: int


def make_body(records: Sequence[Record], compression: Compression | None = None) -> Body:
    """Return the body of a batch of these records; what compression does not make smaller is stored as it is."""
    data, codec = encode_body(records), PLAIN
    if compression is not None and len(data) <= MAX_UNPACKED_BYTES:
        packed = _LENGTH.pack(len(data)) + compress(compression, data)
        if len(packed) < len(data):
            data, codec = packed, CODECS[compression]
    flags = EXTRA if has_extra(records) else 0
    return Body(data, _crc32(data), len(records), codec, flags)


def has_extra(records: Sequence[Record]) -> bool:
    """Whether one of the records has something more to say. A plain loop: this is on the way of every message."""
    for record in records:  # noqa: SIM110 (a generator would cost more than all the rest)
        if record.extra is not None:
            return True
    return False


def batch_header(body: Body, base: int, time_ns: int, seed: int, *, kind: int = DATA) -> bytes:
    """Return the header of a batch; `seed` is the segment's salt plus the position of the batch."""
    head = _pack(MAGIC, len(body.data), body.crc, base, body.count, time_ns, body.codec, kind, body.flags)
    return head + _CRC.pack(_crc32(head, seed & 0xFFFFFFFF))


SEAL_BODY = Body(b"", 0, 0, PLAIN, 0)


def parse_header(data: bytes, at: int, seed: int) -> Header | None:
    """Return the header at `data[at:]`, or None when there is none that passes its checksum (or it is cut off)."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, length, crc, base, count, time_ns, codec, kind, flags = _HEADER.unpack_from(data, at)
    if magic != MAGIC:
        return None
    end = at + _HEADER.size
    if _crc32(data[at:end], seed & 0xFFFFFFFF) != _CRC.unpack_from(data, end)[0]:
        return None
    return Header(length, crc, base, count, time_ns, kind, codec, flags)


def decode_records(header: Header, body: bytes) -> list[StoredRecord] | None:
    """Return the records of a body, or None when it fails its checksum or is not what its header says."""
    if len(body) != header.length or _crc32(body) != header.body_crc:
        return None
    if header.kind == SEAL:
        return []
    try:
        records = _decode_body(body if header.codec == PLAIN else _unpack(header.codec, body))
    except (msgspec.DecodeError, EngineError, KeyError, struct.error):
        return None
    return records if len(records) == header.count else None


def _unpack(codec: int, body: bytes) -> bytes:
    """Return the list of records as it was before it was compressed, of the length it had and no longer."""
    length = min(_LENGTH.unpack_from(body)[0], MAX_UNPACKED_BYTES)
    return decompress(_KINDS[codec], body[_LENGTH.size :], length)
