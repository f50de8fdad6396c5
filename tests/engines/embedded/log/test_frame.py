"""The bytes of batches and segment headers: the same back, or nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.sample import SALT, TIME_NS, batch, records, seal
from tidings.engines.embedded.log import frame
from tidings.engines.embedded.log.frame import HEADER_BYTES, SEGMENT_HEADER_BYTES
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
)
def test_a_batch_comes_back_as_it_was_written(given_records: list[Record], base: int, time_ns: int, seed: int) -> None:
    body = frame.encode_body(given_records)
    data = frame.batch_header(len(body), frame.body_crc(body), base, len(given_records), time_ns, seed) + body
    header = frame.parse_header(b"xyz" + data, 3, seed)
    assert header is not None
    assert (header.base, header.end, header.time_ns) == (base, base + len(given_records), time_ns)
    found = frame.decode_records(header, body)
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


def test_a_count_that_the_body_does_not_have_is_refused() -> None:
    body = frame.encode_body(records(b"one"))
    data = frame.batch_header(len(body), frame.body_crc(body), 0, 2, TIME_NS, SALT + 100) + body
    assert parse(data) is None


def test_a_body_that_is_no_list_of_records_is_refused() -> None:
    body = msgspec.msgpack.encode({"no": "records"})
    data = frame.batch_header(len(body), frame.body_crc(body), 0, 1, TIME_NS, SALT + 100) + body
    assert parse(data) is None


def test_a_field_that_a_later_version_adds_to_a_record_is_no_new_format() -> None:
    body = msgspec.msgpack.encode([["id", "text", b"data", None, None, {"later": 1}, "much later"]])
    data = frame.batch_header(len(body), frame.body_crc(body), 0, 1, TIME_NS, SALT + 100) + body
    assert parse(data) == [("id", b"data")]


def test_a_segment_header_comes_back_and_no_flipped_bit_or_cut_does() -> None:
    whole = frame.segment_header(SALT, 42, TIME_NS)
    assert len(whole) == SEGMENT_HEADER_BYTES
    assert frame.parse_segment_header(whole + b"what follows") == (SALT, 42, TIME_NS)
    assert [number for number, data in enumerate(flips(whole)) if frame.parse_segment_header(data)] == []
    assert [length for length in range(len(whole)) if frame.parse_segment_header(whole[:length])] == []


def test_the_format_is_what_it_was() -> None:
    """A change here makes every bus on every disk unreadable: it needs a new FORMAT_VERSION and a way to migrate."""
    assert frame.FORMAT_VERSION == 1
    assert frame.segment_header(1, 2, 3).hex() == "544944534547310a010000000200000000000000030000000000000036a501e0"
    header = "f154444227000000e390d6bf05000000000000000100000000ca9a3b0000000000000000d384e133"
    assert batch(32, 5, b"hi")[:HEADER_BYTES].hex() == header
    assert batch(32, 5, b"hi")[HEADER_BYTES:] == b"\x91\x96\xa4id-0\xb8application/octet-stream\xc4\x02hi\xc0\xc0\xc0"
