"""What an engine must do. The docstrings are the contract; `tidings.testing.conformance` is its proof.

An engine is blocking (`Engine`, safe to share between threads) or asynchronous (`AsyncEngine`, for one event loop), or
comes in both forms. The clients do the rest: encoding, iteration, automatic acks, handlers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from tidings.model.capability import Capability
from tidings.model.clock import Clock
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import Durability, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec

M = TypeVar("M", bound=Message)

MAX_GAPS = 100
"""Gaps that a feed remembers: a connection that breaks more often is told of in the log."""


class PartitionInfo(Struct, frozen=True):
    """One partition: it holds the offsets `first_offset` up to, not including, `next_offset`, in `bytes` bytes.

    `first_offset` is also the count of messages that retention has removed.
    """

    partition: int
    first_offset: int
    next_offset: int
    bytes: int


class SchemaVersion(Struct, frozen=True):
    """A schema that a topic has, or had: its number from 1, its text, and since when, in seconds since the epoch."""

    version: int
    schema: str | None
    since: float


class TopicInfo(Struct, frozen=True):
    """One topic as it is now. `schemas`: the versions of its schema, the oldest first."""

    name: str
    options: TopicOptions
    partitions: tuple[PartitionInfo, ...]
    schemas: tuple[SchemaVersion, ...] = ()

    @property
    def messages(self) -> int:
        return sum(p.next_offset - p.first_offset for p in self.partitions)


class ConsumerInfo(Struct, frozen=True):
    """One attached member of a group. `held` counts the messages it has and has not settled."""

    consumer: str
    pid: int
    held: int


class GroupInfo(Struct, frozen=True, kw_only=True):
    """One group on one topic. `lag` counts what is not settled yet: not yet delivered, held, and waiting for a retry;
    `lag_seconds` is the age of the oldest of these.

    The others are totals since the group was made: `acked`; `dead`, given up on; `expired` before they were delivered;
    `skipped`, removed by retention or overflow before they were read; `filtered`, passed over by the group's `filter`
    (its text, None without one); `redelivered` and `failed` (nacked or rejected) count deliveries. Every message of the
    topic since the group's start is in exactly one of lag, acked, dead, expired, skipped and filtered, unless the group
    was moved by `seek_group`. -1: the engine does not count it.
    """

    group: str
    topic: str
    lag: int
    held: int = -1
    retrying: int = -1
    acked: int = -1
    dead: int = -1
    expired: int = -1
    skipped: int = -1
    filtered: int = -1
    redelivered: int = -1
    failed: int = -1
    lag_seconds: float = -1.0
    consumers: tuple[ConsumerInfo, ...] = ()
    filter: str | None = None


class SubscriberInfo(Struct, frozen=True):
    """One attached subscription and how it stands on the topic: `group` is None for a temporary one.

    `lag` counts what it, or its group, has not got yet, and `lag_seconds` is the age of the oldest of these; of a
    temporary one it is what it has not fetched, as it was within the last second; one with a filter that has read
    everything once counts as up to date until it reads on. `last_message_time` is when it got
    something last, None: never. Times are seconds since the epoch.
    """

    consumer: str
    group: str | None
    pid: int
    since: float
    lag: int
    lag_seconds: float
    last_message_time: float | None


class TopicStatistics(Struct, frozen=True, kw_only=True):
    """How a topic does. Counts are totals over its groups since they were made; rates are per second.

    `published` counts from the topic's first message on; `pending` is the largest lag of a group; `scheduled` what is
    to be delivered later. `publish_rate` is over the last `window` seconds and derived from the log; `consume_rate`
    (acks) and `error_rate` (failed deliveries, as a share of those acked or failed) over about as long.
    """

    topic: str
    window: float
    published: int
    consumed: int
    pending: int
    scheduled: int
    expired: int
    dead: int
    skipped: int
    redelivered: int
    lag_seconds: float
    publish_rate: float
    consume_rate: float
    error_rate: float
    subscribers: tuple[SubscriberInfo, ...]
    groups: tuple[GroupInfo, ...]


class Health(Struct, frozen=True):
    """Whether an engine can store and deliver, and if not, why: a line for each problem."""

    ok: bool
    engine: str
    problems: tuple[str, ...]


class Gap(Struct, frozen=True):
    """A break in what a subscription has seen: between `since` and `until` (seconds since the epoch) messages may have
    passed that it will not get. `reason` says what happened, such as that the connection was lost."""

    reason: str
    since: float
    until: float


class Settlement(Struct, frozen=True, gc=False):
    """What became of one delivery.

    `action`: "ack" (done), "nack" (again after `seconds`, None: as the topic's options say, and a dead letter when
    these allow no further delivery), "reject" (given up: a dead letter), "expire" (its time had passed), "release"
    (again at once and without counting the attempt), "extend" (keep it for `seconds` from now). `reason` and `error`
    go into the dead letter.
    """

    message: Message
    action: str
    seconds: float | None = None
    reason: str = ""
    error: str = ""


class Output(Struct, frozen=True):
    """A message that a transaction publishes."""

    topic: str
    record: Record
    options: PublishOptions


class Feed(Protocol[M]):
    """A live reader. One thread fetches; settling and closing are safe from any thread.

    `renew_every`: seconds between two calls of `renew`, None when nothing is leased. `skipped`: messages that retention
    removed before they were read. `gaps`: the breaks in continuity so far, at most the last `MAX_GAPS`.
    """

    @property
    def renew_every(self) -> float | None: ...

    @property
    def skipped(self) -> int: ...

    @property
    def gaps(self) -> Sequence[Gap]: ...

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        """Return 1 to `limit` messages, waiting up to `timeout` seconds (None: for ever); an empty list on timeout.

        Ordering: within a partition, first deliveries follow the log. In a group the messages are leased to this feed
        until settled. While a broker is away it waits, and goes on when that is back. `close` from elsewhere ends the
        wait with `Closed`. Raises `DamagedData` instead of returning
        bytes that fail their checksum.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Record all of it; when this returns an ack survives the death of the process. Repeating an ack is harmless.

        Raises `LeaseLost` when some deliveries are no longer this feed's; the others are settled all the same.
        """
        ...

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        """Record the settlements and publish the outputs: all of it or nothing, whatever dies meanwhile
        (`Capability.TRANSACTIONS`). When this returns, that has reached `durability`.

        Raises `LeaseLost` when one delivery is no longer this feed's, or another error: nothing took effect; but
        `PublishUnknown`: all of it may have taken effect.
        """
        ...

    def renew(self) -> None:
        """Renew the leases of everything this feed holds; called every `renew_every` seconds while its reader lives."""
        ...

    def close(self) -> None:
        """Give back what is held, at once and without counting an attempt, and leave. Idempotent."""
        ...


class Engine(Protocol):
    """What stores and moves messages, blocking form.

    `capabilities`: what it can do; before `open` that of its kind, and what the server it finds then cannot do it
    refuses with `UnsupportedFeature` when asked. `default_durability`: what a publish asks for that says nothing, the
    least; receipts name what was reached.
    """

    name: str

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    default_durability: Durability
    max_message_bytes: int
    clock: Clock

    def open(self) -> None:
        """Connect, and learn what the server can do; every other call does so if need be. Idempotent. Raises
        `BrokerUnavailable`, `BrokerRefused`."""
        ...

    def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        """Make the topic, or return it when it exists with these options; raises `TopicExists` when they differ."""
        ...

    def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        """Give the topic other options, which hold for what is published and fetched from now on; the number of
        partitions stays. Raises `TopicNotFound`, `InvalidOption`."""
        ...

    def drop_topic(self, name: str) -> None:
        """Remove the topic and its messages, and its place in every group. Raises `TopicNotFound`."""
        ...

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        """Return the topics, or those of `names` that exist, sorted by name."""
        ...

    def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        """Store the records, all or none per partition, in order; return when they have reached the durability.

        A missing topic is made with default options. Raises `PublishFailed` (nothing will be delivered) or
        `PublishUnknown` (may be). Being cancelled is `PublishUnknown`.
        """
        ...

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        """Return a feed that builds its messages as `message_type(record, topic, partition, offset, published_at,
        attempt, lease, priority)`. Everything published after this returns is seen, also on topics that appear
        later. A group that exists keeps its filter, and a spec without one takes it over. Raises `TooManySubscribers`,
        `GroupExists` when the group has another filter."""
        ...

    def close(self) -> None:
        """Close the feeds and let go of files and connections. Idempotent."""
        ...


class Groups(Protocol):
    """The optional ability `Capability.GROUPS`, blocking form."""

    def create_group(self, spec: SubscriptionSpec) -> None:
        """Make the group collect from the spec's topics, from its start, what its filter matches; places it has already
        are kept. Raises `GroupExists` when it has another filter."""
        ...

    def drop_group(self, group: str) -> None:
        """Remove the group everywhere. Raises `GroupNotFound`."""
        ...

    def seek_group(self, topic: str, group: str, start: Start) -> None:
        """Move the group's place on the topic; what its consumers hold is no longer theirs. Raises `GroupNotFound`."""
        ...

    def has_group(self, group: str) -> bool:
        """Whether the group exists, also when none of the topics that it collects from does yet."""
        ...

    def groups(self, topic: str | None = None) -> list[GroupInfo]:
        """Return the groups on the topic, or on all topics, sorted by group and topic."""
        ...


