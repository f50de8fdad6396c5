"""What an engine must do. The docstrings are the contract; `tidings.testing.conformance` is its proof.

An engine is blocking (`Engine`, safe to share between threads) or asynchronous (`AsyncEngine`, for one event loop), or
comes in both forms. The clients do the rest: encoding, iteration, automatic acks, handlers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from tidings.model.capability import Capability
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import Durability, Start, SubscriptionSpec, TopicOptions

M = TypeVar("M", bound=Message)


class PartitionInfo(Struct, frozen=True):
    """One partition: it holds the offsets `first_offset` up to, not including, `next_offset`, in `bytes` bytes.

    `first_offset` is also the count of messages that retention has removed.
    """

    partition: int
    first_offset: int
    next_offset: int
    bytes: int


class TopicInfo(Struct, frozen=True):
    """One topic as it is now."""

    name: str
    options: TopicOptions
    partitions: tuple[PartitionInfo, ...]

    @property
    def messages(self) -> int:
        return sum(p.next_offset - p.first_offset for p in self.partitions)


class ConsumerInfo(Struct, frozen=True):
    """One attached member of a group. `held` counts the messages it has and has not settled."""

    consumer: str
    pid: int
    held: int


class GroupInfo(Struct, frozen=True):
    """One group on one topic. `lag` counts what is not acked yet: not yet delivered, held, and waiting for a retry.

    `skipped` counts messages that retention removed before the group had read them, `rejected` those that its consumers
    gave up on.
    """

    group: str
    topic: str
    lag: int
    held: int
    retrying: int
    skipped: int
    rejected: int
    consumers: tuple[ConsumerInfo, ...]


class Settlement(Struct, frozen=True):
    """What became of one delivery. `action`: "ack" (done), "nack" (again after `seconds`), "reject" (given up,
    counted), "release" (again at once and without counting the attempt), "extend" (keep it for `seconds` from now)."""

    message: Message
    action: str
    seconds: float = 0.0


class Feed(Protocol[M]):
    """A live reader. One thread fetches; settling and closing are safe from any thread.

    `renew_every`: seconds between two calls of `renew`, None when nothing is leased. `skipped`: messages that retention
    removed before they were read.
    """

    @property
    def renew_every(self) -> float | None: ...

    @property
    def skipped(self) -> int: ...

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        """Return 1 to `limit` messages, waiting up to `timeout` seconds (None: for ever); an empty list on timeout.

        Ordering: within a partition, first deliveries follow the log. In a group the messages are leased to this feed
        until settled. `close` from elsewhere ends the wait with `Closed`. Raises `DamagedData` instead of returning
        bytes that fail their checksum.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Record all of it; when this returns an ack survives the death of the process. Repeating an ack is harmless.

        Raises `LeaseLost` when some deliveries are no longer this feed's; the others are settled all the same.
        """
        ...

    def renew(self) -> None:
        """Renew the leases of everything this feed holds; called every `renew_every` seconds while its reader lives."""
        ...

    def close(self) -> None:
        """Give back what is held, at once and without counting an attempt, and leave. Idempotent."""
        ...


class Engine(Protocol):
    """What stores and moves messages, blocking form."""

    name: str
    capabilities: frozenset[Capability]
    default_durability: Durability
    max_message_bytes: int

    def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        """Make the topic, or return it when it exists with these options; raises `TopicExists` when they differ."""
        ...

    def drop_topic(self, name: str) -> None:
        """Remove the topic and its messages, and its place in every group. Raises `TopicNotFound`."""
        ...

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        """Return the topics, or those of `names` that exist, sorted by name."""
        ...

    def publish(self, topic: str, records: Sequence[Record], durability: Durability) -> list[Receipt]:
        """Store the records, all or none per partition, in order; return when they have reached `durability`.

        A missing topic is made with default options. Raises `PublishFailed` (nothing will be delivered) or
        `PublishUnknown` (may be). Being cancelled is `PublishUnknown`.
        """
        ...

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        """Return a feed that builds its messages as `message_type(record, topic, partition, offset, published_at,
        attempt, lease)`. Everything published after this returns is seen, also on topics that appear later."""
        ...

    def close(self) -> None:
        """Close the feeds and let go of files and connections. Idempotent."""
        ...


class Groups(Protocol):
    """The optional ability `Capability.GROUPS`, blocking form."""

    def create_group(self, spec: SubscriptionSpec) -> None:
        """Make the group collect from the spec's topics, from its start; places it has already are kept."""
        ...

    def drop_group(self, group: str) -> None:
        """Remove the group everywhere. Raises `GroupNotFound`."""
        ...

    def seek_group(self, topic: str, group: str, start: Start) -> None:
        """Move the group's place on the topic; what its consumers hold is no longer theirs. Raises `GroupNotFound`."""
        ...

    def groups(self, topic: str | None = None) -> list[GroupInfo]:
        """Return the groups on the topic, or on all topics, sorted by group and topic."""
        ...


class GroupEngine(Engine, Groups, Protocol):
    """A blocking engine with consumer groups."""


class AsyncFeed(Protocol[M]):
    """`Feed`, awaited. Cancelling any of these loses nothing: a cancelled fetch gives back what it had claimed."""

    @property
    def renew_every(self) -> float | None: ...

    @property
    def skipped(self) -> int: ...

    async def fetch(self, limit: int, timeout: float | None) -> list[M]: ...

    async def settle(self, settlements: Sequence[Settlement]) -> None: ...

    async def renew(self) -> None: ...

    async def close(self) -> None: ...


class AsyncEngine(Protocol):
    """`Engine`, awaited."""

    name: str
    capabilities: frozenset[Capability]
    default_durability: Durability
    max_message_bytes: int

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo: ...

    async def drop_topic(self, name: str) -> None: ...

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]: ...

    async def publish(self, topic: str, records: Sequence[Record], durability: Durability) -> list[Receipt]: ...

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]: ...

    async def close(self) -> None: ...


class AsyncGroups(Protocol):
    """`Groups`, awaited."""

    async def create_group(self, spec: SubscriptionSpec) -> None: ...

    async def drop_group(self, group: str) -> None: ...

    async def seek_group(self, topic: str, group: str, start: Start) -> None: ...

    async def groups(self, topic: str | None = None) -> list[GroupInfo]: ...


class AsyncGroupEngine(AsyncEngine, AsyncGroups, Protocol):
    """An asynchronous engine with consumer groups."""
