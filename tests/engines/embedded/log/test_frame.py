"""The bytes of batches and segment headers: the same back, or nothing; also what comes back from compression."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.sample import SALT, TIME_NS, batch, records, seal
from tidings.engines.embedded.disk.place import FORMAT_VERSION
from tidings.engines.embedded.log import frame
from tidings.engines.embedded.log.frame import EXTRA, HEADER_BYTES, SEGMENT_HEADER_BYTES
from tidings.model.compression import Compression, compress, decompress
from tidings.model.message import Record

text = st.text(max_size=20)
record_lists = st.lists(
    st.builds(
        Record,
        id=text,
        content_type=text,
        data=st.binary(max_size=50),
        key=st.none() | text,
        headers=st.none() | st.dictionaries(text, text, max_size=3),
        extra=st.none() | st.dictionaries(text, st.integers(0, 9), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


def parse(data: bytes, position: int = 100) -> list[tuple[str, bytes]] | None:
    """What a reader makes of a batch at a position; None when it is refused."""
    header = frame.parse_header(data, 0, SALT + position)
    if header is None:
        return None
    found = frame.decode_records(header, data[HEADER_BYTES : HEADER_BYTES + header.length])
    return None if found is None else [(record.id, record.data) for record in found]


def flips(data: bytes) -> list[bytes]:
    """The data with each of its bits turned over in turn."""
    number = int.from_bytes(data)
    return [(number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data))]


@given(
    given_records=record_lists,
    base=st.integers(0, 2**62),
    time_ns=st.integers(0, 2**62),
    seed=st.integers(0, 2**40),
    compression=st.none() | st.sampled_from(Compression),
)
def test_a_batch_comes_back_as_it_was_written(
    given_records: list[Record], base: int, time_ns: int, seed: int, compression: Compression | None
) -> None:
    body = frame.make_body(given_records, compression)
    data = frame.batch_header(body, base, time_ns, seed) + body.data
    header = frame.parse_header(b"xyz" + data, 3, seed)
    assert header is not None
    assert (header.base, header.end, header.time_ns) == (base, base + len(given_records), time_ns)
    assert bool(header.flags & EXTRA) == any(record.extra is not None for record in given_records)
    found = frame.decode_records(header, body.data)
    assert found is not None
    assert [msgspec.structs.astuple(each)[:6] for each in found] == [
        msgspec.structs.astuple(each) for each in given_records
    ]


def test_every_flipped_bit_of_a_batch_is_detected() -> None:
    whole = batch(100, 7, b"first", b"second")
    assert parse(whole) == [("id-0", b"first"), ("id-1", b"second")]
    assert {number for number, flipped in enumerate(flips(whole)) if parse(flipped) is not None} == set()


def test_every_truncation_of_a_batch_is_detected() -> None:
    whole = batch(100, 7, b"first", b"second")
    assert [length for length in range(len(whole)) if parse(whole[:length]) is not None] == []


def test_every_flipped_bit_of_a_seal_is_detected() -> None:
    whole = seal(100, 7)
    assert parse(whole) == []
    assert [number for number, flipped in enumerate(flips(whole)) if parse(flipped) is not None] == []


@pytest.mark.parametrize(("position", "salt"), [(101, SALT), (100, SALT + 1), (100 + 2**31, SALT)])
def test_a_batch_counts_only_at_its_own_place_in_its_own_segment(position: int, salt: int) -> None:
    assert frame.parse_header(batch(100, 7, b"data"), 0, salt + position) is None


def written(body: bytes, count: int = 1, codec: int = frame.PLAIN) -> bytes:
    """A batch whose checksums are right, whatever its body is."""
    made = frame.Body(body, zlib.crc32(body), count, codec, 0)
    return frame.batch_header(made, 0, TIME_NS, SALT + 100) + body


def test_a_count_that_the_body_does_not_have_is_refused() -> None:
    assert parse(written(frame.encode_body(records(b"one")), 2)) is None


def test_a_body_that_is_no_list_of_records_is_refused() -> None:
    assert parse(written(msgspec.msgpack.encode({"no": "records"}))) is None


def test_a_field_that_a_later_version_adds_to_a_record_is_no_new_format() -> None:
    body = msgspec.msgpack.encode([["id", "text", b"data", None, None, {"later": 1}, "much later"]])
    assert parse(written(body)) == [("id", b"data")]


# -- compression

REPETITIVE = [Record("id-0", "t", b"the same again and again " * 100)]


def packed(kind: Compression, data: bytes, length: int | None = None) -> bytes:
    """A compressed body that says it is `length` bytes long."""
    return struct.pack("<I", len(data) if length is None else length) + compress(kind, data)


@pytest.mark.parametrize("kind", Compression)
def test_a_compressed_body_is_smaller_and_says_how_it_was_compressed(kind: Compression) -> None:
    plain, small = frame.make_body(REPETITIVE), frame.make_body(REPETITIVE, kind)
    assert len(small.data) < len(plain.data) / 4
    assert (plain.codec, small.codec) == (frame.PLAIN, frame.CODECS[kind])
    assert parse(written(small.data, codec=small.codec)) == [("id-0", REPETITIVE[0].data)]


@pytest.mark.parametrize("kind", Compression)
def test_what_does_not_get_smaller_is_stored_as_it_is(kind: Compression) -> None:
    for data in (b"", b"x", bytes(range(256))):
        assert frame.make_body([Record("i", "t", data)], kind) == frame.make_body([Record("i", "t", data)])


@pytest.mark.parametrize("kind", Compression)
def test_what_no_reader_would_unpack_is_stored_as_it_is(kind: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "MAX_UNPACKED_BYTES", 1000)
    assert frame.make_body(REPETITIVE, kind).codec == frame.PLAIN


@pytest.mark.parametrize("kind", Compression)
def test_a_bomb_is_damage_and_never_unpacked_beyond_its_bound(
    kind: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it lies about its length, or says the truth and is larger than anything that is written."""
    monkeypatch.setattr(frame, "MAX_UNPACKED_BYTES", 100_000)
    whole = frame.encode_body([Record("id", "t", bytes(1_000_000))])
    limits: list[int] = []

    def note(kind: Compression, data: bytes, limit: int) -> bytes:
        limits.append(limit)
        return decompress(kind, data, limit)

    monkeypatch.setattr(frame, "decompress", note)
    for said in (10, 100_000, len(whole), 2**32 - 1):
        assert parse(written(packed(kind, whole, said), codec=frame.CODECS[kind])) is None
    assert limits == [10, 100_000, 100_000, 100_000]


