"""What the engines of brokers have in common: what they say of themselves, and refusing by name what they cannot do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from tidings.errors import UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.clock import Clock, SystemClock
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions, Start, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import AsyncFeed, GroupInfo, M, TopicInfo, TopicStatistics


class BrokerEngine(ABC):
    """An asynchronous engine: what it does not override it refuses. It is used in the loop that it was opened in."""

    def __init__(self, name: str, capabilities: frozenset[Capability], max_message_bytes: int) -> None:
        """`capabilities`: what its kind can do; an engine takes away what the server that it finds cannot."""
        self.name = name
        self.capabilities = capabilities
        self.default_durability = Durability.MEMORY
        self.max_message_bytes = max_message_bytes
        self.clock: Clock = SystemClock()

    def refusal(self, capability: Capability, way_out: str = "") -> UnsupportedFeature:
        """Return the error for something that this engine, or its server, cannot do."""
        return UnsupportedFeature(self.name, capability.value, way_out)

    @abstractmethod
    async def open(self) -> None: ...

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        raise self.refusal(Capability.TOPICS)

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        raise self.refusal(Capability.ALTER)

    async def drop_topic(self, name: str) -> None:
        raise self.refusal(Capability.TOPICS)

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        raise self.refusal(Capability.TOPICS)

    @abstractmethod
    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]: ...

    @abstractmethod
    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]: ...

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        raise self.refusal(Capability.SCHEMA)

    async def cancel(self, receipt: Receipt) -> bool:
        raise self.refusal(Capability.CANCEL)

    async def create_group(self, spec: SubscriptionSpec) -> None:
        raise self.refusal(Capability.GROUPS)

    async def drop_group(self, group: str) -> None:
        raise self.refusal(Capability.GROUPS)

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        raise self.refusal(Capability.SEEK)

    async def has_group(self, group: str) -> bool:
        raise self.refusal(Capability.GROUPS)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        raise self.refusal(Capability.LAG)

    async def statistics(self, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
        raise self.refusal(Capability.STATISTICS)

    async def problems(self) -> list[str]:
        """Return nothing when the server answers, else what it, or the way to it, has."""
        return []

    @abstractmethod
    async def close(self) -> None: ...
