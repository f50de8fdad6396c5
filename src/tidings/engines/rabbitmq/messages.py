"""A record as a message of AMQP, and back: the properties that AMQP has for it, and headers for the rest."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import uuid4

import msgspec
from pamqp import commands

from tidings.brokers.feed import Delivery
from tidings.brokers.routing import from_dotted
from tidings.brokers.wire import (
    EXPIRES,
    KEY,
    PUBLISHED,
    USERS,
    Envelope,
    from_headers,
    pack,
    read_time,
    to_headers,
    unpack,
)
from tidings.engines.rabbitmq.channel import Arrival
from tidings.errors import InvalidTopic
from tidings.model.compression import Compression
from tidings.model.message import Record
from tidings.model.topics import validate_topic

TOPIC = "Tidings-Topic"
"""The topic, where the routing key does not say it."""

FAILURES = "Tidings-Failures"
"""How many deliveries of the message to the group have failed."""

COUNTED = "Tidings-Counted"
"""That the broker's count of deliveries counts nothing but deaths: see `groups`."""

RETRY = "Tidings-Retry"
"""That the message goes back to one queue, not to the exchange of the bus."""

DELAY = "Tidings-Delay-"
"""One for each level of the delays in which the message waits."""

WIDE = "Tidings-Headers"
"""The user's headers whose names are longer than a name in AMQP may be, as JSON."""

MAX_HEADER_NAME = 255
"""Bytes of the name of a header: a short string of AMQP."""

BROKERS = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-stream-offset"})
"""Headers that RabbitMQ takes for its own."""

UNNAMED = "unnamed"
"""The topic of messages whose routing key is the name of none."""

SHORT = 100
"""Characters of a topic whose routing key says it for sure; that of a longer one may be a fingerprint."""

_DEATHS = ("x-first-death-", "x-last-death-")
_INTERNAL = (TOPIC, FAILURES, COUNTED, RETRY, WIDE, PUBLISHED)

COUNT = "x-delivery-count"
OFFSET = "x-stream-offset"


def properties_of(
    record: Record, topic: str, compression: Compression | None, now: float, kept: bool, way: dict[str, Any]
) -> tuple[commands.Basic.Properties, bytes]:
    """Return the properties and the body of a record that is published now. `kept`: it survives a restart; `way`:
    headers that lead it."""
    body, encoding = pack(record.data, compression)
    headers: dict[str, Any] = {PUBLISHED: repr(now), **way}
    if record.key is not None:
        headers[KEY] = record.key
    expires = record.expires_at
    if expires is not None:
        headers[EXPIRES] = repr(expires)
    if record.headers:
        _add_users(headers, record.headers)
    if len(topic) > SHORT:
        headers[TOPIC] = topic
    properties = commands.Basic.Properties(
        content_type=record.content_type,
        content_encoding=encoding,
        headers=headers,
        delivery_mode=2 if kept else 1,
        message_id=record.id,
        timestamp=datetime.fromtimestamp(now, UTC),
    )
    return properties, body


def _add_users(headers: dict[str, Any], users: dict[str, str]) -> None:
    wide = {}
    for name, value in to_headers(Envelope(headers=users)):
        if name in BROKERS or name.startswith((*_DEATHS, DELAY)) or name in _INTERNAL:
            name = USERS + name
        if len(name.encode()) > MAX_HEADER_NAME:
            wide[name] = value
        else:
            headers[name] = value
    if wide:
        headers[WIDE] = msgspec.json.encode(wide).decode()


def topic_of(arrival: Arrival, otherwise: str | None) -> str:
    """Return the topic of a message. `otherwise`: that of one that is not ours on an exchange that knows no topics."""
    headers = arrival.properties.headers or {}
    named = headers.get(TOPIC)
    if otherwise is not None and PUBLISHED not in headers:
        return otherwise
    return _valid(named if isinstance(named, str) else from_dotted(arrival.key))


@lru_cache(maxsize=10_000)  # as many topics as one consumer may meet often
def _valid(name: str) -> str:
    try:
        return validate_topic(name)
    except InvalidTopic:
        return UNNAMED


def delivery_of(arrival: Arrival, topic: str, handle: Any, limit: int, now: float) -> Delivery:
    """Return the message as it is delivered for the first time, or after so many failures as its header says."""
    properties = arrival.properties
    headers = properties.headers or {}
    text = {name: str(value) for name, value in headers.items() if _is_told(name, value)}
    if WIDE in headers:
        text.update(_read_wide(headers[WIDE]))
    envelope = from_headers(text)
    envelope.id = properties.message_id or envelope.id
    envelope.content_type = properties.content_type or envelope.content_type
    envelope.encoding = properties.content_encoding or envelope.encoding
    record = unpack(arrival.body, envelope, envelope.id or uuid4().hex, limit)
    offset = headers.get(OFFSET)
    published = read_time(str(headers[PUBLISHED])) if PUBLISHED in headers else None
    if published is None or not math.isfinite(published):
        published = properties.timestamp.timestamp() if properties.timestamp is not None else now
    place = offset if isinstance(offset, int) else -1
    return Delivery(record, topic, 0, place, published, 1 + count(headers, FAILURES), handle)


def count(headers: Any, name: str) -> int:
    """Return a count out of the headers, 0 where there is none."""
    value = (headers or {}).get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _is_told(name: str, value: Any) -> bool:
    """Whether a header is one that users see."""
    if name in BROKERS or name in _INTERNAL or name.startswith((*_DEATHS, DELAY)):
        return False
    return isinstance(value, (str, int, float, datetime))


def _read_wide(value: Any) -> dict[str, str]:
    try:
        return msgspec.json.decode(value, type=dict[str, str])
    except (msgspec.MsgspecError, TypeError):
        return {}


def again(arrival: Arrival, topic: str, failures: int, counted: bool, way: dict[str, Any]) -> commands.Basic.Properties:
    """Return the properties of a message that goes back to its queue. `way`: headers that lead it there."""
    old = arrival.properties
    headers = {name: value for name, value in (old.headers or {}).items() if _travels(name)}
    headers |= {TOPIC: topic, FAILURES: failures, **way}
    if counted:
        headers[COUNTED] = True
    return commands.Basic.Properties(
        content_type=old.content_type,
        content_encoding=old.content_encoding,
        headers=headers,
        delivery_mode=2,
        priority=old.priority,
        correlation_id=old.correlation_id,
        reply_to=old.reply_to,
        message_id=old.message_id,
        timestamp=old.timestamp,
        message_type=old.message_type,
        app_id=old.app_id,
    )


def _travels(name: str) -> bool:
    return name not in BROKERS and not name.startswith((*_DEATHS, DELAY))
