"""Where reading begins: which topics a subscription reads, from which offset, and how a group is bound to them."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.log.segments import LogGone
from tidings.model.options import Start
from tidings.model.subscription import SubscriptionSpec, check_filter
from tidings.model.topics import Pattern


def matching(bus: Bus, patterns: Sequence[Pattern]) -> list[Topic]:
    """Return the topics that one of the patterns matches."""
    topics = bus.catalog.topics
    if all(pattern.literal is not None for pattern in patterns):
        return [topics[name] for name in dict.fromkeys(map(str, patterns)) if name in topics]
    return [topic for topic in list(topics.values()) if any(pattern.matches(topic.name) for pattern in patterns)]


def start_offset(bus: Bus, shard: Shard, start: Start) -> int:
    """Return the offset where reading a shard from `start` begins."""
    try:
        if start == "end" and (written := bus.hub.written(shard.id)):
            return written
        bus.catalog.use(shard)
        if start == "end":
            return shard.log.end()
        if isinstance(start, float):
            return shard.log.find_time(int(start * 1e9))
        return start if isinstance(start, int) else shard.log.extent()[0]
    except LogGone:
        return 0


def bind(bus: Bus, spec: SubscriptionSpec) -> int:
    """Make the group of a spec collect from its topics, from its start where it has no place yet. Raises `GroupExists`
    when it has another filter."""
    assert spec.group is not None
    stored = [str(pattern) for pattern in spec.patterns]
    if bus.groups.is_bound(spec.group, stored):
        check_filter(spec.group, bus.groups.filter(spec.group), spec.filter)
        return bus.groups.find(spec.group)
    for pattern in spec.patterns:
        if pattern.literal is not None:
            bus.topic(pattern.literal)
    bus.catalog.refresh()
    placed = [Pattern.from_stored(text) for text in bus.groups.bindings().get(spec.group, ())]
    topics = [topic for topic in matching(bus, spec.patterns) if not any(p.matches(topic.name) for p in placed)]
    starts = {shard.id: start_offset(bus, shard, spec.start) for topic in topics for shard in topic.shards}
    return bus.groups.bind(spec.group, stored, starts, bus.clock.monotonic(), spec.filter)
