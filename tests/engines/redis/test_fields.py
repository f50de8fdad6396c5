"""Records as entries of a stream and as payloads of a channel: what goes in comes out, and foreign ones are data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.brokers.wire import CONTENT_TYPE, MESSAGE_ID
from tidings.engines.redis.fields import (
    DATA,
    MAGIC,
    extra_fields,
    flatten,
    from_payload,
    read_entry,
    to_payload,
)
from tidings.model.codec import BYTES, JSON, TEXT, decode, encode
from tidings.model.message import Record

LIMIT = 1_000_000

IDS = st.text(min_size=1, max_size=20).filter(str.isprintable)
TEXTS = st.text(max_size=20).filter(str.isprintable)
DATA_OF_ALL_KINDS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.text(),
    st.binary(),
    st.dictionaries(st.text(), st.text()),
)
HEADERS = st.none() | st.dictionaries(TEXTS.filter(bool), TEXTS, min_size=1, max_size=5)


@st.composite
def records(draw: st.DrawFn) -> Record:
    content_type, body = encode(draw(DATA_OF_ALL_KINDS))
    expires = draw(st.none() | st.floats(0, 2e9))
    extra = None if expires is None else {"expires": expires}
    return Record(draw(IDS), content_type, body, draw(st.none() | st.text(min_size=1)), draw(HEADERS), extra)


def entry(record: Record) -> list[bytes]:
    """The fields of an entry, as the script that publishes writes them."""
    texts = [MESSAGE_ID, record.id, CONTENT_TYPE, record.content_type, *extra_fields(record, None)]
    return [DATA.encode(), record.data, *(text.encode() for text in texts)]


def parts(record: Record) -> tuple[Any, ...]:
    return record.id, record.content_type, record.data, record.key, record.headers or None, record.expires_at


@given(records())
def test_an_entry_holds_all_of_a_record(record: Record) -> None:
    assert parts(read_entry(entry(record), "1-0", LIMIT)) == parts(record)


def test_few_messages_have_more_than_three_fields() -> None:
    assert extra_fields(Record("id", JSON, b"1"), None) == []


@pytest.mark.parametrize("headers", [{DATA: "x"}, {MESSAGE_ID: "x"}, {CONTENT_TYPE: "x"}, {"Tidings-Key": "x"}])
def test_a_users_header_of_a_name_that_is_taken_is_none_of_ours(headers: dict[str, str]) -> None:
    found = read_entry(entry(Record("id", JSON, b"1", None, headers)), "1-0", LIMIT)
    assert (found.id, found.key, found.content_type, found.data, found.headers) == ("id", None, JSON, b"1", headers)


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([b"data", b'{"a": 1}'], {"a": 1}),
        ([b"data", b"plain text"], "plain text"),
        ([b"data", b"\xff\xfe"], b"\xff\xfe"),
        ([b"temperature", b"25", b"unit", b"C"], {"temperature": "25", "unit": "C"}),
        ([b"\xff", b"\xff"], {"\ufffd": "\ufffd"}),
    ],
)
def test_entries_of_other_programs_are_data(fields: list[bytes], data: Any) -> None:
    found = read_entry(fields, "17-3", LIMIT)
    assert decode(found.content_type, found.data) == data
    assert found.id == "17-3"


# -- Pub/Sub


def own(data: Any) -> Record:
    """A record of an id that the library made."""
    content_type, body = encode(data)
    return Record("0123456789ab-1f", content_type, body)


@pytest.mark.parametrize("data", [{"a": 1}, [1], 7, None, True, "text", b"\xff\x00", "", b"\xfe"])
def test_what_loses_nothing_travels_bare(data: Any) -> None:
    record = own(data)
    payload = to_payload(record, record.data, None)
    assert payload == record.data
    found = from_payload(payload, "new", LIMIT)
    assert decode(found.content_type, found.data) == data
    assert found.id == "new"


@pytest.mark.parametrize("data", ["7", "null", '{"a": 1}', b"text", b"7", MAGIC, MAGIC.decode() + "{}\nx"])
def test_what_would_be_guessed_wrong_travels_in_an_envelope(data: Any) -> None:
    record = own(data)
    payload = to_payload(record, record.data, None)
    assert payload.startswith(MAGIC)
    assert payload.endswith(b"\n" + record.data)
    found = from_payload(payload, "new", LIMIT)
    assert (decode(found.content_type, found.data), found.id) == (data, record.id)


@given(records())
def test_a_payload_holds_all_of_a_record(record: Record) -> None:
    found = from_payload(to_payload(record, record.data, None), "new", LIMIT)
    assert parts(found)[1:] == parts(record)[1:]
    assert found.id == record.id or (record.key is None and record.headers is None)


@pytest.mark.parametrize("payload", [MAGIC, MAGIC + b"x", MAGIC + b'{"a": 1}\nx', MAGIC + b"[]\n", b"", b"\xff"])
def test_what_only_looks_like_an_envelope_is_data(payload: bytes) -> None:
    found = from_payload(payload, "new", LIMIT)
    assert found.content_type in (TEXT, BYTES)
    assert found.data == payload


def test_pairs_in_turn() -> None:
    assert flatten([("a", 1), ("b", 2)]) == ["a", 1, "b", 2]