@pytest.mark.parametrize("kind", Compression)
def test_every_damage_of_a_compressed_body_is_refused_even_when_the_checksum_is_right(kind: Compression) -> None:
    """A checksum can be right over wrong bytes: when they were wrong before it was made, or by bad luck."""
    body = frame.make_body(REPETITIVE, kind).data
    codec = frame.CODECS[kind]
    wrong = [body[:length] for length in range(len(body))] + [body + b"x", body + body, b""]
    wrong += [body[:4] + bytes([byte ^ 255]) + body[5:] for byte in body[4:5]]
    assert [parse(written(each, codec=codec)) for each in wrong] == [None] * len(wrong)


@given(st.sampled_from(Compression), st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_an_error(kind: Compression, body: bytes) -> None:
    assert parse(written(body, codec=frame.CODECS[kind])) is None


@given(st.sampled_from(Compression), st.data())
def test_a_flipped_bit_of_a_compressed_body_never_gives_other_data(kind: Compression, data: st.DataObject) -> None:
    body = frame.make_body(REPETITIVE, kind).data
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    flipped = (int.from_bytes(body) ^ 1 << bit).to_bytes(len(body))
    assert parse(written(flipped, codec=frame.CODECS[kind])) in (None, [("id-0", REPETITIVE[0].data)])


@pytest.mark.parametrize("codec", [4, 255])
def test_a_codec_that_nobody_knows_is_damage(codec: int) -> None:
    assert parse(written(packed(Compression.GZIP, frame.encode_body(REPETITIVE)), codec=codec)) is None


def test_every_flipped_bit_of_a_compressed_batch_is_detected() -> None:
    body = frame.make_body(REPETITIVE, Compression.GZIP)
    whole = frame.batch_header(body, 7, TIME_NS, SALT + 100) + body.data
    assert parse(whole) == [("id-0", REPETITIVE[0].data)]
    assert [number for number, flipped in enumerate(flips(whole)) if parse(flipped) is not None] == []


def test_a_batch_says_whether_a_record_has_more_to_say() -> None:
    plain, extra = Record("a", "t", b"x"), Record("b", "t", b"x", extra={"expires": 1.0})
    assert [frame.make_body(each).flags for each in ([plain], [plain, extra], [extra])] == [0, EXTRA, EXTRA]
    assert not frame.has_extra([plain, plain])


def test_a_segment_header_comes_back_and_no_flipped_bit_or_cut_does() -> None:
    whole = frame.segment_header(SALT, 42, TIME_NS)
    assert len(whole) == SEGMENT_HEADER_BYTES
    assert frame.parse_segment_header(whole + b"what follows") == (SALT, 42, TIME_NS)
    assert [number for number, data in enumerate(flips(whole)) if frame.parse_segment_header(data)] == []
    assert [length for length in range(len(whole)) if frame.parse_segment_header(whole[:length])] == []


def test_the_format_is_what_it_was() -> None:
    """A change here makes every bus on every disk unreadable: it needs a new FORMAT_VERSION and a way to migrate."""
    assert FORMAT_VERSION == 2
    assert frame.segment_header(1, 2, 3).hex() == "544944534547310a010000000200000000000000030000000000000036a501e0"
    header = "f154444227000000e390d6bf05000000000000000100000000ca9a3b0000000000000000d384e133"
    assert batch(32, 5, b"hi")[:HEADER_BYTES].hex() == header
    assert batch(32, 5, b"hi")[HEADER_BYTES:] == b"\x91\x96\xa4id-0\xb8application/octet-stream\xc4\x02hi\xc0\xc0\xc0"
