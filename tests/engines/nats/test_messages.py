"""Records as NATS messages and back, through the bytes of the headers; and what other programs send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.engines.nats.messages import MESSAGE_ID, MORE, to_message, to_record
from tidings.model.codec import JSON, decode, encode
from tidings.model.compression import Compression
from tidings.model.message import Record

LIMIT = 1_000_000
TEXTS = st.text(max_size=20).filter(str.isprintable)
NAMES = TEXTS.filter(bool) | st.sampled_from(["Nats-TTL", "nats-msg-id", MORE, "Content-Type", "a:b", " a", "Status"])
HEADERS = st.none() | st.dictionaries(NAMES, TEXTS, min_size=1, max_size=5)


def over_the_wire(headers: dict[str, str]) -> dict[str, str]:
    """What a server and a driver make of headers: lines, with blanks around the values lost."""
    lines = "\r\n".join(f"{name.strip()}: {value.strip()}" for name, value in headers.items())
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines.split("\r\n")) if name}


@st.composite
def records(draw: st.DrawFn) -> Record:
    kinds = st.one_of(st.none(), st.integers(-(2**60), 2**60), st.text(), st.binary(), st.dictionaries(TEXTS, TEXTS))
    content_type, body = encode(draw(kinds))
    expires = draw(st.none() | st.floats(0, 2e9))
    extra = None if expires is None else {"expires": expires}
    key = draw(st.none() | st.text(min_size=1))
    return Record(draw(TEXTS.filter(bool)), content_type, body, key, draw(HEADERS), extra)


def parts(record: Record) -> tuple[Any, ...]:
    return record.id, record.content_type, record.data, record.key, record.headers or None, record.expires_at


@given(records(), st.sampled_from([None, *Compression]))
def test_what_goes_in_comes_out(record: Record, compression: Compression | None) -> None:
    body, headers = to_message(record, compression)
    assert parts(to_record(body, over_the_wire(headers), "new", LIMIT)) == parts(record)


def test_ordinary_headers_are_what_a_plain_program_sees() -> None:
    body, headers = to_message(Record("id", JSON, b"1", "k", {"trace": "7", "Nats-TTL": "1s"}), None)
    assert (body, headers["trace"], headers["Content-Type"], headers["Tidings-Key"]) == (b"1", "7", JSON, "k")
    assert "Nats-TTL" not in headers


@pytest.mark.parametrize(
    ("body", "headers", "data"),
    [
        (b'{"a": 1}', None, {"a": 1}),
        (b"plain", {}, "plain"),
        (b"\xff\xfe", None, b"\xff\xfe"),
        (b"7", {"Content-Type": "text/plain"}, "7"),
        (b"x", {"Content-Encoding": "gzip"}, "x"),
        (b"x", {"Tidings-Expires": "never", MORE: "no json"}, "x"),
        (b"x", {"Tidings-Key": "=%ff%zz", "Tidings-Id": "=%E9"}, "x"),
        (b"x", {MORE: "[1]"}, "x"),
        (b"x", {MORE: '{"a": 1}'}, "x"),
        (b"x", {MORE: "[" * 100_000}, "x"),
    ],
)
def test_messages_of_other_programs_are_data(body: bytes, headers: dict[str, str] | None, data: Any) -> None:
    found = to_record(body, headers, "new", LIMIT)
    assert decode(found.content_type, found.data) == data
    assert found.id
    assert found.expires_at is None


def test_an_id_of_nats_is_an_id() -> None:
    assert to_record(b"1", {MESSAGE_ID: "theirs"}, "new", LIMIT).id == "theirs"
    assert to_record(b"1", {"a": "b"}, "new", LIMIT).id == "new"
