"""What the tests of an open bus do with it: publish, read as somebody, settle."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tidings.engines.embedded.bus import Bus, BusOptions
from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.reading.group import GroupFeed
from tidings.engines.embedded.reading.tail import TailFeed
from tidings.errors import BusBusy
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import NORMAL_PRIORITY, Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import Output, Settlement
from tidings.testing.clock import ManualClock

LEASE = 30.0

_numbers = itertools.count()


class Buses:
    """Opens one bus as several processes do, with a clock that they share; closes all of them."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.opened: list[Bus] = []

    def open(self, **options: Any) -> Bus:
        self.opened.append(Bus(self.folder, BusOptions(lease_seconds=LEASE, **options), self.clock))
        return self.opened[-1]

    def kill(self, bus: Bus) -> None:
        """What is left of a process that was killed: its rows, and a slot that is free."""
        assert bus.presence is not None
        bus.presence.close()
        bus.pump._moved.clear()  # it will finish nothing

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


def records(*data: bytes | str, key: str | None = None, ttl_until: float | None = None) -> list[Record]:
    """Records with ids of their own."""
    extra = None if ttl_until is None else {"expires": ttl_until}
    plain = [each.encode() if isinstance(each, str) else each for each in data]
    return [Record(f"id-{next(_numbers)}", "t", each, key, None, extra) for each in plain]


def level(priority: int = NORMAL_PRIORITY, at: float | None = None) -> PublishOptions:
    return PublishOptions(Durability.OS, priority, at)


def publish(bus: Bus, topic: str, *data: bytes | str, key: str | None = None, priority: int = 5) -> list[Receipt]:
    """Publish as one batch."""
    return bus.append(topic, records(*data, key=key), level(priority))[0]


def numbered(bus: Bus, count: int, topic: str = "orders", first: int = 0) -> None:
    """Publish numbers, one at a time."""
    for number in range(first, first + count):
        publish(bus, topic, b"%d" % number)


def spec(*topics: str, group: str | None = None, **options: Any) -> SubscriptionSpec:
    options.setdefault("consumer", "ann")
    return SubscriptionSpec(patterns=parse_topics(list(topics)), group=group, **options)


def tail(bus: Bus, *topics: str, **options: Any) -> TailFeed[Message]:
    return TailFeed(bus, spec(*topics, **options), Message)


def consumer(bus: Bus, *topics: str, **options: Any) -> GroupFeed[Message]:
    options.setdefault("group", "billing")
    return GroupFeed(bus, spec(*topics, **options), Message)


def data(messages: Iterable[Message]) -> list[str]:
    return [message.record.data.decode() for message in messages]


def told(messages: Iterable[Message]) -> list[tuple[str, int]]:
    """What was delivered, and for which attempt."""
    return [(message.record.data.decode(), message.attempt) for message in messages]


def settle(feed: Any, messages: Sequence[Message], action: str, seconds: float | None = None, **why: str) -> None:
    feed.settle([Settlement(message, action, seconds, **why) for message in messages])


def outputs(topic: str, *data: str, priority: int = NORMAL_PRIORITY, at: float | None = None) -> list[Output]:
    return [Output(topic, record, level(priority, at)) for record in records(*data)]


def everything(feed: Any, limit: int = 100) -> list[Message]:
    """Poll until there is nothing more."""
    found: list[Message] = []
    while some := feed.poll(limit):
        found += some
    return found


def stored(bus: Bus, topic: str) -> list[str]:
    """The data of all messages of a topic, shard by shard."""
    found: list[str] = []
    for shard in bus.topic(topic).shards:
        at = 0
        while batches := shard.log.read(at):
            found += [record.data.decode() for batch in batches for record in batch.records]
            at = batches[-1].end
    return found


def counts(bus: Bus, topic: str = "orders", group: str = "billing") -> dict[str, int]:
    """The totals of a group on a topic that are not 0, and its lag."""
    ends = {shard.id: shard.log.end() for shard in bus.topic(topic).shards}
    standing = bus.groups.standing(bus.groups.find(group), ends, bus.clock.monotonic())
    return {name: count for name, count in [("lag", standing.lag), *standing.counts.items()] if count}


class Died(BaseException):
    """The process was killed here."""


def stage(bus: Bus, topic: str, *data: str, due: float = 1.0, **options: Any) -> list[int]:
    """Stage messages that are due."""
    entries = [Entry(topic=topic, record=record, priority=5, due=due, **options) for record in records(*data)]
    return bus.outbox.add(entries, 1.0, False)


def run(bus: Bus) -> None:
    bus.pump.hurry()
    bus.pump.run()


def rows(bus: Bus) -> list[tuple[str, int | None]]:
    """What is staged: its topic, and who moves it."""
    return [(topic, mover) for topic, mover in bus.control.read("SELECT topic, mover FROM staged ORDER BY id")]


def polled(feed: GroupFeed[Message], limit: int = 100) -> list[Message]:
    """Everything that a consumer gets as long as it is ready; a poll may find nothing and be ready for more."""
    found: list[Message] = []
    for _ in range(500):
        some = feed.poll(limit)
        found += some
        if not some and not feed.is_ready():
            break
    return found


def busy(*_: object, **__: object) -> Any:
    raise BusBusy("a stopped process holds the lock")


@contextmanager
def killed_at(buses: Buses, bus: Bus, step: str) -> Iterator[None]:
    """Let a process die in the middle of moving: before or after one step, with nothing cleaned up."""
    part, name, when = step.split()
    owner: Any = {"outbox": bus.outbox, "bus": bus, "log": FileLog, "pump": bus.pump}[part]
    real = getattr(owner, name)

    def die(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            real(*arguments, **options)
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, die)
        if step != "outbox let_go before":
            patch.setattr(bus.outbox, "let_go", lambda *_, **__: None)  # the dead let nothing go
        with pytest.raises(Died):
            yield
    buses.kill(bus)
