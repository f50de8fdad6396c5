"""Topics and their streams: made, changed, dropped, described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from tidings.brokers.registry import TopicEntry, new_topic
from tidings.engines.nats.catalog import Catalog
from tidings.engines.nats.names import Names, Shard
from tidings.engines.nats.options import NatsOptions
from tidings.engines.nats.server.errors import STREAM_NOT_FOUND, Refusal, translate
from tidings.engines.nats.server.jetstream import Answer, JetStream
from tidings.errors import BrokerRefused, BusBusy, InvalidOption, TopicNotFound
from tidings.model.clock import Clock
from tidings.model.options import Guarantee, TopicOptions
from tidings.model.topics import validate_topic
from tidings.spi import PartitionInfo, TopicInfo

ATTEMPTS = 100
"""How often a topic is looked for again that others make and drop meanwhile."""

SERVER_WINDOW_SECONDS = 120.0
"""How long the server remembers ids that nobody asked it to: dead letters have some."""

SUBJECT_TAKEN = 10065
NAME_TAKEN = 10058


class Topics:
    """The topics of a bus. `appeared` is called with each one that is made here, before anybody publishes to it."""

    def __init__(
        self, jetstream: JetStream, catalog: Catalog, names: Names, options: NatsOptions, clock: Clock
    ) -> None:
        self._jetstream = jetstream
        self._catalog = catalog
        self._names = names
        self._options = options
        self._clock = clock
        self._shards: dict[str, list[Shard]] = {}
        self.schedules = True
        self.appeared: Callable[[TopicEntry], Awaitable[None]] | None = None

    def shards(self, entry: TopicEntry) -> list[Shard]:
        """Return the partitions of a topic."""
        shards = self._shards.get(entry.name)
        if shards is None or len(shards) != entry.options.partitions:
            count = entry.options.partitions
            shards = self._shards[entry.name] = [self._names.shard(entry.name, number) for number in range(count)]
        return shards

    def terms(self, topic: str) -> TopicOptions:
        """Return the options of a topic, as far as is known here."""
        entry = self._catalog.topics.get(topic)
        return self._options.topic_options(topic) if entry is None else entry.options

    async def find(self, topic: str) -> TopicEntry:
        """Return the topic; make it with the default options when there is none."""
        entry = self._catalog.topics.get(topic)
        return entry or await self._make(validate_topic(topic), self._options.topic_options(topic))

    async def current(self, topic: str) -> TopicEntry:
        """Return the topic as `find` does, as it is at this moment."""
        await self._catalog.refresh()
        return await self.find(topic)

    # -- making

    async def create(self, name: str, options: TopicOptions) -> TopicInfo:
        validate_topic(name)
        await self._catalog.refresh()
        entry = await self._make(name, options)
        return await self._info(entry.same(options))

    async def _make(self, name: str, options: TopicOptions) -> TopicEntry:
        for _ in range(ATTEMPTS):
            if (entry := self._catalog.topics.get(name)) is not None:
                return entry
            entry = new_topic(name, options, self._clock.now())
            self._check(entry)
            if await self._catalog.put("t", name, entry):
                return await self._build(entry)
        raise BusBusy(f"topic {name!r} was made and dropped again {ATTEMPTS} times meanwhile; try again")

    async def _build(self, entry: TopicEntry) -> TopicEntry:
        """Make the streams of a topic; when the server refuses, there is no such topic."""
        try:
            await self._streams("CREATE", entry)
        except BrokerRefused:
            await self._catalog.put("t", entry.name, None)
            raise
        if self.appeared is not None:
            await self.appeared(entry)
        return entry

    async def mend(self, topic: str, make: bool = False) -> None:
        """Make the streams of a topic that lost them, or is being made by somebody who has not come so far.

        `make`: make also a topic that was dropped."""
        await self._catalog.refresh()
        entry = await self.find(topic) if make else self._catalog.topics.get(topic)
        if entry is not None:
            await self._streams("CREATE", entry)
            if self.appeared is not None:
                await self.appeared(entry)

    async def build(self, topic: str) -> None:
        """Make the streams of a topic that is known."""
        if (entry := self._catalog.topics.get(topic)) is not None:
            await self._streams("CREATE", entry)

    async def _streams(self, what: str, entry: TopicEntry) -> None:
        shards = self.shards(entry)
        configs = [self._config(entry.options, shard) for shard in shards]
        answers = await self._jetstream.calls(
            [(f"STREAM.{what}.{shard.stream}", config) for shard, config in zip(shards, configs, strict=True)]
        )
        for shard, answer in zip(shards, answers, strict=True):
            if isinstance(answer, Refusal) and not (what == "CREATE" and answer.code == NAME_TAKEN):
                raise self._refused(answer, shard)

    def _refused(self, refusal: Refusal, shard: Shard) -> Exception:
        if refusal.code == SUBJECT_TAKEN:
            return BrokerRefused(
                f"nats: topic {shard.topic!r}: another stream has the subject {shard.subject!r} already; "
                "take the subject out of it, use another topic, or give ?subject_prefix="
            )
        return translate(refusal, f"topic {shard.topic!r}")

    def _check(self, entry: TopicEntry) -> None:
        options = entry.options
        if options.delivery is Guarantee.EXACTLY_ONCE and options.retention_period is not None:
            window, kept = options.period("dedup_window"), options.period("retention_period")
            if window > kept:
                reason = (
                    f"NATS remembers an id no longer than it keeps messages: give at most retention_period, {kept} s"
                )
                raise InvalidOption("dedup_window", window, reason)

    def _config(self, options: TopicOptions, shard: Shard) -> dict[str, Any]:
        age = None if options.retention_period is None else options.period("retention_period")
        exactly = options.delivery is Guarantee.EXACTLY_ONCE
        window = options.period("dedup_window") if exactly else SERVER_WINDOW_SECONDS
        config: dict[str, Any] = {
            "name": shard.stream,
            "subjects": [shard.subject, *([f"{shard.later}.*"] if self.schedules else [])],
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
            "discard": "old",
            "max_age": 0 if age is None else int(age * 1e9),
            "max_bytes": options.retention_bytes or -1,
            "max_msgs": options.retention_messages or -1,
            "duplicate_window": int((window if age is None else min(window, age)) * 1e9),
            "allow_direct": True,
        }
        if self.schedules:
            config |= {"allow_msg_ttl": True, "allow_msg_schedules": True, "allow_atomic": True}
        return config

    # -- changing

    async def alter(self, name: str, options: TopicOptions) -> TopicInfo:
        for _ in range(ATTEMPTS):
            await self._catalog.refresh()
            entry = self._existing(name).altered(options, self._clock.now())
            self._check(entry)
            if await self._catalog.put("t", name, entry):
                await self._streams("UPDATE", entry)
                return await self._info(entry)
        raise BusBusy(f"topic {name!r} was changed {ATTEMPTS} times meanwhile; try again")

    async def drop(self, name: str) -> None:
        for _ in range(ATTEMPTS):
            await self._catalog.refresh()
            entry = self._existing(name)
            if await self._catalog.put("t", name, None):
                return await self._drop_streams(self.shards(entry))
        raise BusBusy(f"topic {name!r} was changed {ATTEMPTS} times meanwhile; try again")

    async def _drop_streams(self, shards: Sequence[Shard]) -> None:
        answers = await self._jetstream.calls([(f"STREAM.DELETE.{shard.stream}", None) for shard in shards])
        for answer in answers:
            if isinstance(answer, Refusal) and answer.code != STREAM_NOT_FOUND:
                raise translate(answer, f"dropping topic {shards[0].topic!r}")

    def _existing(self, name: str) -> TopicEntry:
        entry = self._catalog.topics.get(name)
        if entry is None:
            raise TopicNotFound(name)
        return entry

    # -- describing

    async def infos(self, names: Iterable[str] | None) -> list[TopicInfo]:
        await self._catalog.refresh()
        topics = self._catalog.topics
        wanted = topics if names is None else {name for name in names if name in topics}
        return [await self._info(topics[name]) for name in sorted(wanted)]

    async def _info(self, entry: TopicEntry) -> TopicInfo:
        shards = self.shards(entry)
        answers = await self._jetstream.calls([(f"STREAM.INFO.{shard.stream}", None) for shard in shards])
        partitions = tuple(_partition(shard.partition, answer) for shard, answer in zip(shards, answers, strict=True))
        return TopicInfo(entry.name, entry.options, partitions, entry.schemas)


def _partition(partition: int, answer: Answer | Refusal) -> PartitionInfo:
    if isinstance(answer, Refusal):
        if answer.code != STREAM_NOT_FOUND:
            raise translate(answer, "describing a topic")
        return PartitionInfo(partition, 0, 0, 0)
    state = answer["state"]
    return PartitionInfo(partition, max(0, state["first_seq"] - 1), state["last_seq"], state["bytes"])
