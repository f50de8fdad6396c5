"""What a publisher gives, made into records: ids, headers, keys and sizes are checked here, once for both clients."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypedDict

from tidings.errors import InvalidOption, MessageTooLarge, UnencodableData, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.clock import Clock
from tidings.model.codec import encode
from tidings.model.compression import choose
from tidings.model.message import Message, Record, set_expiry
from tidings.model.options import (
    MAX_BATCH_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_KEY_BYTES,
    MAX_SCHEDULE_SECONDS,
    NORMAL_PRIORITY,
    Durability,
    Guarantee,
    PublishOptions,
    TopicOptions,
    check_priority,
    check_range,
)
from tidings.model.subscription import SubscriptionSpec


class PublishTerms(TypedDict, total=False):
    """The keyword parameters of `publish`."""

    partition_key: str | None
    priority: str | int
    ttl_seconds: float | None
    delay_seconds: float | None
    deliver_at: datetime | None
    headers: Mapping[str, str] | None
    message_id: str | None
    compression: str | None
    durability: Durability | str | None


class Target(Protocol):
    """What is needed of an engine."""

    name: str

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    default_durability: Durability
    max_message_bytes: int
    clock: Clock


_PLAIN = {each: PublishOptions(each) for each in Durability}


def plain(durability: Durability | str | None, default: Durability) -> PublishOptions:
    """Return the options of a publish that asks for nothing but a durability."""
    return _PLAIN[default if durability is None else level(durability, default)]


def apply(engine: Target, terms: PublishTerms, records: Sequence[Record]) -> PublishOptions:
    """Check the parameters of a publish against what the engine can do; return the engine's part of them, and let the
    records expire as they say."""
    for unknown in terms.keys() - PublishTerms.__annotations__.keys():
        raise InvalidOption(unknown, terms.get(unknown), f"give {', '.join(PublishTerms.__annotations__)}")
    durability = level(terms.get("durability"), engine.default_durability)
    priority = check_priority(terms.get("priority", NORMAL_PRIORITY))
    compression = choose(terms.get("compression"))
    now, ttl = engine.clock.now(), terms.get("ttl_seconds")
    deliver_at = _deliver_at(terms.get("delay_seconds"), terms.get("deliver_at"), now)
    demand(engine, Capability.PRIORITY, priority != NORMAL_PRIORITY)
    demand(engine, Capability.COMPRESSION, compression is not None)
    demand(engine, Capability.DELAY, deliver_at is not None)
    demand(engine, Capability.EXPIRY, ttl is not None)
    if ttl is not None:
        check_range("ttl_seconds", ttl, 0.001, MAX_SCHEDULE_SECONDS)
        set_expiry(records, max(deliver_at or now, now) + ttl)
    return PublishOptions(durability, priority, deliver_at, compression)


def _deliver_at(delay: float | None, moment: datetime | None, now: float) -> float | None:
    """Return when to deliver, None for at once."""
    if delay is not None and moment is not None:
        raise InvalidOption("deliver_at", moment, "give delay_seconds or deliver_at, not both")
    if delay is not None:
        check_range("delay_seconds", delay, 0, MAX_SCHEDULE_SECONDS)
        return now + delay if delay else None
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise InvalidOption("deliver_at", moment, "give a datetime")
    try:
        deliver_at = moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidOption("deliver_at", moment, f"give a time that a clock can show ({error})") from error
    if deliver_at > now + MAX_SCHEDULE_SECONDS:
        raise InvalidOption("deliver_at", moment, f"give a time within {MAX_SCHEDULE_SECONDS / 86400:g} days")
    return deliver_at


def demand(engine: Target, capability: Capability, wanted: bool = True) -> None:
    """Raise `UnsupportedFeature` when the engine cannot do what is wanted."""
    if wanted and capability not in engine.capabilities:
        raise UnsupportedFeature(engine.name, capability.value)


def check_reading(engine: Target, spec: SubscriptionSpec) -> None:
    """Check what a subscription asks for against what the engine can do."""
    if spec.key is not None:
        check_key(spec.key, "partition_key_filter")
    demand(engine, Capability.GROUPS, spec.group is not None)
    demand(engine, Capability.FILTERS, spec.filter is not None)
    demand(engine, Capability.ORDERING, spec.ordering)
    demand(engine, Capability.PARTITIONS, spec.partitions is not None)
    demand(engine, Capability.PRIORITY, spec.priority_order)


_DYING = ("max_retries", "dead_letter_topic", "dead_letter_expired")


def abilities_of(options: TopicOptions) -> dict[Capability, bool]:
    """Return which abilities of an engine the options of a topic need."""
    usual = TopicOptions()
    return {
        Capability.PARTITIONS: options.partitions > 1,
        Capability.AT_MOST_ONCE: options.delivery is Guarantee.AT_MOST_ONCE,
        Capability.DEDUPLICATION: options.delivery is Guarantee.EXACTLY_ONCE,
        Capability.RETENTION: any((options.retention_period, options.retention_bytes)),
        Capability.RETENTION_COUNT: options.retention_messages is not None,
        Capability.EXPIRY: options.message_ttl is not None,
        Capability.DEAD_LETTERS: any(getattr(options, name) != getattr(usual, name) for name in _DYING),
        Capability.MAX_LENGTH: options.max_length is not None,
        Capability.MAX_SUBSCRIBERS: options.max_subscribers is not None,
        Capability.COMPRESSION: options.compression is not None,
        Capability.SCHEMA: options.schema is not None,
    }


def make_record(data: Any, key: Any, headers: Mapping[str, str] | None, message_id: Any, limit: int) -> Record:
    """Return the record of one message, or raise the `UsageError` that says what is wrong with it."""
    content_type, encoded = encode(data)
    if len(encoded) > limit:
        raise MessageTooLarge(len(encoded), limit)
    if key is not None:
        check_key(key)
    if message_id is None:
        message_id = new_id()
    else:
        check_id(message_id)
    return Record(message_id, content_type, encoded, key, check_headers(headers) if headers else None)


def make_records(
    messages: Iterable[Any], message_ids: Sequence[str] | None, terms: PublishTerms, limit: int
) -> list[Record]:
    """Return the records of many messages, which share key and headers."""
    if isinstance(messages, (str, bytes, bytearray, Mapping)):
        raise InvalidOption("messages", messages, "that is one message; give a list of messages, or call publish()")
    key, headers = terms.get("partition_key"), terms.get("headers")
    if key is not None:
        check_key(key)
    shared = check_headers(headers) if headers else None
    records = []
    for data in messages:
        content_type, encoded = encode(data)
        if len(encoded) > limit:
            raise MessageTooLarge(len(encoded), limit)
        records.append(Record(new_id(), content_type, encoded, key, shared))
    if message_ids is not None:
        _name(records, message_ids)
    return records


def _name(records: list[Record], message_ids: Sequence[str]) -> None:
    """Give the records these ids."""
    if not isinstance(message_ids, (list, tuple)) or len(message_ids) != len(records):
        raise InvalidOption("message_ids", message_ids, f"give a list of {len(records)} ids, one for each message")
    for record, message_id in zip(records, message_ids, strict=True):
        check_id(message_id)
        record.id = message_id


def copies(engine: Target, messages: Sequence[Message]) -> dict[int, list[Record]]:
    """Return the records that publish messages as they are, by priority, or raise the `UsageError` that says what the
    engine cannot take."""
    found: dict[int, list[Record]] = {}
    for message in messages:
        old, expires = message.record, message.expires_at
        if len(old.data) > engine.max_message_bytes:
            raise MessageTooLarge(len(old.data), engine.max_message_bytes)
        demand(engine, Capability.EXPIRY, expires is not None)
        demand(engine, Capability.PRIORITY, message.priority != NORMAL_PRIORITY)
        extra = None if expires is None else {"expires": expires}
        record = Record(old.id, old.content_type, old.data, old.key, old.headers, extra)
        found.setdefault(message.priority, []).append(record)
    return found


def check_key(key: object, argument: str = "partition_key") -> None:
    """Keys are hashed as UTF-8, so they have to be valid Unicode."""
    if not isinstance(key, str) or not 0 < len(key.encode("utf-8", "ignore")) <= MAX_KEY_BYTES or _has_surrogates(key):
        raise InvalidOption(argument, key, f"give valid text of 1 to {MAX_KEY_BYTES} bytes")


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_id(message_id: object) -> None:
    if not isinstance(message_id, str) or not 1 <= len(message_id) <= 128 or not message_id.isprintable():
        raise InvalidOption("message_id", message_id, "give 1 to 128 printable characters")


def check_headers(headers: Any) -> dict[str, str]:
    """Return the headers as they are stored: text, without control characters, of bounded number and size."""
    if not isinstance(headers, Mapping):
        raise UnencodableData("headers", f"{headers!r} is no mapping; give a dict of str to str")
    size = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            raise UnencodableData("headers", f"{name!r}: {value!r} is not text; give names and values as str")
        if not (name + value).isprintable():
            raise UnencodableData("headers", f"{name!r} has control characters")
        size += len(name.encode()) + len(value.encode())
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise UnencodableData("headers", f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes")
    return dict(headers)


def in_batches(records: list[Record], batch_size: int) -> Iterator[list[Record]]:
    """Part records into what one append stores: at most `batch_size` of them and `MAX_BATCH_BYTES`."""
    for start in range(0, len(records), batch_size):
        yield from _in_bytes(records[start : start + batch_size])


def _in_bytes(records: list[Record]) -> Iterator[list[Record]]:
    if sum(len(record.data) for record in records) <= MAX_BATCH_BYTES or len(records) == 1:
        yield records
    else:
        middle = len(records) // 2
        yield from _in_bytes(records[:middle])
        yield from _in_bytes(records[middle:])


_LEVELS: dict[str, Durability] = {each.value: each for each in Durability}


def level(durability: Durability | str | None, default: Durability) -> Durability:
    """Return the durability asked for."""
    if durability is None:
        return default
    try:
        return _LEVELS[durability]
    except (KeyError, TypeError):
        raise InvalidOption("durability", durability, f"give one of {', '.join(Durability)}") from None


def new_id() -> str:
    """Return an id that nobody else makes: random for the process, then counted."""
    return f"{_prefix}-{next(_counter):x}"


def _begin_ids() -> None:
    """A forked child must not go on counting where its parent does."""
    global _prefix
    _prefix = os.urandom(6).hex()


_prefix = ""
_counter = itertools.count(1)
_begin_ids()
os.register_at_fork(after_in_child=_begin_ids)
