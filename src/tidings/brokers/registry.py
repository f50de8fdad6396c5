"""What is kept on a broker about topics and groups, as JSON: the same on all of them, so that a bus can be moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidings.errors import IncompatibleFormat, InvalidOption, TopicExists
from tidings.model.compression import Compression, choose
from tidings.model.message import Record, partition_of, set_expiry
from tidings.model.options import Guarantee, TopicOptions, difference
from tidings.model.subscription import SubscriptionSpec, check_filter
from tidings.model.topics import Pattern
from tidings.spi import SchemaVersion

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate

VERSION = 1
"""Of what is kept; a newer one is refused."""


class TopicEntry(Struct, frozen=True, omit_defaults=True):
    """One topic. `created`: seconds since the epoch; `schemas`: the versions of its schema, the oldest first."""

    name: str
    created: float
    options: TopicOptions = TopicOptions()
    schemas: tuple[SchemaVersion, ...] = ()
    version: int = VERSION

    def same(self, options: TopicOptions) -> TopicEntry:
        """Return this, or raise `TopicExists` when it has other options."""
        if self.options != options:
            raise TopicExists(self.name, difference(self.options, options))
        return self

    def altered(self, options: TopicOptions, now: float) -> TopicEntry:
        """Return the topic with other options. Raises `InvalidOption` for another number of partitions."""
        if options.partitions != self.options.partitions:
            reason = f"topic {self.name!r} has {self.options.partitions}, for good; create another one and move to it"
            raise InvalidOption("partitions", options.partitions, reason)
        entry = replace(self, options=options)
        return entry if options.schema == self.options.schema else entry._with_schema(now)

    def _with_schema(self, now: float) -> TopicEntry:
        latest = SchemaVersion(len(self.schemas) + 1, self.options.schema, now)
        return replace(self, schemas=(*self.schemas, latest))


def new_topic(name: str, options: TopicOptions, now: float) -> TopicEntry:
    """Return a topic that is made now."""
    entry = TopicEntry(name, now, options)
    return entry if options.schema is None else entry._with_schema(now)


class GroupEntry(Struct, frozen=True, omit_defaults=True):
    """One group. `patterns`: the stored texts of what it collects from, each with when that began, in seconds since the
    epoch; `filter`: the stored text of its filter."""

    name: str
    patterns: dict[str, float]
    filter: str | None = None
    version: int = VERSION

    def matches(self, topic: str) -> bool:
        """Whether it collects from the topic."""
        return any(Pattern.from_stored(pattern).matches(topic) for pattern in self.patterns)

    @property
    def predicate(self) -> Predicate | None:
        return None if self.filter is None else _predicate(self.filter)

    def joined(self, spec: SubscriptionSpec, now: float) -> GroupEntry:
        """Return the group with what the spec asks for, too. Raises `GroupExists` when it has another filter."""
        check_filter(self.name, self.predicate, spec.filter)
        return replace(self, patterns={**{str(pattern): now for pattern in spec.patterns}, **self.patterns})


def new_group(spec: SubscriptionSpec, now: float) -> GroupEntry:
    """Return a group that is made now."""
    stored = None if spec.filter is None else spec.filter.stored()
    return GroupEntry(spec.group or "", {str(pattern): now for pattern in spec.patterns}, stored)


def with_filter(spec: SubscriptionSpec, group: GroupEntry) -> SubscriptionSpec:
    """Return the spec as a consumer of the group has it: the filter is the group's."""
    return replace(spec, filter=group.predicate)


def _predicate(stored: str) -> Predicate:
    from tidings.model.predicate import Predicate  # slow to load, and most groups have none

    return Predicate.from_stored(stored)


E = TypeVar("E", TopicEntry, GroupEntry)


def to_json(entry: TopicEntry | GroupEntry) -> bytes:
    """Return an entry as it is kept."""
    return msgspec.json.encode(entry)


def read_topic(stored: bytes) -> TopicEntry:
    """Read what `to_json` made. Raises `IncompatibleFormat`."""
    return _read(stored, TopicEntry)


def read_group(stored: bytes) -> GroupEntry:
    """Read what `to_json` made. Raises `IncompatibleFormat`."""
    return _read(stored, GroupEntry)


def _read(stored: bytes, kind: type[E]) -> E:
    try:
        if msgspec.json.decode(stored, type=_Version).version <= VERSION:
            return msgspec.json.decode(stored, type=kind)
    except msgspec.MsgspecError as error:
        raise IncompatibleFormat(f"what the broker keeps of a topic or group cannot be read: {error}") from error
    raise IncompatibleFormat("a newer version of tidings keeps topics and groups on this broker; install it")


class _Version(Struct):
    version: int = VERSION


# -- what a topic's options say of a publish


def prepare(entry: TopicEntry, records: Sequence[Record], now: float) -> None:
    """Let the records expire as the topic says. Raises `SchemaMismatch`: then nothing is to be stored."""
    admit(entry, records)
    if entry.options.message_ttl is not None:
        set_expiry(records, now + entry.options.period("message_ttl"))


def admit(entry: TopicEntry, records: Sequence[Record]) -> None:
    """Raise `SchemaMismatch` unless the records fit the topic's schema."""
    if entry.options.schema is not None:
        from tidings.model import schema as schemas  # slow to load, and most topics have none

        schema = schemas.parse_schema(entry.options.schema)
        for record in records:
            schemas.check(schema, entry.name, record.content_type, record.data)


def compression_of(entry: TopicEntry, asked: Compression | None) -> Compression | None:
    """Return how to compress what is published to the topic."""
    return asked or choose(entry.options.compression)


def place_of(entry: TopicEntry, record: Record, turn: int) -> int:
    """Return the partition of a record; what has no key takes its `turn`, but on an exactly-once topic goes by its id:
    a repetition has to go where the first one went."""
    key = record.key
    if key is None and entry.options.delivery is Guarantee.EXACTLY_ONCE:
        key = record.id
    return turn % entry.options.partitions if key is None else partition_of(key, entry.options.partitions)
