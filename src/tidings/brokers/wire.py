"""A record as it travels: the payload is the body, what else there is goes into the headers of the broker.

A plain program of the broker reads the body and sees the headers; what a plain program sends is read as it is meant: by
its content type if it names one, else as JSON if it is JSON, as text if it is text, and as bytes if it is neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from tidings.errors import DecompressionBomb, UnreadableData
from tidings.model.codec import BYTES, JSON, TEXT, decode
from tidings.model.compression import Compression, compress, decompress
from tidings.model.message import StoredRecord

CONTENT_TYPE = "Content-Type"
CONTENT_ENCODING = "Content-Encoding"
MESSAGE_ID = "Tidings-Id"
KEY = "Tidings-Key"
EXPIRES = "Tidings-Expires"
PRIORITY = "Tidings-Priority"
PUBLISHED = "Tidings-Published"

OWN = frozenset({CONTENT_TYPE, CONTENT_ENCODING, MESSAGE_ID, KEY, EXPIRES, PRIORITY, PUBLISHED})
"""Headers that the library sets; the others are the user's."""

USERS = "Tidings-Header-"
"""What stands before a header of the user's that has one of these names, so that nobody takes it for the library's."""

_OWN = {name.lower() for name in OWN}


class Envelope(Struct):
    """What a message says besides its body. `expires` is in seconds since the epoch; `headers` are the user's."""

    id: str | None = None
    content_type: str | None = None
    encoding: str | None = None
    key: str | None = None
    expires: float | None = None
    headers: dict[str, str] | None = None


def pack(data: bytes, compression: Compression | None) -> tuple[bytes, str | None]:
    """Return the body, and its content encoding if it has one."""
    return (data, None) if compression is None else (compress(compression, data), compression.value)


def unpack(body: bytes, envelope: Envelope, new_id: str, limit: int) -> StoredRecord:
    """Return the record of a message that was received. What names no id gets `new_id`. A body in an encoding that is
    not known, or is not what it says, or is too large, stays as it is; so does its name, in the headers."""
    data, headers = body, envelope.headers
    if envelope.encoding:
        try:
            data = decompress(Compression(envelope.encoding), body, limit)
        except (ValueError, UnreadableData, DecompressionBomb):
            headers = {**(headers or {}), CONTENT_ENCODING: envelope.encoding}
    content_type = envelope.content_type or guess(data)
    extra = {"expires": envelope.expires} if envelope.expires is not None else None
    return StoredRecord(envelope.id or new_id, content_type, data, envelope.key, headers, extra)


def guess(data: bytes) -> str:
    """Return the content type that foreign bytes have by the look of them."""
    if not isinstance(decode(JSON, data), bytes):
        return JSON
    return TEXT if isinstance(decode(TEXT, data), str) else BYTES


def to_headers(envelope: Envelope) -> Iterator[tuple[str, str]]:
    """Yield the headers of a message, for brokers whose headers are pairs of text."""
    for name, value in (envelope.headers or {}).items():
        yield USERS + name if _is_own(name) else name, value
    own = (
        (MESSAGE_ID, envelope.id),
        (CONTENT_TYPE, envelope.content_type),
        (CONTENT_ENCODING, envelope.encoding),
        (KEY, envelope.key),
        (EXPIRES, None if envelope.expires is None else repr(envelope.expires)),
    )
    yield from ((name, value) for name, value in own if value is not None)


def from_headers(headers: Mapping[str, str]) -> Envelope:
    """Read the headers of a message."""
    own: dict[str, str] = {}
    users: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in _OWN:
            own[name.lower()] = value
        else:
            users[name.removeprefix(USERS)] = value
    return Envelope(
        own.get(MESSAGE_ID.lower()),
        own.get(CONTENT_TYPE.lower()),
        own.get(CONTENT_ENCODING.lower()),
        own.get(KEY.lower()),
        read_time(own.get(EXPIRES.lower())),
        users or None,
    )


def _is_own(name: str) -> bool:
    return name.lower() in _OWN or name.startswith(USERS)


def read_time(text: str | None) -> float | None:
    """Return a number of seconds; None for what a foreign program wrote there instead."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
