"""Options a user can set, and every limit with its default and the reason for it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from tidings.errors import InvalidOption, InvalidTopic
from tidings.model.compression import Compression, choose
from tidings.model.topics import DEAD_LETTERS, validate_topic

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

MAX_ROUTING_KEY_BYTES = 4 * 1024
"""Bytes of the JSON that an exchange routes by: it travels in a header, and leaves half of their room to others."""

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
"""Longest `nack(delay_seconds=)`, and longest back-off: a message that waits is held by its group."""

MAX_SCHEDULE_SECONDS = 366 * 86400.0
"""Longest `delay_seconds` and `ttl_seconds`: a reminder for next year works, seconds mixed up with milliseconds do
not."""

MAX_KEEP_SECONDS = 100 * MAX_SCHEDULE_SECONDS
"""Longest `retention_period` and `message_ttl`, a century: None keeps for ever."""

MAX_RETRIES = 10
"""Default of `max_retries`: with the default back-off about three minutes pass before a message is given up, which
outlasts a restart of what its handler depends on."""

MOST_RETRIES = 1_000_000
"""Largest `max_retries`: 60 s apart they take two years, which is as good as for ever."""

DEDUP_WINDOW_SECONDS = 3600.0
"""How long an exactly-once topic remembers the id of a message: publishers retry within minutes."""

DEAD_LETTER_TOPIC = DEAD_LETTERS + "{topic}"
"""Where messages go that a topic's groups give up on, unless it says otherwise."""

MAX_LENGTH = 10**9
"""Largest `max_length`; more is no bound."""

OVERFLOW_SECONDS = 30.0
"""How long a publish to a full topic waits for room, when it is told to wait: a consumer that was restarted is back."""

MAX_SUBSCRIBERS = 1024
"""Largest `max_subscribers`: as many processes as a bus can wake."""

LOWEST_PRIORITY, NORMAL_PRIORITY, HIGHEST_PRIORITY = 0, 5, 9

PRIORITIES = {"low": 1, "normal": NORMAL_PRIORITY, "high": 8}
"""The names of priorities: they leave a lower and a higher one for what nobody thought of."""

CLOSE_SECONDS = 30.0
"""How long `Listener.stop()` and `close()` wait for a running handler: one lease."""


class Durability(StrEnum):
    """What a stored message survives: `memory` nothing, `os` the death of any process, `disk` the loss of power,
    `quorum` the loss of a minority of a cluster's machines."""

    MEMORY = "memory"
    OS = "os"
    DISK = "disk"
    QUORUM = "quorum"


