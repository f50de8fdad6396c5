"""Topics with a bound on what their groups have not settled: making room, refusing, and waiting for room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tidings.engines.embedded.catalog import Catalog, Topic
from tidings.engines.embedded.control.groups import Groups
from tidings.engines.embedded.log.segments import LogGone
from tidings.errors import GroupNotFound, TopicFull
from tidings.model.clock import Clock
from tidings.model.options import Overflow
from tidings.model.topics import Pattern


class Bounded(Protocol):
    """What is needed of the bus."""

    groups: Groups
    catalog: Catalog
    clock: Clock


def groups_of(bus: Bounded, topic: str) -> list[str]:
    """Return the names of the groups that collect from a topic."""
    return [
        group
        for group, stored in bus.groups.bindings().items()
        if any(Pattern.from_stored(pattern).matches(topic) for pattern in stored)
    ]


def ends_of(bus: Bounded, topic: Topic) -> dict[int, int]:
    """Return where the logs of a topic end, by shard."""
    ends = {}
    for shard in topic.shards:
        bus.catalog.use(shard)
        ends[shard.id] = shard.log.end()
    return ends


def make_room(bus: Bounded, topic: Topic, count: int) -> None:
    """Return when `count` messages more are within the topic's bound for each group. Raises `TopicFull`; drops the
    oldest unread messages of slow groups where that is the topic's way."""
    bound = topic.options.max_length
    assert bound is not None
    try:
        ends = ends_of(bus, topic)
        for name in groups_of(bus, topic.name):
            group = bus.groups.find(name)
            excess = bus.groups.standing(group, ends, 0.0).lag + count - bound
            if excess > 0 and topic.options.overflow is not Overflow.DROP_OLDEST:
                raise TopicFull(topic.name, bound, name)
            if excess > 0:
                _drop(bus, topic, group, excess)
    except (LogGone, GroupNotFound):  # dropped meanwhile: a topic is made anew, and empty; a group waits for nothing
        return


def _drop(bus: Bounded, topic: Topic, group: int, excess: int) -> None:
    """Let the group skip the oldest messages that it has not claimed, batch by batch."""
    while excess > 0:
        places = bus.groups.cursors(group)
        heads = [(found[0], shard) for shard in topic.shards if (found := shard.log.read(places.get(shard.id, 0)))]
        if not heads:
            return
        batch, shard = min(heads, key=lambda head: head[0].time_ns)
        dropped = bus.groups.drop_oldest(group, shard.id, excess, batch.end, bus.clock.monotonic())
        if dropped == 0:
            return
        excess -= dropped


class Vacancy:
    """A publisher that waits for room: what the hub wakes when there may be some."""

    patterns: tuple[Pattern, ...] = ()

    def __init__(self) -> None:
        self.waker: Callable[[], None] | None = None
        self._ready = False

    def vacate(self) -> None:
        self._ready = True
        waker = self.waker
        if waker is not None:
            waker()

    def stir(self) -> None:
        """A group was dropped or moved, or somebody died: there may be room, too."""
        self.vacate()

    def is_ready(self) -> bool:
        return self._ready

    def again(self) -> None:
        """Begin to wait; called before looking for room, so that none is missed that comes after."""
        self._ready = False

    def touch(self, shard: int) -> None:
        """What is published makes no room."""

    def discover(self, topic: Topic) -> None:
        """A new topic makes no room."""
