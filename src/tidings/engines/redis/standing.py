"""How topics and groups do, out of what Redis counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.brokers.registry import GroupEntry, TopicEntry, read_topic
from tidings.engines.redis.reading.reader import OFFSET_STEP
from tidings.engines.redis.server.link import Link
from tidings.spi import ConsumerInfo, GroupInfo, PartitionInfo, SubscriberInfo, TopicInfo, TopicStatistics

COUNTERS = ("acked", "dead", "expired", "skipped", "filtered", "redelivered", "failed")

RATE_SECONDS = 10
"""What is done is counted together over so many seconds: rates are not finer."""


class About(Struct):
    """What a subscription says of itself, in Redis. `since`: seconds since the epoch."""

    consumer: str
    group: str
    pid: int
    since: float
    channel: str


class _Stream(Struct, array_like=True):
    suffix: str
    next: int
    cut: int
    length: int
    bytes: int

    @property
    def partition(self) -> int:
        return int(self.suffix[1:].partition(".")[0] or 0)

    def info(self) -> PartitionInfo:
        size = self.bytes * self.length // max(1, self.next)
        return PartitionInfo(self.partition, self.cut, self.cut + self.length, size)


class Standing:
    """One topic as it is now. `now`: the time of the server, in seconds since the epoch."""

    def __init__(self, now: float, answer: Any, filters: dict[str, str | None]) -> None:
        name, stored, mode, streams, groups, members, read, scheduled, recent, acked, failed = answer
        self.entry: TopicEntry = read_topic(stored)
        self.name = name.decode()
        self._now = now
        self._streams = [_Stream(each[0].decode(), *each[1:]) for each in streams]
        self._published = sum(each.next if mode == b"p" else each.cut + each.length for each in self._streams)
        self._scheduled = scheduled
        self._rates = recent, acked, failed
        self._read = {name.decode(): entry.decode() for name, entry in _pairs(read)}
        self._members = {name.decode(): msgspec.json.decode(about, type=About) for name, about in _pairs(members)}
        self.groups = [self._group(each, filters) for each in sorted(groups, key=lambda each: each[0])]

    def info(self) -> TopicInfo:
        """Return it as a topic."""
        partitions: dict[int, PartitionInfo] = {}
        for each in map(_Stream.info, self._streams):
            before = partitions.get(each.partition, PartitionInfo(each.partition, 0, 0, 0))
            partitions[each.partition] = PartitionInfo(
                each.partition,
                before.first_offset + each.first_offset,
                before.next_offset + each.next_offset,
                before.bytes + each.bytes,
            )
        ordered = tuple(partitions[number] for number in sorted(partitions))
        return TopicInfo(self.name, self.entry.options, ordered, self.entry.schemas)

    def _group(self, answer: Any, filters: dict[str, str | None]) -> GroupInfo:
        name, lag, retrying, oldest, consumers, counted = answer
        group = name.decode()
        held = {consumer.decode(): number for consumer, number in _pairs(consumers)}
        counters = {counter.decode(): int(number) for counter, number in _pairs(counted)}
        mine = sorted((about.since, each) for each, about in self._members.items() if about.group == group)
        return GroupInfo(
            group=group,
            topic=self.name,
            lag=lag,
            held=sum(held.values()),
            retrying=retrying,
            lag_seconds=max(0.0, self._now - int(oldest) / 1e6) if oldest else 0.0,
            consumers=tuple(
                ConsumerInfo(self._members[each].consumer, self._members[each].pid, held.get(each, 0))
                for _, each in mine
            ),
            filter=filters.get(group),
            **{counter: counters.get(counter, 0) for counter in COUNTERS},
        )

    # -- statistics

    def statistics(self, window: float) -> TopicStatistics:
        """Return how the topic does."""
        recent, acked, failed = self._rates
        groups = self.groups
        return TopicStatistics(
            topic=self.name,
            window=window,
            published=self._published,
            consumed=sum(group.acked for group in groups),
            pending=max((group.lag for group in groups), default=0),
            scheduled=self._scheduled,
            expired=sum(group.expired for group in groups),
            dead=sum(group.dead for group in groups),
            skipped=sum(group.skipped for group in groups),
            redelivered=sum(group.redelivered for group in groups),
            lag_seconds=max((group.lag_seconds for group in groups), default=0.0),
            publish_rate=recent / window,
            consume_rate=acked / max(window, RATE_SECONDS),
            error_rate=failed / (acked + failed) if failed else 0.0,
            subscribers=tuple(self._subscribers()),
            groups=tuple(groups),
        )

    def _subscribers(self) -> list[SubscriberInfo]:
        lags = {group.group: (group.lag, group.lag_seconds) for group in self.groups}
        found = []
        for name, about in sorted(self._members.items(), key=lambda each: (each[1].since, each[0])):
            lag, seconds = lags.get(about.group) or self._unread(name)
            group = about.group or None
            found.append(SubscriberInfo(about.consumer, group, about.pid, about.since, lag, seconds, None))
        return found

    def _unread(self, name: str) -> tuple[int, float]:
        """Return how many messages a temporary subscription has not fetched, and since when about."""
        lag, oldest = 0, self._now
        for stream in self._streams:
            milliseconds, _, sequence = self._read.get(name + stream.suffix, "0-0").partition("-")
            first = stream.cut if milliseconds == "0" else int(sequence) // OFFSET_STEP + 1
            unread = max(0, stream.next - first)
            lag += unread
            if unread and milliseconds != "0":
                oldest = min(oldest, int(milliseconds) / 1e3)
        return lag, self._now - oldest if lag else 0.0


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


async def look(link: Link, groups: Sequence[GroupEntry], names: Sequence[str] | None, window: float) -> list[Standing]:
    """Return how these topics stand, or all, sorted by name; what does not exist is left out."""
    if names is not None and not names:
        return []
    _, now, answers = await link.run("describe", window, *(names or ()), repeat=True)
    filters = {group.name: None if group.predicate is None else str(group.predicate) for group in groups}
    found = [Standing(int(now) / 1e6, answer, filters) for answer in answers]
    return sorted(found, key=lambda each: each.name)
