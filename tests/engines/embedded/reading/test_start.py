"""Where reading begins: the topics of a subscription, its first offsets, and the places of a new group."""

from __future__ import annotations

import pytest

from tests.engines.stage import Buses, consumer, counts, data, everything, numbered, publish, spec
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.reading.start import bind, matching, start_offset
from tidings.model.options import TopicOptions
from tidings.model.topics import parse_topics
from tidings.testing.clock import ManualClock


def test_topics_are_found_by_name_and_by_pattern(one: Bus) -> None:
    for name in ("orders/new", "orders/old", "bills"):
        one.topic(name)

    def names(*patterns: str) -> list[str]:
        return [topic.name for topic in matching(one, parse_topics(list(patterns)))]

    assert names("bills", "nowhere", "bills") == ["bills"]
    assert sorted(names("orders/*", "bills", "orders/new")) == ["bills", "orders/new", "orders/old"]
    assert names("nowhere/*") == []


@pytest.mark.parametrize(
    ("start", "offset"), [("beginning", 0), ("end", 5), (3, 3), (99, 99), (2.5, 3), (2.0, 2), (-1.0, 0)]
)
def test_a_start_is_an_offset_of_each_shard(one: Bus, clock: ManualClock, start: str | float, offset: int) -> None:
    """A time is meant in seconds since the epoch; here, since the test began."""
    shard, begun = one.topic("orders").shards[0], clock.now()
    for _ in range(5):
        numbered(one, 1)
        clock.advance(1)
    assert start_offset(one, shard, begun + start if isinstance(start, float) else start) == offset


def test_the_beginning_is_what_retention_has_left(one: Bus) -> None:
    shard = one.create_topic("orders", TopicOptions(retention_messages=10)).shards[0]
    numbered(one, 50)
    assert start_offset(one, shard, "beginning") == shard.log.extent()[0] > 0


def test_a_topic_that_was_dropped_begins_anew(one: Bus) -> None:
    shard = one.topic("orders").shards[0]
    numbered(one, 3)
    one.drop_topic("orders")
    assert start_offset(one, shard, "beginning") == 0


class TestBinding:
    def test_a_group_without_a_consumer_collects_from_the_moment_it_is_made(self, one: Bus) -> None:
        publish(one, "orders", "before")
        publish(one, "orders", "urgent, before", priority=9)
        bind(one, spec("orders", "bills/*", group="billing"))
        publish(one, "orders", "after")
        publish(one, "orders", "urgent", priority=9)
        publish(one, "bills/new", "bill")
        feed = consumer(one, "orders", "bills/*", start="beginning")
        assert sorted(data(everything(feed))) == ["after", "bill", "urgent"]

    def test_its_start_counts_only_where_it_has_no_place(self, one: Bus) -> None:
        numbered(one, 3)
        numbered(one, 3, "bills")
        bind(one, spec("orders", group="billing"))
        bind(one, spec("orders", "bills", group="billing", start="beginning"))
        bind(one, spec("orders", "bills", group="billing", start="beginning"))
        assert [counts(one, topic) for topic in ("orders", "bills")] == [{}, {"lag": 3}]

    def test_a_topic_that_another_pattern_of_the_group_matches_keeps_its_place(self, one: Bus) -> None:
        numbered(one, 3, "orders/new")
        bind(one, spec("orders/*", group="billing"))
        bind(one, spec("orders/new", group="billing", start="beginning"))
        assert counts(one, "orders/new") == {}

    def test_priorities_that_another_process_used_first_have_places_too(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        numbered(here, 1)
        publish(there, "orders", "urgent", priority=9)
        bind(here, spec("orders", group="billing"))
        here.catalog.refresh()
        assert counts(here) == {}
