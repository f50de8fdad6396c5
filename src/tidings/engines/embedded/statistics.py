"""How topics and groups stand, put together from the logs and control.db when somebody asks; nothing is kept for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tidings.engines.embedded import flow
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.control.groups import Group, Standing
from tidings.engines.embedded.control.members import Attached
from tidings.engines.embedded.disk.room import KEEP_FREE_BYTES
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.reading.start import start_offset
from tidings.errors import DamagedData, EngineError
from tidings.spi import GroupInfo, SubscriberInfo, TopicStatistics


def all_groups(bus: Bus, topic: str | None) -> list[GroupInfo]:
    """Return how each group stands on each of its topics, or on one topic."""
    topics = [each for name, each in sorted(bus.catalog.topics.items()) if topic is None or name == topic]
    return [_info(bus, group, each)[0] for group in bus.groups.all() for each in topics if group.collects(each.name)]


def _info(bus: Bus, group: Group, topic: Topic) -> tuple[GroupInfo, Standing]:
    ends = {shard.id: start_offset(bus, shard, "end") for shard in topic.shards}
    standing = bus.groups.standing(group.id, ends, bus.clock.monotonic())
    info = GroupInfo(
        group=group.name,
        topic=topic.name,
        filter=None if group.filter is None else str(group.filter),
        lag=standing.lag,
        held=standing.held,
        retrying=standing.retrying,
        lag_seconds=_age(bus, topic, standing.oldest),
        consumers=bus.members.consumers(group.id),
        **standing.counts,
    )
    return info, standing


def _subscriber(
    bus: Bus, topic: Topic, who: Attached, groups: Mapping[str, GroupInfo], ends: Mapping[int, int]
) -> SubscriberInfo:
    """Return how a subscription stands on a topic: as its group does, or by what it said that it has read."""
    group = groups.get(who.group or "")
    if group is not None:
        lag, age = group.lag, group.lag_seconds
    else:
        places = {shard.id: _place(shard, who) for shard in topic.shards}
        behind = {shard: place for shard, place in places.items() if 0 <= place < ends[shard]}
        lag, age = sum(ends[shard] - place for shard, place in behind.items()), _age(bus, topic, behind)
    return SubscriberInfo(who.name, who.group, who.pid, who.since, lag, age, who.last)


def _place(shard: Shard, who: Attached) -> int:
    """Return how far a temporary subscription has read, -1 for everything."""
    place = who.places.get(shard.id)
    if place is not None:
        return place
    return -1 if who.rides else shard.log.find_time(int(who.since * 1e9))


def _age(bus: Bus, topic: Topic, oldest: Mapping[int, int]) -> float:
    """Return the age of the oldest of these messages, an offset for each shard, in seconds."""
    times = []
    for shard in topic.shards:
        if shard.id in oldest:
            try:
                bus.catalog.use(shard)
                batches = shard.log.read(oldest[shard.id])
            except (DamagedData, LogGone):
                continue
            times += [batch.time_ns for batch in batches[:1]]
    return max(0.0, bus.clock.now() - min(times) / 1e9) if times else 0.0


def of_topics(bus: Bus, names: Sequence[str] | None, window: float) -> list[TopicStatistics]:
    """Return how the topics do, or those of `names` that exist, sorted by name."""
    known = dict(bus.catalog.topics)
    chosen = sorted(known if names is None else known.keys() & set(names))
    groups = bus.groups.all()
    subscribers = bus.members.subscribers()
    found = []
    for name in chosen:
        with suppress(LogGone):  # dropped meanwhile
            found.append(_of_topic(bus, known[name], window, groups, subscribers))
    return found


def _of_topic(
    bus: Bus, topic: Topic, window: float, groups: Sequence[Group], subscribers: Sequence[Attached]
) -> TopicStatistics:
    ends = flow.ends_of(bus, topic)
    since = bus.clock.now() - window
    recent = sum(ends[shard.id] - shard.log.find_time(int(since * 1e9)) for shard in topic.shards)
    pairs = [_info(bus, group, topic) for group in groups if group.collects(topic.name)]
    by_group = {info.group: info for info, _ in pairs}
    infos = [info for info, _ in pairs]
    acks, fails = sum(standing.ack_rate for _, standing in pairs), sum(standing.fail_rate for _, standing in pairs)
    return TopicStatistics(
        topic=topic.name,
        window=window,
        published=sum(ends.values()),
        consumed=sum(info.acked for info in infos),
        pending=max((info.lag for info in infos), default=0),
        scheduled=bus.outbox.scheduled(topic.name),
        expired=sum(info.expired for info in infos),
        dead=sum(info.dead for info in infos),
        skipped=sum(info.skipped for info in infos),
        redelivered=sum(info.redelivered for info in infos),
        lag_seconds=max((info.lag_seconds for info in infos), default=0.0),
        publish_rate=max(0, recent) / window,
        consume_rate=acks,
        error_rate=fails / (acks + fails) if fails else 0.0,
        subscribers=tuple(
            _subscriber(bus, topic, each, by_group, ends) for each in subscribers if each.reads(topic.name)
        ),
        groups=tuple(infos),
    )


def problems(bus: Bus) -> list[str]:
    """Return what stands in the way of storing and delivering, a line each."""
    found = []
    try:
        with bus.control.write():
            pass
    except EngineError as error:
        found.append(f"control.db cannot be written: {error}")
    if bus.room is not None and bus.room.free() < 2 * KEEP_FREE_BYTES:
        found.append(f"the disk has {bus.room.free()} bytes left; publishers stop at {KEEP_FREE_BYTES}")
    if bus.folder is not None and not os.access(bus.folder / "topics", os.W_OK | os.X_OK):
        found.append(f"{bus.folder / 'topics'} cannot be written")
    for topic in list(bus.catalog.topics.values()):
        try:
            for shard in topic.shards:
                bus.catalog.use(shard)
                shard.log.extent()
        except (DamagedData, EngineError) as error:
            found.append(f"topic {topic.name!r}: {error}")
        except LogGone:
            continue
    return found
