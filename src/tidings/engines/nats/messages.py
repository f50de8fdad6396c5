"""A record as a NATS message: body and headers, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from tidings.brokers import wire
from tidings.brokers.wire import Envelope
from tidings.model.compression import Compression
from tidings.model.message import Record, StoredRecord

MORE = "Tidings-More"
"""Holds, as a JSON object, the user's headers that would not travel as they are: with odd characters, or named as those
that command the server."""

ENCODED = "="
"""A value of ours that begins so is percent-encoded after it: a key or id of odd characters."""

MESSAGE_ID = "Nats-Msg-Id"
TTL = "Nats-TTL"

_PLAIN_NAME = re.compile(r"(?!(?i:nats-|tidings-more$))[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def to_message(record: Record, compression: Compression | None) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a record."""
    body, encoding = wire.pack(record.data, compression)
    users = record.headers or {}
    plain = {name: value for name, value in users.items() if _travels(name, value)} if users else None
    own = Envelope(_own(record.id), _own(record.content_type), encoding, _own(record.key), record.expires_at, plain)
    headers = dict(wire.to_headers(own))
    if plain is not None and len(plain) < len(users):
        headers[MORE] = json.dumps({name: value for name, value in users.items() if name not in plain})
    return body, headers


def _own(value: str | None) -> str | None:
    """Return what stands in a header of ours."""
    return value if value is None or _is_plain(value) else ENCODED + quote(value, safe="")


def _travels(name: str, value: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None and _is_plain(value)


def _is_plain(value: str) -> bool:
    return value.isprintable() and value.strip() == value and value[:1] not in ("", ENCODED)


def to_record(body: bytes, headers: Mapping[str, str] | None, new_id: str, limit: int) -> StoredRecord:
    """Return the record of a message. What names no id has NATS' own, or else `new_id`."""
    if not headers:
        return wire.unpack(body, Envelope(), new_id, limit)
    envelope = wire.from_headers({name: value for name, value in headers.items() if not name.startswith("Nats-")})
    for field in ("id", "content_type", "key"):
        value = getattr(envelope, field)
        if value is not None and value.startswith(ENCODED):
            setattr(envelope, field, unquote(value[1:], errors="replace"))
    if envelope.headers and MORE in envelope.headers:
        envelope.headers |= _read_more(envelope.headers.pop(MORE))
    return wire.unpack(body, envelope, headers.get(MESSAGE_ID, new_id), limit)


def _read_more(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {MORE: text}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {MORE: text}
