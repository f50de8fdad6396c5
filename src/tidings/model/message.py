"""A message: what is stored of it (`Record`), what a reader gets (`Message`) and what a publisher gets (`Receipt`)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, Struct

from tidings.model.codec import JSON, decode
from tidings.model.options import NORMAL_PRIORITY, Durability

_NO_HEADERS: Mapping[str, str] = {}

ROUTING_KEY = "tidings-routing-key"
"""The header that holds, as JSON, what an exchange routes a message by."""


def read_routing_key(text: str | None) -> Any:
    """Return the value of that header; None when it is missing, or no JSON."""
    key = None if text is None else decode(JSON, text.encode(errors="replace"))
    return None if isinstance(key, bytes) else key


class Record(Struct, array_like=True, gc=False):
    """One message as a publisher hands it to an engine; its fields, in this order, are its stored form.

    `extra` holds what few messages have, so that a field added there is not a new format: `expires`, the time at which
    it expires in seconds since the epoch, and what an engine notes for itself.
    """

    id: str
    content_type: str
    data: bytes
    key: str | None = None
    headers: dict[str, str] | None = None
    extra: dict[str, Any] | None = None

    @property
    def expires_at(self) -> float | None:
        return self.extra.get("expires") if self.extra is not None else None


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: the same on every engine and in every process."""
    return zlib.crc32(key.encode()) % partitions


def set_expiry(records: Iterable[Record], expires_at: float) -> None:
    """Let the records expire then, unless they do so earlier."""
    for record in records:
        if (record.expires_at or expires_at) >= expires_at:
            record.extra = {**(record.extra or {}), "expires": expires_at}


class StoredRecord(Record, array_like=True, gc=False):
    """A record as it was read: `value` keeps the decoded data, so all readers of one process decode it once."""

    value: Any = UNSET


class Message(Struct, eq=False, gc=False):
    """One delivered message. Its data may be shared with other subscriptions of the process: treat it as read-only.

    `attempt` counts deliveries to this group, from 1; `offset` is the place in the partition: it grows, from 0 and
    without holes on `memory:` and `file:`, and is -1 where the engine knows none (`Capability.OFFSETS`);
    `published_at` and `expires_at` are seconds since the epoch; `priority` is 0 to 9. `message["field"]` reads a field
    of an object's data. `lease` is the engine's token for this delivery, 0 where there is nothing to settle.
    """

    record: StoredRecord
    topic: str
    partition: int
    offset: int
    published_at: float
    attempt: int
    lease: int = 0
    priority: int = NORMAL_PRIORITY

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def data(self) -> Any:
        record = self.record
        if record.value is UNSET:
            record.value = decode(record.content_type, record.data)
        return record.value

    @property
    def key(self) -> str | None:
        return self.record.key

    @property
    def headers(self) -> Mapping[str, str]:
        return self.record.headers or _NO_HEADERS

    @property
    def content_type(self) -> str:
        return self.record.content_type

    @property
    def routing_key(self) -> Any:
        """What an exchange routes it by, None when it was not published through one."""
        return read_routing_key(self.headers.get(ROUTING_KEY))

    @property
    def expires_at(self) -> float | None:
        return self.record.expires_at

    def __getitem__(self, field: Any) -> Any:
        return self.data[field]

    def __repr__(self) -> str:
        place = f"{self.topic}[{self.partition}]@{self.offset}"
        return f"<{type(self).__name__} {self.id} {place} attempt={self.attempt}>"


class Receipt(Struct, frozen=True, gc=False):
    """The proof of one publish: where the message is, and the durability that was really reached.

    `duplicate`: the topic had a message of this id already, and this is where that one is. A message that is to be
    delivered later is `scheduled` under a number, which `client.cancel(receipt)` takes back; it has no place yet, so
    its partition and offset are -1.
    """

    message_id: str
    topic: str
    partition: int
    offset: int
    durability: Durability
    duplicate: bool = False
    scheduled: int | None = None