class Schemas(Protocol):
    """The optional ability `Capability.SCHEMA`, blocking form."""

    def admit(self, topic: str, records: Sequence[Record]) -> None:
        """Raise `SchemaMismatch` unless the records fit the topic's schema; publishing them checks it, too."""
        ...


class Scheduling(Protocol):
    """The optional ability `Capability.DELAY`, blocking form."""

    def cancel(self, receipt: Receipt) -> bool:
        """Take back a message that is to be delivered later; False when it was delivered or taken back already."""
        ...


class Statistics(Protocol):
    """The optional ability `Capability.STATISTICS`, blocking form."""

    def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        """Return how the topics do, or those of `names` that exist, sorted by name, with rates over the last `window`
        seconds."""
        ...

    def problems(self) -> list[str]:
        """Return what is wrong with the engine, a line each: nothing, when it can store and deliver."""
        ...


class FullEngine(Engine, Groups, Scheduling, Schemas, Statistics, Protocol):
    """A blocking engine with all abilities."""


class AsyncFeed(Protocol[M]):
    """`Feed`, awaited. Cancelling any of these loses nothing: a cancelled fetch gives back what it had claimed."""

    @property
    def renew_every(self) -> float | None: ...

    @property
    def skipped(self) -> int: ...

    @property
    def gaps(self) -> Sequence[Gap]: ...

    async def fetch(self, limit: int, timeout: float | None) -> list[M]: ...

    async def settle(self, settlements: Sequence[Settlement]) -> None: ...

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None: ...

    async def renew(self) -> None: ...

    async def close(self) -> None: ...


