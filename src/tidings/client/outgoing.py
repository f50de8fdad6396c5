"""What a publisher gives, made into records: ids, headers, keys and sizes are checked here, once for both clients."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidings.errors import InvalidOption, MessageTooLarge, UnencodableData
from tidings.model.codec import encode
from tidings.model.message import Record
from tidings.model.options import (
    MAX_BATCH_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_KEY_BYTES,
    Durability,
)


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


def make_records(messages: Iterable[Any], key: Any, headers: Mapping[str, str] | None, limit: int) -> list[Record]:
    """Return the records of many messages, which share key and headers."""
    if isinstance(messages, (str, bytes, bytearray, Mapping)):
        raise InvalidOption("messages", messages, "that is one message; give a list of messages, or call publish()")
    if key is not None:
        check_key(key)
    shared = check_headers(headers) if headers else None
    records = []
    for data in messages:
        content_type, encoded = encode(data)
        if len(encoded) > limit:
            raise MessageTooLarge(len(encoded), limit)
        records.append(Record(new_id(), content_type, encoded, key, shared))
    return records


def check_key(key: object) -> None:
    """Keys are hashed as UTF-8, so they have to be valid Unicode."""
    if not isinstance(key, str) or not 0 < len(key.encode("utf-8", "ignore")) <= MAX_KEY_BYTES or _has_surrogates(key):
        raise InvalidOption("partition_key", key, f"give valid text of 1 to {MAX_KEY_BYTES} bytes")


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
