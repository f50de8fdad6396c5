"""Options a user can set, and every limit with its default and the reason for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from tidings.errors import InvalidOption
from tidings.model.topics import Pattern

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest encoded message. NATS refuses above 1 MiB and Kafka does by default; 8 MiB still fits every engine's frame
when raised there, and one message is never more than an eighth of a log segment."""

MAX_BATCH_MESSAGES = 10_000
"""Messages stored by one append of `publish_batch`; a longer list is stored in several. Bounds the memory of a reader,
which decodes a stored batch at once."""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of data stored by one append of `publish_batch`, for the same reason (a single message may be larger)."""

MAX_HEADERS = 64
"""Headers per message: Kafka and AMQP users stay below 20; the bound keeps a batch's decoded form small."""

MAX_HEADER_BYTES = 8 * 1024
"""Bytes of all names and values of the headers: what HTTP servers and NATS take."""

MAX_KEY_BYTES = 1024
"""Bytes of a partition key; keys are identifiers, not data."""

MAX_PARTITIONS = 256
"""Partitions of a topic. Each is a folder and an open file in every process that reads it."""

DEFAULT_PREFETCH = 1000
"""Messages a consumer may hold unsettled. Claims grow towards it only while the consumer keeps up (see APPETITE)."""

MAX_PREFETCH = 10_000
"""More would only move the backlog from the disk into one consumer's memory."""

APPETITE_SECONDS = 0.02
"""A consumer claims what it worked off in this time, so a slow handler holds few messages and a fast one many."""

FLUSH_SECONDS = 0.05
"""Automatic acks are gathered for at most this long; a killed consumer repeats no more than that."""

LEASE_SECONDS = 30.0
"""How long a stopped consumer keeps its messages. Renewed at a third of it. RabbitMQ and Pub/Sub users see 30 s as the
shortest that no ordinary pause reaches. A killed consumer's messages move at once, whatever the lease."""

MAX_EXTEND_SECONDS = 12 * 3600.0
"""Longest single `extend`: a wedged handler gives its message back within half a day."""

RETRY_DELAY_SECONDS = 0.5
"""First delay after a failed handler; long enough for a dropped connection to come back."""

RETRY_BACKOFF = 2.0
"""Each further delay is this many times the one before."""

RETRY_MAX_DELAY_SECONDS = 60.0
"""Longest delay between attempts: an operator who mends a cause sees the effect within a minute."""

MAX_OFFSET = 2**62
"""Far beyond any log, and within the integers of every store."""

MAX_DELAY_SECONDS = 7 * 86400.0
"""Longest `nack(delay_seconds=)`."""

CLOSE_SECONDS = 30.0
"""How long `Listener.stop()` and `close()` wait for a running handler: one lease."""


class Durability(StrEnum):
    """What a stored message survives: `memory` nothing, `os` the death of any process, `disk` the loss of power."""

    MEMORY = "memory"
    OS = "os"
    DISK = "disk"


class TopicOptions(Struct, frozen=True, kw_only=True):
    """How a topic keeps its messages. Limits trim whole segments of the log, oldest first, and never the newest.

    `partitions`: 1 to 256 logs; messages with equal key share one. `retention_period` in seconds (or a timedelta),
    `retention_bytes`, `retention_messages`: per partition; None keeps everything.
    """

    partitions: int = 1
    retention_period: float | timedelta | None = None
    retention_bytes: int | None = None
    retention_messages: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.retention_period, timedelta):
            force_setattr(self, "retention_period", self.retention_period.total_seconds())
        check_range("partitions", self.partitions, 1, MAX_PARTITIONS)
        for name in ("retention_period", "retention_bytes", "retention_messages"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidOption(name, value, "give a positive number, or None to keep everything")

    @property
    def retention_seconds(self) -> float | None:
        """`retention_period` as a number."""
        period = self.retention_period
        return period.total_seconds() if isinstance(period, timedelta) else period


Start = str | int | float
"""Where reading starts: "end", "beginning", an offset (int) or a time in seconds since the epoch (float)."""


class SubscriptionSpec(Struct, frozen=True, kw_only=True):
    """A subscription as the engine sees it: what to read, as whom, from where."""

    patterns: tuple[Pattern, ...]
    group: str | None = None
    consumer: str = ""
    start: Start = "end"
    prefetch: int = DEFAULT_PREFETCH


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise `InvalidOption` unless `value` is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidOption(name, value, f"give a number from {low} to {high}")


def check_name(argument: str, value: Any) -> str:
    """Return the name of a group or consumer, or raise `InvalidOption`: 1 to 128 printable characters."""
    if isinstance(value, str) and 1 <= len(value) <= 128 and value.isprintable() and value.strip() == value:
        return value
    raise InvalidOption(argument, value, "give 1 to 128 printable characters, without blanks around them")


def resolve_start(
    from_beginning: bool, since: datetime | timedelta | None, from_offset: int | None, now: float
) -> Start:
    """Return the one start position that the three parameters of `subscribe` ask for."""
    if (from_beginning is True) + (since is not None) + (from_offset is not None) > 1:
        raise InvalidOption("from_offset", from_offset, "give only one of from_beginning, since and from_offset")
    if since is not None:
        return _time("since", since, now)
    if from_offset is not None:
        check_range("from_offset", from_offset, 0, MAX_OFFSET)
        return int(from_offset)
    return "beginning" if from_beginning else "end"


def resolve_place(to: Any, now: float) -> Start:
    """Return the start position that `seek_group` asks for."""
    if to in ("beginning", "end"):
        return str(to)
    if isinstance(to, int):
        check_range("to", to, 0, MAX_OFFSET)
        return to
    return _time("to", to, now)


def _time(argument: str, moment: Any, now: float) -> float:
    """Return a datetime, or a timedelta back from now, as seconds since the epoch."""
    if isinstance(moment, timedelta):
        return now - moment.total_seconds()
    if isinstance(moment, datetime):
        return moment.timestamp()
    ways = "" if argument == "since" else ' "beginning", "end", an offset,'
    raise InvalidOption(argument, moment, f"give{ways} a datetime, or a timedelta back from now")
