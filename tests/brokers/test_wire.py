"""A record travels as body and headers and comes back as it was; what others send is read as they mean it."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.brokers import wire
from tidings.brokers.wire import Envelope, from_headers, guess, pack, read_time, to_headers, unpack
from tidings.model.codec import BYTES, JSON, TEXT, decode, encode
from tidings.model.compression import Compression, compress

LIMIT = 1 << 20

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.one_of(
    TEXTS.filter(bool),
    st.sampled_from([*wire.OWN, *map(str.lower, wire.OWN), f"{wire.USERS}Tidings-Key", wire.USERS, "source"]),
)
HEADERS = st.dictionaries(NAMES, TEXTS, max_size=4)
ENVELOPES = st.builds(
    Envelope,
    id=st.none() | TEXTS,
    content_type=st.none() | TEXTS,
    encoding=st.none() | TEXTS,
    key=st.none() | TEXTS,
    expires=st.none() | st.floats(allow_nan=False),
    headers=st.none() | HEADERS.filter(bool),
)


@given(ENVELOPES)
def test_headers_come_back_as_they_were(envelope: Envelope) -> None:
    """Also a user's that has a name of the library's: it is neither lost nor believed."""
    pairs = list(to_headers(envelope))
    assert len({name.lower() for name, _ in pairs if name in wire.OWN}) == len([n for n, _ in pairs if n in wire.OWN])
    assert from_headers(dict(pairs)) == envelope


def test_a_plain_program_sees_the_headers_by_name() -> None:
    envelope = Envelope("id1", JSON, "zstd", "ann", 5.5, {"source": "web"})
    assert dict(to_headers(envelope)) == {
        "source": "web",
        "Tidings-Id": "id1",
        "Content-Type": JSON,
        "Content-Encoding": "zstd",
        "Tidings-Key": "ann",
        "Tidings-Expires": "5.5",
    }
    assert list(to_headers(Envelope())) == []


def test_a_users_header_never_becomes_the_librarys() -> None:
    said = {"Tidings-Key": "k", "tidings-id": "i", "Content-Type": "x", "Tidings-Priority": "9"}
    pairs = dict(to_headers(Envelope(headers=said)))
    assert set(pairs) == {wire.USERS + name for name in said}
    assert from_headers(pairs) == Envelope(headers=said)


def test_what_a_foreign_program_says_counts_in_any_case() -> None:
    found = from_headers({"content-type": "text/html", "TIDINGS-KEY": "k", "x-mine": "1"})
    assert found == Envelope(content_type="text/html", key="k", headers={"x-mine": "1"})


@pytest.mark.parametrize(("text", "time"), [("5", 5.0), ("1e3", 1000.0), ("soon", None), ("", None), (None, None)])
def test_a_time_that_is_none_is_left_out(text: str | None, time: float | None) -> None:
    assert read_time(text) == time
    assert from_headers({} if text is None else {"Tidings-Expires": text}).expires == time


DATA: st.SearchStrategy[Any] = st.one_of(
    st.binary(),
    TEXTS,
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS, lambda inner: st.lists(inner)),
)


@given(DATA, ENVELOPES, st.none() | st.sampled_from(Compression))
def test_a_record_comes_back_as_it_was(data: Any, envelope: Envelope, compression: Compression | None) -> None:
    content_type, encoded = encode(data)
    body, encoding = pack(encoded, compression)
    envelope.content_type, envelope.encoding = content_type, encoding
    record = unpack(body, from_headers(dict(to_headers(envelope))), "new", LIMIT)
    assert decode(record.content_type, record.data) == data
    assert (record.id, record.key, record.headers) == (envelope.id or "new", envelope.key, envelope.headers)
    assert (record.expires_at, record.content_type) == (envelope.expires, content_type)


@given(st.binary(max_size=64), st.dictionaries(TEXTS, TEXTS, max_size=4))
def test_nothing_that_is_foreign_is_an_error(body: bytes, headers: dict[str, str]) -> None:
    record = unpack(body, from_headers(headers), "new", LIMIT)
    assert record.data == body
    assert isinstance(decode(record.content_type, record.data), (bytes, str, int, float, list, dict, bool, type(None)))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"a": 1}', JSON),
        (b"42", JSON),
        (b"null", JSON),
        (b' "text" ', JSON),
        (b"sensor_001 25.5", TEXT),
        ("Grüezi".encode(), TEXT),
        (b"", TEXT),
        (b"\xff\xfe\x00", BYTES),
        (b'{"a": 1', TEXT),
    ],
)
def test_foreign_bytes_are_taken_for_what_they_look_like(body: bytes, content_type: str) -> None:
    assert guess(body) == content_type
    assert unpack(body, Envelope(), "new", LIMIT).content_type == content_type
    assert unpack(body, Envelope(content_type="image/png"), "new", LIMIT).content_type == "image/png"


@pytest.mark.parametrize("kind", Compression)
def test_what_is_not_in_its_encoding_stays_as_it_is(kind: Compression) -> None:
    """Damaged, cut off, or more than a reader takes: it says so itself, and nobody has to die of it."""
    whole = compress(kind, json.dumps(list(range(1000))).encode())
    for body, limit in ((b"plain text", LIMIT), (whole[:-1], LIMIT), (whole, 100)):
        record = unpack(body, Envelope(encoding=kind.value, headers={"a": "b"}), "new", limit)
        assert (record.data, record.headers) == (body, {"a": "b", "Content-Encoding": kind.value})
    assert unpack(whole, Envelope(encoding=kind.value), "new", LIMIT).headers is None


def test_an_unknown_encoding_stays_as_it_is() -> None:
    body = zlib.compress(b"x")
    record = unpack(body, Envelope(encoding="deflate"), "new", LIMIT)
    assert (record.data, record.headers) == (body, {"Content-Encoding": "deflate"})
    again = unpack(body, from_headers(dict(to_headers(Envelope(headers=record.headers)))), "new", LIMIT)
    assert again.headers == record.headers


def test_without_compression_the_body_is_the_data_itself() -> None:
    data = b"x" * 1000
    assert pack(data, None)[0] is data
    assert unpack(data, Envelope(content_type=BYTES), "new", LIMIT).data is data
