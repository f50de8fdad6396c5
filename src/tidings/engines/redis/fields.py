"""A record as Redis has it: the fields of an entry in a stream, and what is said on a channel of Pub/Sub.

A stream's entry has the body in `data` and what else there is in fields of the names that headers have elsewhere. On a
channel the payload is the body alone, when nothing is lost by it but an id that the library made; else an envelope:
`tidings/1 `, a JSON object with the same fields, a line feed, and the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tidings.brokers.wire import CONTENT_TYPE, MESSAGE_ID, USERS, Envelope, from_headers, guess, to_headers, unpack
from tidings.model.codec import JSON
from tidings.model.message import Record, StoredRecord

DATA = "data"
"""The field of the body."""

MAGIC = b"tidings/1 "

_DATA, _ID, _TYPE = DATA.encode(), MESSAGE_ID.encode(), CONTENT_TYPE.encode()

_OWN_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")


def envelope_of(record: Record, encoding: str | None) -> Envelope:
    """Return what a record says besides its body."""
    return Envelope(record.id, record.content_type, encoding, record.key, record.expires_at, record.headers)


def extra_fields(record: Record, encoding: str | None) -> list[str]:
    """Return the fields that few messages have: names and values in turn."""
    if record.key is None and record.headers is None and record.extra is None and encoding is None:
        return []
    pairs = (pair for pair in to_headers(envelope_of(record, encoding)) if pair[0] not in (MESSAGE_ID, CONTENT_TYPE))
    return [text for name, value in pairs for text in (USERS + name if name == DATA else name, value)]


def read_entry(fields: list[bytes], entry: str, limit: int) -> StoredRecord:
    """Return the record of a stream's entry, which is called `entry`."""
    if len(fields) == 6 and fields[0] == _DATA and fields[2] == _ID and fields[4] == _TYPE:
        content_type = _types.get(fields[5]) or _type(fields[5])
        return StoredRecord(fields[3].decode(errors="replace"), content_type, fields[1])
    named = {fields[at].decode(errors="replace"): fields[at + 1] for at in range(0, len(fields), 2)}
    body = named.pop(DATA, None)
    texts = {name: value.decode(errors="replace") for name, value in named.items()}
    if body is None:  # of a program with fields of its own: these are the data
        return unpack(msgspec.json.encode(texts), Envelope(entry, JSON), entry, limit)
    return unpack(body, from_headers(texts), entry, limit)


_types: dict[bytes, str] = {}

TYPES = 100
"""Content types that are remembered decoded; programs use a handful."""


def _type(text: bytes) -> str:
    found = text.decode(errors="replace")
    if len(_types) < TYPES:
        _types[text] = found
    return found


# -- Pub/Sub


def to_payload(record: Record, body: bytes, encoding: str | None) -> bytes:
    """Return what is said on the channel."""
    bare = record.headers is None and record.key is None and record.extra is None and encoding is None
    nameless = _OWN_ID.fullmatch(record.id) and not body.startswith(MAGIC)
    if bare and nameless and (record.content_type == JSON or guess(body) == record.content_type):
        return body
    fields: Mapping[str, str] = dict(to_headers(envelope_of(record, encoding)))
    return b"%b%b\n%b" % (MAGIC, msgspec.json.encode(fields), body)


def from_payload(payload: bytes, new_id: str, limit: int) -> StoredRecord:
    """Return the record of what was heard. What looks like an envelope and is none is data."""
    if payload.startswith(MAGIC):
        head, _, body = payload[len(MAGIC) :].partition(b"\n")
        try:
            return unpack(body, from_headers(msgspec.json.decode(head, type=dict[str, str])), new_id, limit)
        except msgspec.MsgspecError:
            pass
    return unpack(payload, Envelope(), new_id, limit)


def flatten(pairs: Iterable[tuple[str, Any]]) -> list[Any]:
    """Return pairs as Redis wants them: one after the other."""
    return [part for pair in pairs for part in pair]