class AsyncEngine(Protocol):
    """`Engine`, awaited."""

    name: str

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    default_durability: Durability
    max_message_bytes: int
    clock: Clock

    async def open(self) -> None: ...

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo: ...

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo: ...

    async def drop_topic(self, name: str) -> None: ...

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]: ...

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]: ...

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]: ...

    async def close(self) -> None: ...


class AsyncGroups(Protocol):
    """`Groups`, awaited."""

    async def create_group(self, spec: SubscriptionSpec) -> None: ...

    async def drop_group(self, group: str) -> None: ...

    async def seek_group(self, topic: str, group: str, start: Start) -> None: ...

    async def has_group(self, group: str) -> bool: ...

    async def groups(self, topic: str | None = None) -> list[GroupInfo]: ...


class AsyncSchemas(Protocol):
    """`Schemas`, awaited."""

    async def admit(self, topic: str, records: Sequence[Record]) -> None: ...


class AsyncScheduling(Protocol):
    """`Scheduling`, awaited."""

    async def cancel(self, receipt: Receipt) -> bool: ...


class AsyncStatistics(Protocol):
    """`Statistics`, awaited."""

    async def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]: ...

    async def problems(self) -> list[str]: ...


class AsyncFullEngine(AsyncEngine, AsyncGroups, AsyncScheduling, AsyncSchemas, AsyncStatistics, Protocol):
    """An asynchronous engine with all abilities."""
