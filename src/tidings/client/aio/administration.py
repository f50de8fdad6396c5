"""Looking after topics and groups: what `AsyncClient` offers besides publishing and subscribing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from tidings.client import outgoing
from tidings.client.filters import Filter, read_filter
from tidings.errors import GroupNotFound, IncompatibleSchema, InvalidOption, TopicNotFound
from tidings.model.capability import Capability
from tidings.model.message import Receipt
from tidings.model.options import (
    MAX_SCHEDULE_SECONDS,
    TopicOptions,
    check_name,
    check_range,
    resolve_place,
    resolve_start,
)
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern, Topics, parse_topics, validate_topic
from tidings.spi import AsyncFullEngine, GroupInfo, Health, TopicInfo, TopicStatistics

WINDOW_SECONDS = 60.0
"""Over which rates are taken: what people mean by "now", and smooth enough for an alarm."""


class AsyncAdministration:
    """The part of a client that looks after topics and groups."""

    _engine: AsyncFullEngine

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the engine can do; of a broker, once it is connected. What it cannot do raises `UnsupportedFeature`."""
        return self._engine.capabilities

    # -- topics and groups

    async def create_topic(self, name: str, options: TopicOptions | None = None) -> TopicInfo:
        """Create a topic, or return it if it exists with these options. Raises `InvalidTopic` and `TopicExists`."""
        wanted = options or TopicOptions()
        self._demand_options(wanted)
        return await self._engine.create_topic(validate_topic(name), wanted)

    def _demand_options(self, options: TopicOptions) -> None:
        for capability, wanted in outgoing.abilities_of(options).items():
            outgoing.demand(self._engine, capability, wanted)

    async def alter_topic(self, name: str, *, force: bool = False, **changes: Any) -> TopicInfo:
        """Change options of a topic, by their names in `TopicOptions`; the others stay. They hold for what is published
        and fetched from now on, in all processes. The number of partitions stays for good.

        A schema may only change so that what was published fits and readers keep working, unless `force` is set.

        Raises `TopicNotFound`, `IncompatibleSchema`, and `InvalidOption` for an option that does not exist or cannot
        be.
        """
        outgoing.demand(self._engine, Capability.ALTER)
        found = await self.describe_topic(name)
        options = found.options
        for unknown in changes.keys() - set(TopicOptions.__struct_fields__):
            raise InvalidOption(unknown, changes[unknown], f"give {', '.join(TopicOptions.__struct_fields__)}")
        wanted = replace(options, **changes)
        self._demand_options(wanted)
        if not force and wanted.schema != options.schema:
            _check_change(found, wanted.schema)
        return await self._engine.alter_topic(name, wanted)

    async def drop_topic(self, name: str) -> None:
        """Remove a topic with its messages. Raises `TopicNotFound`. Publishing to it later makes a new one."""
        await self._engine.drop_topic(validate_topic(name))

    async def topics(self) -> list[TopicInfo]:
        """Return all topics, sorted by name."""
        return await self._engine.topics()

    async def describe_topic(self, name: str) -> TopicInfo:
        """Return one topic. Raises `TopicNotFound`."""
        for found in await self._engine.topics([validate_topic(name)]):
            return found
        raise TopicNotFound(name)

    async def create_group(
        self,
        topics: Topics,
        group: str,
        *,
        filter: Filter | None = None,
        from_beginning: bool = False,
        since: datetime | timedelta | None = None,
        from_offset: int | None = None,
    ) -> None:
        """Make a group that collects from the topics from now on (or from earlier), with or without consumers.

        A group that exists collects from these topics too, and keeps the places that it has. `filter` is the one of
        `subscribe`; raises `GroupExists` when the group has another one.
        """
        start = resolve_start(from_beginning, since, from_offset, self._engine.clock.now())
        name = check_name("group", group)
        spec = SubscriptionSpec(patterns=parse_topics(topics), group=name, start=start, filter=read_filter(filter))
        outgoing.check_reading(self._engine, spec)
        await self._engine.create_group(spec)

    async def drop_group(self, group: str) -> None:
        """Remove a group. Raises `GroupNotFound`."""
        await self._engine.drop_group(check_name("group", group))

    async def seek_group(self, topic: str, group: str, to: str | int | datetime | timedelta) -> None:
        """Move a group's place on a topic: "beginning", "end", an offset (of each partition), a time, or a timedelta
        back from now. What its consumers hold of the topic is no longer theirs (`LeaseLost`). Raises `GroupNotFound`,
        `TopicNotFound`."""
        start = resolve_place(to, self._engine.clock.now())
        await self._engine.seek_group(validate_topic(topic), check_name("group", group), start)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        """Return how each group stands on each of its topics, or on one topic."""
        return await self._engine.groups(topic)

    async def get_consumer_lag(self, topic: str, group: str) -> int:
        """Return how many messages of the topic, or of all topics of a pattern, the group has not acked yet.

        Raises `GroupNotFound` when the group collects from none of them.
        """
        outgoing.demand(self._engine, Capability.LAG)
        pattern = Pattern.parse(topic)
        lags = [
            found.lag
            for found in await self._engine.groups(pattern.literal)
            if found.group == group and pattern.matches(found.topic)
        ]
        if not lags:
            raise GroupNotFound(group, topic)
        return sum(lags)

    async def cancel(self, receipt: Receipt) -> bool:
        """Take back a message that was published with `delay_seconds` or `deliver_at`. False when it is too late: it
        was delivered, or is about to be; or when it was never scheduled."""
        outgoing.demand(self._engine, Capability.CANCEL)
        return await self._engine.cancel(receipt)

    # -- statistics

    async def statistics(self, topic: str, window: float = WINDOW_SECONDS) -> TopicStatistics:
        """Return how a topic does: counts, lags, subscribers, and rates over the last `window` seconds.

        Raises `TopicNotFound`.
        """
        outgoing.demand(self._engine, Capability.STATISTICS)
        check_range("window", window, 0.001, MAX_SCHEDULE_SECONDS)
        for found in await self._engine.statistics([validate_topic(topic)], window):
            return found
        raise TopicNotFound(topic)

    async def get_error_rate(self, topic: str, window: float = WINDOW_SECONDS) -> float:
        """Return which share of the deliveries of a topic failed lately, 0 to 1. Raises `TopicNotFound`."""
        return (await self.statistics(topic, window)).error_rate

    async def get_throughput(self, topic: str, window: float = WINDOW_SECONDS) -> float:
        """Return how many messages per second were published to a topic lately. Raises `TopicNotFound`."""
        return (await self.statistics(topic, window)).publish_rate

    async def health(self) -> Health:
        """Return whether messages can be stored and delivered, and if not, why."""
        problems = await self._engine.problems()
        return Health(not problems, self._engine.name, tuple(problems))


def _check_change(topic: TopicInfo, schema: str | None) -> None:
    """Raise `IncompatibleSchema` when a change of the schema would break something."""
    from tidings.model.schema import difference, parse_schema  # slow to load, and most topics have none

    before = topic.options.schema
    if before is None and topic.messages == 0:
        return
    if before is None:
        raise IncompatibleSchema(topic.name, "the topic has messages that were published without a schema")
    if schema is None:
        raise IncompatibleSchema(topic.name, "readers rely on the schema that is to be removed")
    found = difference(parse_schema(before), parse_schema(schema))
    if found is not None:
        raise IncompatibleSchema(topic.name, found)