class Guarantee(StrEnum):
    """What a topic guarantees. `exactly_once` speaks of effects: see `TopicOptions`."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"


class Overflow(StrEnum):
    """What a publish to a full topic does."""

    REJECT = "reject"
    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


class TopicOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a topic keeps and delivers its messages. Periods are seconds, or a timedelta.

    `partitions`: 1 to 256 logs; messages with equal key share one.

    `delivery`: "at_least_once": a message is delivered until it is acked. "at_most_once": it is settled before a
    consumer sees it, and not delivered again (after a loss of power the last ones may be). "exactly_once": at least
    once, and a `message_id` that is published again within `dedup_window` (with the same partition key and priority)
    is stored once; with `message.transaction()` a consumer's acks and publishes take effect together.

    `retention_period`, `retention_bytes`, `retention_messages`: per partition, whole segments of the log, oldest first
    and never the newest; None keeps everything. `message_ttl`: a message older than this is not delivered, nor one that
    is older than its own `ttl_seconds`.

    `max_retries`: deliveries after the first one, with a back-off of `retry_delay`, times `retry_backoff` each time,
    at most `retry_max_delay`. Then, or when a consumer rejects it, a message goes to `dead_letter_topic`, in which
    `{topic}` stands for the topic's name; None drops it, counted. `dead_letter_expired`: expired ones go there too.

    `max_length` bounds the messages that a group has not settled (without `Capability.EXACT_LENGTH`: those that wait to
    be delivered), for the slowest group of the topic; `overflow` says what a publish beyond it does: "reject"
    (`TopicFull`), "block" for up to `overflow_timeout` and then reject, or "drop_oldest" (that group skips its oldest
    unread messages, counted where the engine can). Several publishers at once may exceed it by what each stores at
    once. `max_subscribers`: attached subscriptions, in all processes.

    `compression`: "lz4", "zstd" or "gzip", for what is published without saying otherwise.

    `schema`: what a message must look like to be published. A class (msgspec Struct, dataclass, TypedDict, pydantic
    model), a list such as `["order_id STRING NOT NULL", "details MAP<STRING, ANY>"]`, or a mapping of names to types;
    kept as text. Types: STRING, INT, FLOAT, BOOL, TIMESTAMP, DATE, UUID, BYTES, ANY, LIST<T>, MAP<K, V>, STRUCT<...>.
    """

    partitions: int = 1
    delivery: str = Guarantee.AT_LEAST_ONCE
    dedup_window: float | timedelta = DEDUP_WINDOW_SECONDS
    retention_period: float | timedelta | None = None
    retention_bytes: int | None = None
    retention_messages: int | None = None
    message_ttl: float | timedelta | None = None
    max_retries: int = MAX_RETRIES
    retry_delay: float | timedelta = RETRY_DELAY_SECONDS
    retry_backoff: float = RETRY_BACKOFF
    retry_max_delay: float | timedelta = RETRY_MAX_DELAY_SECONDS
    dead_letter_topic: str | None = DEAD_LETTER_TOPIC
    dead_letter_expired: bool = False
    max_length: int | None = None
    overflow: str = Overflow.REJECT
    overflow_timeout: float | timedelta = OVERFLOW_SECONDS
    max_subscribers: int | None = None
    compression: str | None = None
    schema: Any = None

    def __post_init__(self) -> None:
        for name in PERIODS:
            value = getattr(self, name)
            if isinstance(value, timedelta):
                force_setattr(self, name, value.total_seconds())
        for name, kind in (("delivery", Guarantee), ("overflow", Overflow)):
            force_setattr(self, name, check_choice(name, getattr(self, name), kind))
        force_setattr(self, "compression", choose(self.compression))
        check_flag("dead_letter_expired", self.dead_letter_expired)
        if self.schema is not None:
            from tidings.model.schema import parse_schema  # slow to load, and most topics have none

            force_setattr(self, "schema", str(parse_schema(self.schema)))
        for name, (low, high) in _RANGES.items():
            check_range(name, getattr(self, name), low, high)
        for name, (least, most) in _COUNTS.items():
            if getattr(self, name) is not None or name in ("partitions", "max_retries"):
                check_count(name, getattr(self, name), least, most)
        for name in ("message_ttl", "retention_period"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0.001, MAX_KEEP_SECONDS)
        if self.dead_letter_topic is not None:
            _check_template(self.dead_letter_topic)

    def period(self, name: str) -> float:
        """Return one of the periods as a number."""
        value = getattr(self, name)
        return value.total_seconds() if isinstance(value, timedelta) else value

    def dead_letters_of(self, topic: str) -> str | None:
        """Return the name of the dead-letter topic of `topic`; None when its messages are dropped.

        What is given up on among dead letters is dropped: they would otherwise go round in circles.
        """
        if self.dead_letter_topic is None or is_dead_letter_topic(topic):
            return None
        name = self.dead_letter_topic.replace("{topic}", topic)
        try:
            validate_topic(name)
        except InvalidTopic:  # too long, or of letters that do not go together
            name = DEAD_LETTERS + topic
        return None if name == topic else name


def default_options(topic: str) -> TopicOptions:
    """Return the options of a topic that is made by publishing to it. Among dead letters nothing is given up: who looks
    through them may be killed, too."""
    if is_dead_letter_topic(topic):
        return TopicOptions(max_retries=MOST_RETRIES, dead_letter_topic=None)
    return TopicOptions()


PERIODS = ("dedup_window", "retention_period", "message_ttl", "retry_delay", "retry_max_delay", "overflow_timeout")
"""The options of topics that are periods, in seconds."""

