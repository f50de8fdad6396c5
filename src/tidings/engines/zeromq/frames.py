"""A message as ZeroMQ's frames, and back. What other programs send is taken for what it looks like, never an error.

    full    three frames: topic, body, envelope (JSON: id, content type, key, headers ...)
    plain   one frame: topic, a space, body

Of a foreign message with several frames the first is the topic and the others are the body; of one with a single frame
the first word is the topic and the rest the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal
from uuid import uuid4

import msgspec
from msgspec import Meta

from tidings.brokers.wire import Envelope, unpack
from tidings.errors import InvalidTopic
from tidings.model.message import Record, StoredRecord
from tidings.model.options import MAX_OFFSET
from tidings.model.topics import validate_topic

MARK = b"\0tidings?"
"""How probes begin: a subscriber subscribes to one of its own, and whoever filters for it sends it back. No topic can
begin so, and to a program that prints all it hears it is text."""

UNNAMED = "unnamed"
"""The topic of a foreign message that names none."""

_JSON_BEGINS = (b"{", b"[", b'"')


KNOWN_TOPICS = 10_000
"""Names of topics that are remembered as they are spelled in frames. Some 2 MB."""

FAR = 1e11
"""Seconds since the epoch that no clock shows: the year 5138."""


class Sent(Envelope, kw_only=True, omit_defaults=True):
    """The envelope. `tidings`: how it is to be read. `at`: when it was published, in seconds since the epoch; `number`:
    the how manieth of its topic it is, from 1, in the series `by` of one publisher."""

    tidings: Literal[1]
    at: Annotated[float, Meta(ge=0, lt=FAR)] = 0.0
    by: str = ""
    number: Annotated[int, Meta(ge=0, lt=MAX_OFFSET)] = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sent).decode


def to_frames(topic: bytes, record: Record, body: bytes, sent: Sent) -> list[bytes]:
    """Return the frames of a message; `sent` has what the record does not know."""
    sent.id = record.id
    sent.content_type = record.content_type
    sent.key = record.key
    sent.expires = record.expires_at
    sent.headers = record.headers
    return [topic, body, _encode(sent)]


def to_plain(topic: bytes, body: bytes) -> list[bytes]:
    """Return the one frame of a message for programs that know only text."""
    return [topic + b" " + body]


def from_frames(frames: Sequence[bytes], now: float, limit: int) -> tuple[str, StoredRecord, Sent]:
    """Return topic, record and envelope of what came. `limit`: bytes that compressed data may hold."""
    if len(frames) == 3:
        try:
            sent = _decode(frames[2])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            sent.at = sent.at or now
            return _topic(frames[0]) or UNNAMED, unpack(frames[1], sent, sent.id or uuid4().hex, limit), sent
    topic, body = _parted(frames)
    sent = Sent(tidings=1, at=now)
    return topic, unpack(body, sent, uuid4().hex, limit), sent


def _parted(frames: Sequence[bytes]) -> tuple[str, bytes]:
    """Return topic and body of a foreign message."""
    first, *others = frames
    if others:
        topic = _topic(first)
        return topic or UNNAMED, b"".join(others)
    word, _, rest = first.partition(b" ")
    topic = None if first.startswith(_JSON_BEGINS) else _topic(word)
    return (topic, rest) if topic else (UNNAMED, first)


@lru_cache(KNOWN_TOPICS)
def _topic(name: bytes) -> str | None:
    try:
        return validate_topic(name.decode())
    except (UnicodeDecodeError, InvalidTopic):
        return None
