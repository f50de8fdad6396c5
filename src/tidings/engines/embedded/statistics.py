"""How topics and groups stand, put together from the logs and control.db when somebody asks; nothing is kept for it."""

from __future__ import annotations

import os
from contextlib import suppress

from tidings.engines.embedded import flow
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Topic
from tidings.engines.embedded.control.groups import Standing
from tidings.engines.embedded.disk.room import KEEP_FREE_BYTES
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.reading.start import start_offset
from tidings.errors import DamagedData, EngineError, GroupNotFound, TopicNotFound
from tidings.model.topics import Pattern
from tidings.spi import GroupInfo, TopicStatistics


def all_groups(bus: Bus, topic: str | None) -> list[GroupInfo]:
    """Return how each group stands on each of its topics, or on one topic."""
    found = []
    for group, stored in bus.groups.bindings().items():
        patterns = [Pattern.from_stored(text) for text in stored]
        for name, each in sorted(bus.catalog.topics.items()):
            if (topic is None or name == topic) and any(pattern.matches(name) for pattern in patterns):
                with suppress(GroupNotFound):  # dropped meanwhile
                    found.append(_info(bus, group, each)[0])
    return found


def _info(bus: Bus, group: str, topic: Topic) -> tuple[GroupInfo, Standing]:
    ends = {shard.id: start_offset(bus, shard, "end") for shard in topic.shards}
    number = bus.groups.find(group)
    standing = bus.groups.standing(number, ends, bus.clock.monotonic())
    info = GroupInfo(
        group=group,
        topic=topic.name,
        lag=standing.lag,
        held=standing.held,
        retrying=standing.retrying,
        lag_seconds=_age(bus, topic, standing),
        consumers=bus.members.consumers(number),
        **standing.counts,
    )
    return info, standing


def _age(bus: Bus, topic: Topic, standing: Standing) -> float:
    """Return the age of the oldest message that is not settled, in seconds."""
    times = []
    for shard in topic.shards:
        if shard.id in standing.oldest:
            try:
                bus.catalog.use(shard)
                batches = shard.log.read(standing.oldest[shard.id])
            except (DamagedData, LogGone):
                continue
            times += [batch.time_ns for batch in batches[:1]]
    return max(0.0, bus.clock.now() - min(times) / 1e9) if times else 0.0


def of_topic(bus: Bus, topic: Topic, window: float) -> TopicStatistics:
    """Return how a topic does. Raises `TopicNotFound` when it is dropped meanwhile."""
    try:
        ends = flow.ends_of(bus, topic)
        since = bus.clock.now() - window
        recent = sum(ends[shard.id] - shard.log.find_time(int(since * 1e9)) for shard in topic.shards)
    except LogGone:
        raise TopicNotFound(topic.name) from None
    pairs = []
    for group in flow.groups_of(bus, topic.name):
        with suppress(GroupNotFound):  # dropped meanwhile
            pairs.append(_info(bus, group, topic))
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
        subscribers=bus.members.subscribers(topic.name),
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
