"""Groups: a durable consumer for each stream, made where the group begins to collect, moved, dropped, described."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tidings.brokers.registry import GroupEntry, TopicEntry, new_group
from tidings.engines.nats.catalog import Catalog, Moved
from tidings.engines.nats.names import Names, Shard
from tidings.engines.nats.options import NatsOptions
from tidings.engines.nats.reading.tail import start_policy
from tidings.engines.nats.server.errors import (
    GONE,
    MESSAGE_NOT_FOUND,
    STREAM_NOT_FOUND,
    Refusal,
    meanwhile,
    translate,
)
from tidings.engines.nats.server.jetstream import Answer, JetStream
from tidings.engines.nats.topics import ATTEMPTS, Topics
from tidings.errors import BusBusy, GroupNotFound
from tidings.model.clock import Clock
from tidings.model.options import Guarantee, Start
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import GroupInfo


class Groups:
    """The groups of a bus."""

    def __init__(
        self, jetstream: JetStream, catalog: Catalog, topics: Topics, names: Names, options: NatsOptions, clock: Clock
    ) -> None:
        self._jetstream = jetstream
        self._catalog = catalog
        self._topics = topics
        self._names = names
        self._options = options
        self._clock = clock

    def consumer(self, group: str, shard: Shard) -> str:
        """Return the name of a group's consumer on a stream."""
        return self._names.consumer(group, self._born(shard), self._generation(group, shard))

    def _born(self, shard: Shard) -> float:
        entry = self._catalog.topics.get(shard.topic)
        return 0.0 if entry is None else entry.created

    def _generation(self, group: str, shard: Shard) -> int:
        return self._catalog.moved.get((group, shard.stream), 0)

    # -- binding

    async def bind(self, spec: SubscriptionSpec) -> GroupEntry:
        """Let the group collect from what the spec says, too; see `spi.Groups.create_group`."""
        group = spec.group or ""
        await self._catalog.refresh()
        for pattern in spec.patterns:
            if pattern.literal is not None:
                await self._topics.find(pattern.literal)
        for _ in range(ATTEMPTS):
            await self._catalog.refresh()
            before = self._catalog.groups.get(group)
            now = self._clock.now()
            entry = new_group(spec, now) if before is None else before.joined(spec, now)
            if entry == before or await self._catalog.put("g", group, entry):
                await self._start(spec, before)
                return entry
        raise BusBusy(f"consumer group {group!r} was changed {ATTEMPTS} times meanwhile; try again")

    async def _start(self, spec: SubscriptionSpec, before: GroupEntry | None) -> None:
        """Make the consumers that are missing on the topics there are."""
        wanted = [
            (shard, "beginning" if before is not None and _is_later(entry, before) else spec.start)
            for entry in self._catalog.topics.values()
            if any(pattern.matches(entry.name) for pattern in spec.patterns)
            for shard in self._topics.shards(entry)
        ]
        await self.make(spec.group or "", wanted)

    async def appeared(self, entry: TopicEntry) -> None:
        """Let the groups that collect from a new topic have all of it."""
        await self._catalog.refresh()
        for group in self._catalog.groups.values():
            if group.matches(entry.name):
                await self.make(group.name, [(shard, "beginning") for shard in self._topics.shards(entry)])

    async def make(self, group: str, wanted: Sequence[tuple[Shard, Start]]) -> list[Answer]:
        """Return what the server says of the group's consumers, after making those that are missing."""
        streams = [shard.stream for shard, _ in wanted]
        names = [self.consumer(group, shard) for shard, _ in wanted]
        answers = await self._look(streams, names)
        missing = [index for index, answer in enumerate(answers) if isinstance(answer, Refusal)]
        calls = [self._creation(wanted[index][0], names[index], wanted[index][1]) for index in missing]
        for index, answer in zip(missing, await self._jetstream.calls(calls), strict=True):
            if isinstance(answer, Refusal):
                (answer,) = await self._once_more(wanted[index][0], names[index], wanted[index][1], answer)
            answers[index] = answer
        return [answer for answer in answers if not isinstance(answer, Refusal)]

    async def _once_more(self, shard: Shard, name: str, start: Start, refusal: Refusal) -> list[Answer]:
        """Make a consumer where the stream was missing, or somebody else was faster."""
        if refusal.code == STREAM_NOT_FOUND:
            await self._topics.build(shard.topic)
            answers = await self._jetstream.calls([self._creation(shard, name, start)])
        else:
            answers = await self._look([shard.stream], [name])
        found = [answer for answer in answers if not isinstance(answer, Refusal)]
        if not found:
            raise meanwhile(refusal, shard.topic)
        return found

    async def _look(self, streams: Sequence[str], names: Sequence[str]) -> list[Answer | Refusal]:
        answers = await self._jetstream.calls(
            [(f"CONSUMER.INFO.{stream}.{name}", None) for stream, name in zip(streams, names, strict=True)]
        )
        for answer in answers:
            if isinstance(answer, Refusal) and answer.code not in GONE:
                raise translate(answer, "looking for a group")
        return answers

    def _creation(self, shard: Shard, name: str, start: Start) -> tuple[str, object]:
        config: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": int(self._options.lease_seconds * 1e9),
            "max_deliver": -1,
            "max_ack_pending": -1,
            "filter_subject": shard.subject,
            **start_policy(start),
        }
        body = {"stream_name": shard.stream, "config": config, "action": "create"}
        return f"CONSUMER.CREATE.{shard.stream}.{name}", body

    # -- moving, dropping

    async def seek(self, topic: str, group: str, start: Start) -> None:
        await self._catalog.refresh()
        shards = self._shards(topic, group)
        if not shards:
            raise GroupNotFound(group, topic)
        for shard in shards:
            await self._seek(shard, group, start)

    async def _seek(self, shard: Shard, group: str, start: Start) -> None:
        """Give the group a consumer of another name, at the place; then the old deliveries belong to nobody."""
        for _ in range(ATTEMPTS):
            old = self.consumer(group, shard)
            generation = self._generation(group, shard) + 1
            new = self._names.consumer(group, self._born(shard), generation)
            await self._delete([(shard.stream, new)])  # of a move that was broken off
            (answer,) = await self._jetstream.calls([self._creation(shard, new, start)])
            if isinstance(answer, Refusal):
                raise translate(answer, f"moving group {group!r}")
            moved = Moved(group, shard.stream, generation)
            if await self._catalog.put("p", f"{shard.stream}/{group}", moved):
                return await self._delete([(shard.stream, old)])
        raise BusBusy(f"consumer group {group!r} was moved {ATTEMPTS} times meanwhile; try again")

    async def drop(self, group: str) -> None:
        for _ in range(ATTEMPTS):
            await self._catalog.refresh()
            if group not in self._catalog.groups:
                raise GroupNotFound(group)
            if await self._catalog.put("g", group, None):
                break
        shards = [shard for entry in self._catalog.topics.values() for shard in self._topics.shards(entry)]
        await self._delete([(shard.stream, self.consumer(group, shard)) for shard in shards])

    async def _delete(self, consumers: Sequence[tuple[str, str]]) -> None:
        answers = await self._jetstream.calls(
            [(f"CONSUMER.DELETE.{stream}.{name}", None) for stream, name in consumers]
        )
        for answer in answers:
            if isinstance(answer, Refusal) and answer.code not in GONE:
                raise translate(answer, "dropping a group")

    # -- describing

    def _shards(self, topic: str, group: str) -> list[Shard]:
        found = self._catalog.groups.get(group)
        entry = self._catalog.topics.get(topic)
        return self._topics.shards(entry) if found and entry and found.matches(topic) else []

    async def has(self, group: str) -> bool:
        await self._catalog.refresh()
        return group in self._catalog.groups

    async def infos(self, topic: str | None) -> list[GroupInfo]:
        await self._catalog.refresh()
        topics = self._catalog.topics if topic is None else [topic]
        found = [
            await self._info(group, name, shards)
            for group in self._catalog.groups.values()
            for name in topics
            if (shards := self._shards(name, group.name))
        ]
        return sorted(found, key=lambda info: (info.group, info.topic))

    async def _info(self, group: GroupEntry, topic: str, shards: Sequence[Shard]) -> GroupInfo:
        streams = [shard.stream for shard in shards]
        answers = await self._look(streams, [self.consumer(group.name, shard) for shard in shards])
        places = [(shard, answer) for shard, answer in zip(shards, answers, strict=True) if isinstance(answer, dict)]
        once = self._topics.terms(topic).delivery is Guarantee.AT_MOST_ONCE
        pending = 0 if once else sum(answer["num_ack_pending"] for _, answer in places)
        lag = pending + sum(answer["num_pending"] for _, answer in places)
        return GroupInfo(
            group=group.name,
            topic=topic,
            lag=lag,
            held=-1 if pending else 0,  # the server does not tell what is held from what waits for a retry
            retrying=-1 if pending else 0,
            lag_seconds=await self._age(places) if lag else 0.0,
            filter=None if group.predicate is None else str(group.predicate),
        )

    async def _age(self, places: Iterable[tuple[Shard, Answer]]) -> float:
        """Return how old the oldest message is that is not settled."""
        calls = [
            (
                f"STREAM.MSG.GET.{shard.stream}",
                {"seq": answer["ack_floor"]["stream_seq"] + 1, "next_by_subj": shard.subject},
            )
            for shard, answer in places
            if answer["num_ack_pending"] or answer["num_pending"]
        ]
        oldest = time.time()
        for answer in await self._jetstream.calls(calls):
            if isinstance(answer, dict):
                oldest = min(oldest, read_time(answer["message"]["time"]))
            elif answer.code not in (*MESSAGE_NOT_FOUND, *GONE):
                raise translate(answer, "describing a group")
        return max(0.0, self._clock.now() - oldest)


def read_time(text: str) -> float:
    """Return a time as the server writes it as seconds since the epoch."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _is_later(entry: TopicEntry, group: GroupEntry) -> bool:
    """Whether the topic was made after the group began to collect from it."""
    return group.matches(entry.name) and entry.created > min(group.patterns.values())
