"""A message: what is stored of it (`Record`), what a reader gets (`Message`) and what a publisher gets (`Receipt`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from tidings.model.codec import decode
from tidings.model.options import Durability

_NO_HEADERS: Mapping[str, str] = {}


class Record(Struct, array_like=True, gc=False):
    """One message as a publisher hands it to an engine; its fields, in this order, are its stored form.

    `extra` is reserved for what later versions store with a message: a field added there is not a new format.
    """

    id: str
    content_type: str
    data: bytes
    key: str | None = None
    headers: dict[str, str] | None = None
    extra: dict[str, Any] | None = None


class StoredRecord(Record, array_like=True, gc=False):
    """A record as it was read: `value` keeps the decoded data, so all readers of one process decode it once."""

    value: Any = UNSET


class Message(Struct, eq=False, gc=False):
    """One delivered message. Its data may be shared with other subscriptions of the process: treat it as read-only.

    `attempt` counts deliveries to this group, from 1; `offset` is the place in the partition, from 0;
    `published_at` is seconds since the epoch. `message["field"]` reads a field of an object's data. `lease` is the
    engine's token for this delivery, 0 outside groups.
    """

    record: StoredRecord
    topic: str
    partition: int
    offset: int
    published_at: float
    attempt: int
    lease: int = 0

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

    def __getitem__(self, field: Any) -> Any:
        return self.data[field]

    def __repr__(self) -> str:
        place = f"{self.topic}[{self.partition}]@{self.offset}"
        return f"<{type(self).__name__} {self.id} {place} attempt={self.attempt}>"


class Receipt(Struct, frozen=True, gc=False):
    """The proof of one publish: where the message is, and the durability that was really reached."""

    message_id: str
    topic: str
    partition: int
    offset: int
    durability: Durability
