"""Publish order across logs: what the merge says against a plain model that knows when everything was published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.hands import Hands
from tests.engines.sample import memory_log
from tests.engines.sample import records as some
from tests.engines.stage import Buses, publish
from tidings.engines.embedded.catalog import Place, Shard
from tidings.engines.embedded.log import memorylog
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.segments import LogLimits
from tidings.engines.embedded.reading import merge as module
from tidings.engines.embedded.reading.merge import first_published, stable_ends


class Shards:
    """Some logs with one clock, and in `order` what was published when: (shard, offset)."""

    def __init__(self, count: int, limits: LogLimits | None = None) -> None:
        self.clock = Hands(1000.0)
        self.logs = [memory_log(limits, self.clock) for _ in range(count)]
        self.by_number = {
            number: Shard(number, Place("orders", 0, number, 0), lambda shard: self.logs[shard.id])
            for number in range(count)
        }
        self.order: list[tuple[int, int]] = []

    def publish(self, number: int, count: int = 1) -> None:
        self.clock.at += 1
        base, _ = self.logs[number].append(some(*[b"x"] * count))
        self.order += [(number, base + at) for at in range(count)]

    def ends(self) -> dict[int, int]:
        return {number: log.end() for number, log in enumerate(self.logs)}

    def stops(self, places: dict[int, int], limit: int, ends: dict[int, int] | None = None) -> dict[int, int]:
        return first_published(self.by_number, places, ends or self.ends(), limit)


def test_the_first_published_come_first() -> None:
    shards = Shards(3)
    for number in (0, 2, 1, 1, 0):
        shards.publish(number)
    assert [shards.stops({}, limit) for limit in range(1, 7)] == [
        {0: 1, 1: 0, 2: 0},
        {0: 1, 1: 0, 2: 1},
        {0: 1, 1: 1, 2: 1},
        {0: 1, 1: 2, 2: 1},
        {0: 2, 1: 2, 2: 1},
        {0: 2, 1: 2, 2: 1},
    ]


def test_a_batch_is_cut_where_the_limit_is() -> None:
    shards = Shards(2)
    shards.publish(0, 5)
    shards.publish(1, 5)
    assert shards.stops({0: 2}, 2) == {0: 4, 1: 0}
    assert shards.stops({0: 2, 1: 1}, 4) == {0: 5, 1: 2}


def test_what_is_beyond_the_ends_does_not_count() -> None:
    shards = Shards(2)
    shards.publish(0, 3)
    shards.publish(1, 3)
    assert shards.stops({}, 10, {0: 2, 1: 1}) == {0: 2, 1: 1}


def test_what_retention_removed_takes_no_room() -> None:
    shards = Shards(2, LogLimits(segment_bytes=1, keep_messages=2))
    for number in range(10):
        shards.publish(number % 2)
    assert shards.stops({}, 2) == {0: 4, 1: 4}
    assert shards.stops({}, 3) == {0: 5, 1: 4}


def test_an_empty_log_is_read_from_its_place() -> None:
    shards = Shards(2)
    shards.publish(0)
    assert shards.stops({1: 7}, 5) == {0: 1, 1: 7}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=20),
    st.integers(1, 6),
    st.sampled_from([1, 1000]),
)
def test_pages_of_any_size_give_everything_in_publish_order(
    published: list[tuple[int, int]], limit: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorylog, "READ_BATCHES", chunk)
        shards = Shards(3)
        for number, count in published:
            shards.publish(number, count)
        places: dict[int, int] = dict.fromkeys(range(3), 0)
        found: list[tuple[int, int]] = []
        while True:
            stops = shards.stops(places, limit)
            page = [(number, at) for number in stops for at in range(places[number], stops[number])]
            if not page:
                break
            assert len(page) == min(limit, len(shards.order) - len(found))
            found += sorted(page, key=shards.order.index)
            places = stops
        assert found == shards.order


class TestStableEnds:
    def test_ends_that_stand_still_are_taken(self) -> None:
        shards = Shards(2)
        shards.publish(0, 3)
        assert stable_ends(list(shards.by_number.values())) == {0: 3, 1: 0}

    def test_what_was_published_while_looking_is_seen_with_what_came_before_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the first log was looked at, one is published to it and then one to the second."""
        shards = Shards(2)
        real, done = MemoryLog.end, list[int]()

        def end(log: MemoryLog) -> int:
            found = real(log)
            if log is shards.logs[0] and not done:
                done.append(1)
                shards.publish(0)
                shards.publish(1)
            return found

        monkeypatch.setattr(MemoryLog, "end", end)
        ends = stable_ends(list(shards.by_number.values()))
        assert ends == {0: 1, 1: 1}, "the second message would be delivered before the first"

    def test_publishers_that_never_pause_are_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shards, looks = Shards(1), list[int]()

        def end(log: Any) -> int:
            looks.append(1)
            return len(looks)

        monkeypatch.setattr(MemoryLog, "end", end)
        assert stable_ends(list(shards.by_number.values())) == {0: module.LOOKS + 1}


def test_several_processes_and_priorities(on_disk: Buses) -> None:
    here, there = on_disk.open(), on_disk.open()
    for number in range(12):
        publish(there if number % 2 else here, "orders", f"{number}", priority=number % 3)
        on_disk.clock.advance(0.001)
    here.catalog.refresh()
    shards = {shard.id: shard for shard in here.topic("orders").shards}
    stops = first_published(shards, {}, stable_ends(list(shards.values())), 8)
    assert {shards[number].priority: stop for number, stop in stops.items()} == {0: 3, 1: 3, 2: 2, 5: 0}