_RANGES: dict[str, tuple[float, float]] = {
    "dedup_window": (1, MAX_SCHEDULE_SECONDS),
    "retry_delay": (0, MAX_DELAY_SECONDS),
    "retry_backoff": (1, 100),
    "retry_max_delay": (0, MAX_DELAY_SECONDS),
    "overflow_timeout": (0, MAX_DELAY_SECONDS),
}

_COUNTS = {
    "partitions": (1, MAX_PARTITIONS),
    "max_retries": (0, MOST_RETRIES),
    "retention_bytes": (1, MAX_OFFSET),
    "retention_messages": (1, MAX_OFFSET),
    "max_length": (1, MAX_LENGTH),
    "max_subscribers": (1, MAX_SUBSCRIBERS),
}


def difference(has: TopicOptions, wanted: TopicOptions) -> str:
    """Say which options are other than wanted."""
    names = [name for name in TopicOptions.__struct_fields__ if getattr(has, name) != getattr(wanted, name)]
    return ", ".join(f"{name} is {getattr(has, name)!s} and not {getattr(wanted, name)!s}" for name in names)


def is_dead_letter_topic(topic: str) -> bool:
    """Whether this is a dead-letter topic by its default name."""
    return topic.startswith(DEAD_LETTERS)


def _check_template(template: object) -> None:
    if not isinstance(template, str):
        raise InvalidOption("dead_letter_topic", template, "give the name of a topic, or None to drop the messages")
    try:
        validate_topic(template.replace("{topic}", "topic"))
    except InvalidTopic as error:
        raise InvalidOption("dead_letter_topic", template, error.reason) from error


Start = str | int | float
"""Where reading starts: "end", "beginning", an offset (int) or a time in seconds since the epoch (float)."""


class PublishOptions(Struct, frozen=True, gc=False):
    """How the records of one publish are to be stored. `deliver_at`: not before, in seconds since the epoch."""

    durability: Durability
    priority: int = NORMAL_PRIORITY
    deliver_at: float | None = None
    compression: Compression | None = None


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raise `InvalidOption` unless `value` is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidOption(name, value, f"give a number from {low} to {high}")


def check_count(name: str, value: Any, low: int, high: int) -> None:
    """Raise `InvalidOption` unless `value` is a whole number from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise InvalidOption(name, value, f"give a whole number from {low} to {high}")


def check_flag(name: str, value: Any) -> bool:
    """Return `value`, or raise `InvalidOption` unless it is True or False."""
    if not isinstance(value, bool):
        raise InvalidOption(name, value, "give True or False")
    return value


def check_callable(name: str, value: Any) -> None:
    """Raise `InvalidOption` unless `value` can be called, or is None."""
    if value is not None and not callable(value):
        raise InvalidOption(name, value, "give a function, or None")


E = TypeVar("E", bound=StrEnum)


def check_choice(name: str, value: Any, choices: type[E]) -> E:
    """Return the choice that `value` names, or raise `InvalidOption`."""
    try:
        return choices(value)
    except ValueError:
        raise InvalidOption(name, value, f"give one of {', '.join(choices)}") from None


def check_priority(value: Any) -> int:
    """Return the number of a priority: "low", "normal", "high", or 0 to 9."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if type(value) is int and LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        return value
    raise InvalidOption("priority", value, f"give {', '.join(PRIORITIES)}, or a number from 0 (least) to 9")


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


def resolve_partitions(partition: Any) -> tuple[int, ...] | None:
    """Return the partitions that `partition` of `subscribe` asks for, None for all."""
    if partition is None:
        return None
    wanted = (partition,) if isinstance(partition, int) else partition
    if not isinstance(wanted, Iterable) or isinstance(wanted, str) or not (wanted := tuple(wanted)):
        raise InvalidOption("partition", partition, "give one or more numbers of partitions, or None for all")
    for number in wanted:
        check_count("partition", number, 0, MAX_PARTITIONS - 1)
    return tuple(sorted(set(wanted)))


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
