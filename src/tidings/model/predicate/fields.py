"""What a filter sees of a message besides its data and headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from msgspec import Struct

from tidings.errors import InvalidOption
from tidings.model.message import ROUTING_KEY, Message, read_routing_key
from tidings.model.options import check_priority

MAX_TIME_LETTERS = 64
"""Letters of a time, twice those of the longest one: what has more is none, and is not looked through."""

_BLANK_BEFORE_ZONE = re.compile(r"\s+(?=(?:[+-]\d\d:?\d\d|Z)$)")


def read_time(text: str) -> float:
    """Return an ISO 8601 time as seconds since the epoch, in UTC when it names no zone. Raises `ValueError`."""
    try:
        if len(text) > MAX_TIME_LETTERS:
            raise ValueError
        moment = datetime.fromisoformat(_BLANK_BEFORE_ZONE.sub("", text.strip().upper()))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError("it is no time; write it as '2026-01-31' or '2026-01-31T12:00:00Z'") from error


def read_priority(text: str) -> int:
    """Return the number of a priority that has a name. Raises `ValueError`."""
    try:
        return check_priority(text)
    except InvalidOption:
        raise ValueError("it is no priority; write 'low', 'normal', 'high', or a number from 0 to 9") from None


MAX_ROUTING_KEYS = 1024
"""Keys that a process keeps decoded for its filters: the same ones come again and again, and many filters ask."""

_routing_key = lru_cache(maxsize=MAX_ROUTING_KEYS)(read_routing_key)


class Field(Struct, frozen=True):
    """One of them: what it says, how it is read, and how a text that it is compared with is."""

    description: str
    read: Callable[[Message], Any]
    literal: Callable[[str], Any] | None = None


FIELDS: dict[str, Field] = {
    "_topic": Field("The name of the topic.", lambda m: m.topic),
    "_key": Field("The partition key; NULL without one.", lambda m: m.key),
    "_priority": Field("The priority, 0 to 9; it may be compared with a name.", lambda m: m.priority, read_priority),
    "_published_at": Field(
        "When it was published, in seconds since the epoch; it may be compared with an ISO 8601 time.",
        lambda m: m.published_at,
        read_time,
    ),
    "_expires_at": Field("When it expires, likewise; NULL: never.", lambda m: m.expires_at, read_time),
    "_attempt": Field("Which delivery this is, from 1. A filter decides at the first one.", lambda m: m.attempt),
    "_id": Field("The id of the message.", lambda m: m.id),
    "_partition": Field("The partition, from 0.", lambda m: m.partition),
    "_offset": Field("The place in the partition, from 0.", lambda m: m.offset),
    "_content_type": Field("The content type.", lambda m: m.content_type),
    "_routing_key": Field(
        "What an exchange routes it by, any JSON; NULL without.", lambda m: _routing_key(m.headers.get(ROUTING_KEY))
    ),
}
