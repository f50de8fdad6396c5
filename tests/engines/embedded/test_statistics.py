"""How topics and groups stand: every message is counted once, rates are rates, and what is wrong is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.engines.sample import damage
from tests.engines.stage import (
    Buses,
    consumer,
    level,
    numbered,
    outputs,
    publish,
    records,
    settle,
    tail,
)
from tidings.engines.embedded import catalog
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.disk import room
from tidings.engines.embedded.statistics import all_groups, of_topics, problems
from tidings.errors import StorageUnavailable
from tidings.model.options import Durability, Overflow, TopicOptions
from tidings.spi import GroupInfo, Settlement, TopicStatistics
from tidings.testing.clock import ManualClock


def found(bus: Bus, topic: str = "orders", window: float = 60.0) -> TopicStatistics:
    bus.topic(topic)
    (stats,) = of_topics(bus, [topic], window)
    return stats


def group(bus: Bus, topic: str = "orders") -> GroupInfo:
    (info,) = all_groups(bus, topic)
    return info


class TestGroups:
    def test_a_group_stands_on_each_of_its_topics(self, one: Bus) -> None:
        consumer(one, "orders/*", "bills")
        consumer(one, "bills", group="audit")
        numbered(one, 2, "orders/b")
        numbered(one, 3, "orders/a")
        one.topic("elsewhere")
        assert [(info.group, info.topic, info.lag) for info in all_groups(one, None)] == [
            ("audit", "bills", 0),
            ("billing", "bills", 0),
            ("billing", "orders/a", 3),
            ("billing", "orders/b", 2),
        ]
        assert [(info.group, info.topic) for info in all_groups(one, "bills")] == [
            ("audit", "bills"),
            ("billing", "bills"),
        ]
        assert all_groups(one, "nowhere") == []

    def test_published_is_what_became_of_it(self, one: Bus, clock: ManualClock) -> None:
        """Since the group's start: acked, dead, expired, skipped, and what is still to be settled."""
        one.create_topic(
            "orders", TopicOptions(max_retries=1, retry_delay=0, max_length=9, overflow=Overflow.DROP_OLDEST)
        )
        numbered(one, 5)
        feed = consumer(one, "orders")
        one.append("orders", records("old", ttl_until=clock.now() + 1), level())
        publish(one, "orders", *map(str, range(8)))
        clock.advance(2)
        acked, rejected, exhausted, nacked, held = feed.poll(6)
        settle(feed, [acked], "ack")
        settle(feed, [rejected], "reject")
        settle(feed, [exhausted], "nack")
        settle(feed, feed.poll(1), "nack")
        settle(feed, [nacked], "nack", 100.0)
        publish(one, "orders", *"abcdef", priority=9)
        info = group(one)
        assert (info.acked, info.dead, info.expired, info.skipped) == (1, 2, 1, 2)
        assert (info.lag, info.held, info.retrying) == (9, 1, 1)
        assert (info.redelivered, info.failed) == (1, 4)
        assert info.acked + info.dead + info.expired + info.skipped + info.lag == 1 + 8 + 6
        assert held.attempt == 1

    def test_how_old_the_oldest_is(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        assert group(one).lag_seconds == 0.0
        publish(one, "orders", "a", priority=9)
        clock.advance(10)
        publish(one, "orders", "b")
        clock.advance(5)
        assert group(one).lag_seconds == pytest.approx(15, abs=0.01)
        settle(feed, feed.poll(1), "ack")
        assert group(one).lag_seconds == pytest.approx(5, abs=0.01)
        settle(feed, feed.poll(1), "nack", 100.0)
        clock.advance(50)
        assert group(one).lag_seconds == pytest.approx(55, abs=0.01)

    def test_who_is_attached_and_what_he_holds(self, one: Bus) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders", consumer="bob")
        numbered(one, 3)
        ann.poll(2)
        assert [(each.consumer, each.pid, each.held) for each in group(one).consumers] == [
            ("ann", os.getpid(), 2),
            ("bob", os.getpid(), 0),
        ]
        bob.close()
        assert len(group(one).consumers) == 1

    def test_one_that_is_dropped_meanwhile_is_left_out(self, one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        consumer(one, "orders")
        real = one.groups.bindings
        monkeypatch.setattr(one.groups, "bindings", lambda: {"gone": ["orders"], **real()})
        assert [info.group for info in all_groups(one, None)] == ["billing"]
        assert [info.group for info in found(one).groups] == ["billing"]

    def test_a_damaged_message_has_no_age(self, on_disk: Buses) -> None:
        bus = on_disk.open()
        numbered(bus, 2)
        consumer(bus, "orders", start="beginning")
        bus.topic("orders").shards[0].close()
        assert on_disk.folder is not None
        (path,) = on_disk.folder.rglob("0*.log")
        damage(path, 0)
        assert (group(on_disk.open()).lag, group(bus).lag_seconds) == (2, 0.0)

    def test_looking_keeps_few_files_open(self, on_disk: Buses, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalog, "OPEN_LOGS", 2)
        bus = on_disk.open()
        consumer(bus, "t/*")
        for number in range(6):
            numbered(bus, 1, f"t/{number}")

        def open_logs() -> int:
            links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            return len([link for link in links if link.startswith(str(on_disk.folder)) and link.endswith(".log")])

        assert sum(info.lag for info in all_groups(bus, None)) == 6
        assert open_logs() <= 3
        for number in range(6):
            found(bus, f"t/{number}")
        assert open_logs() <= 3


class TestTopics:
    def test_an_idle_topic(self, one: Bus) -> None:
        stats = found(one)
        assert (stats.topic, stats.window, stats.published, stats.pending, stats.scheduled) == ("orders", 60.0, 0, 0, 0)
        assert (stats.publish_rate, stats.consume_rate, stats.error_rate, stats.lag_seconds) == (0.0, 0.0, 0.0, 0.0)
        assert (stats.subscribers, stats.groups) == ((), ())

    def test_counts_are_sums_over_groups_and_pending_is_the_slowest(self, one: Bus) -> None:
        fast, slow = consumer(one, "orders", group="fast"), consumer(one, "ord*", group="slow")
        one.create_topic("many", TopicOptions(partitions=3))
        numbered(one, 10)
        publish(one, "orders", "urgent", priority=9)
        settle(fast, fast.poll(8), "ack")
        settle(slow, slow.poll(3), "ack")
        settle(slow, slow.poll(1), "reject")
        stats = found(one)
        assert (stats.published, stats.consumed, stats.dead, stats.pending) == (11, 11, 1, 7)
        assert [info.group for info in stats.groups] == ["fast", "slow"]

    def test_what_waits_for_its_time_is_scheduled_and_not_published(self, one: Bus, clock: ManualClock) -> None:
        one.schedule("orders", records("a", "b"), level(at=clock.now() + 5), 1.0)
        assert (found(one).scheduled, found(one).published) == (2, 0)
        clock.advance(5)
        one.pump.run()
        assert (found(one).scheduled, found(one).published) == (0, 2)

    def test_subscribers_of_both_kinds(self, one: Bus, clock: ManualClock) -> None:
        tail(one, "ord*")
        clock.advance(3)
        consumer(one, "orders")
        tail(one, "elsewhere")
        subscribers = found(one).subscribers
        assert [(each.consumer, each.group, each.pid) for each in subscribers] == [
            ("ann", None, os.getpid()),
            ("ann", "billing", os.getpid()),
        ]
        assert subscribers[1].since - subscribers[0].since == pytest.approx(3)

    @pytest.mark.parametrize(("window", "rate"), [(10.0, 2.0), (5.0, 2.0), (40.0, 0.5)])
    def test_the_rate_of_publishing_is_that_of_the_window(
        self, one: Bus, clock: ManualClock, window: float, rate: float
    ) -> None:
        """Twenty seconds of silence, then ten with two messages each."""
        clock.advance(20)
        for number in range(10):
            clock.advance(1)
            publish(one, "orders", f"{number}")
            publish(one, "orders", f"{number}", priority=9)
        assert found(one, window=window).publish_rate == pytest.approx(rate, rel=0.21)
        clock.advance(window + 1)
        assert found(one, window=window).publish_rate == 0.0

    def test_rates_of_consuming_and_failing(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        numbered(one, 200)
        for _ in range(50):
            clock.advance(1)
            *acked, failed = feed.poll(4)
            settle(feed, acked, "ack")
            settle(feed, [failed], "reject")
        stats = found(one)
        assert stats.consume_rate == pytest.approx(3.0, rel=0.1)
        assert stats.error_rate == pytest.approx(0.25, rel=0.05)

    def test_acks_in_transactions_count_too(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        numbered(one, 10)
        for _ in range(10):
            clock.advance(1)
            feed.commit([Settlement(feed.poll(1)[0], "ack")], outputs("out", "x"), Durability.OS)
        assert found(one).consume_rate == pytest.approx(1.0, rel=0.1)

    def test_a_topic_that_is_dropped_is_not_there(self, one: Bus) -> None:
        one.topic("orders")
        one.topic("others")
        one.drop_topic("orders")
        assert [stats.topic for stats in of_topics(one, None, 60.0)] == ["others"]
        assert of_topics(one, ["orders"], 60.0) == []


class TestProblems:
    def test_a_sound_bus_has_none(self, one: Bus) -> None:
        numbered(one, 3)
        one.create_topic("never used", None)
        assert problems(one) == []

    def test_a_database_that_cannot_be_written(self, one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Control, *_: object, **__: object) -> Any:
            raise StorageUnavailable("read-only")

        monkeypatch.setattr(Control, "write", refuse)
        assert problems(one) == ["control.db cannot be written: read-only"]

    def test_a_disk_that_fills_up_is_told_before_publishers_stop(
        self, on_disk: Buses, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bus = on_disk.open()
        for free, count in ((2 * room.KEEP_FREE_BYTES, 0), (2 * room.KEEP_FREE_BYTES - 1, 1)):
            monkeypatch.setattr(room.Room, "free", lambda self, free=free: free)
            told = problems(bus)
            assert len(told) == count
        assert "publishers stop at" in told[0]

    def test_a_folder_that_cannot_be_written(self, on_disk: Buses, monkeypatch: pytest.MonkeyPatch) -> None:
        bus = on_disk.open()
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        (line,) = problems(bus)
        assert line.endswith("topics cannot be written")

    def test_a_damaged_log_names_its_topic_and_hides_no_other(self, on_disk: Buses) -> None:
        bus = on_disk.open()
        for topic in ("bad", "good", "worse"):
            numbered(bus, 2, topic)
        bus.catalog.close()
        for topic in ("bad", "worse"):
            assert on_disk.folder is not None
            (path,) = (on_disk.folder / "topics" / str(bus.topic(topic).id)).rglob("0*.log")
            path.write_bytes(b"damaged header" + path.read_bytes()[14:])
        told = problems(on_disk.open())
        assert [line.split(":")[0] for line in told] == ["topic 'bad'", "topic 'worse'"]

    def test_a_topic_that_another_process_drops_is_no_problem(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        numbered(here, 1)
        there.catalog.refresh()
        there.drop_topic("orders")
        assert problems(here) == []
