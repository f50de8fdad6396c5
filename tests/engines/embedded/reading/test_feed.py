"""What all readers have in common: being told, sleeping, moving what is due, and an end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import wait_for
from tests.engines.child import Child
from tests.engines.stage import Buses, consumer, data, everything, level, numbered, publish, records, tail
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.errors import Closed, StorageFull, TooManySubscribers
from tidings.model.options import TopicOptions
from tidings.testing.clock import ManualClock

Open = Callable[..., Any]
both = pytest.mark.parametrize("open_feed", [tail, consumer])


@both
class TestBeingTold:
    def test_a_publish_makes_it_ready(self, one: Bus, open_feed: Open) -> None:
        feed = open_feed(one, "orders")
        everything(feed)
        assert not feed.is_ready()
        publish(one, "bills", "elsewhere")
        assert not feed.is_ready()
        publish(one, "orders", "a")
        assert feed.is_ready()

    def test_a_new_topic_and_a_new_priority_make_it_ready(self, one: Bus, open_feed: Open) -> None:
        feed = open_feed(one, "orders/*")
        everything(feed)
        for topic, priority in (("orders/a", 5), ("orders/a", 9)):
            publish(one, topic, "x", priority=priority)
            assert feed.is_ready()
            assert data(everything(feed)) == ["x"]

    def test_who_is_woken_is_whoever_sleeps(self, one: Bus, open_feed: Open) -> None:
        feed, woken = open_feed(one, "orders"), list[str]()
        everything(feed)
        feed.waker = lambda: woken.append("woken")
        publish(one, "orders", "a")
        one.announce_groups()
        one.schedule("later", records("x"), level(at=one.clock.now() + 1), 1.0)
        assert len(woken) >= 2 + (feed.renew_every is not None), "who has no group need not hear of groups"

    def test_a_topic_that_appears_twice_in_the_patterns_is_read_once(self, one: Bus, open_feed: Open) -> None:
        one.topic("orders")
        feed = open_feed(one, "orders", "ord*")
        numbered(one, 3)
        publish(one, "orders", "urgent", priority=9)
        assert sorted(data(everything(feed))) == ["0", "1", "2", "urgent"]


@both
class TestWhatIsDue:
    def test_a_poll_moves_it(self, one: Bus, open_feed: Open, clock: ManualClock) -> None:
        feed = open_feed(one, "orders")
        one.schedule("orders", records("later"), level(at=clock.now() + 60), 1.0)
        assert feed.poll(5) == []
        clock.advance(59.9)
        assert feed.poll(5) == []
        clock.advance(0.1)
        assert data(everything(feed)) == ["later"]

    def test_also_for_topics_that_this_one_does_not_read(self, one: Bus, open_feed: Open, clock: ManualClock) -> None:
        other, feed = (
            open_feed(one, "other", group="o") if open_feed is consumer else tail(one, "other"),
            tail(one, "x"),
        )
        one.schedule("x", records("later"), level(at=clock.now() + 1), 1.0)
        clock.advance(1)
        assert other.poll(5) == []
        one.pump.due = 1e18
        assert data(feed.poll(5)) == ["later"]

    def test_it_sleeps_no_longer_than_until_then(self, one: Bus, open_feed: Open, clock: ManualClock) -> None:
        feed = open_feed(one, "orders")
        one.schedule("orders", records("later"), level(at=clock.now() + 0.2), 1.0)
        everything(feed)
        assert feed.pause() == pytest.approx(0.2)
        clock.advance(0.2)
        assert feed.pause() == 0.0

    def test_without_anything_it_looks_around_now_and_then(self, one: Bus, open_feed: Open) -> None:
        feed = open_feed(one, "orders")
        everything(feed)
        assert feed.pause() == LOOK_SECONDS

    def test_an_event_loop_leaves_the_moving_to_a_thread(self, one: Bus, open_feed: Open, clock: ManualClock) -> None:
        feed = open_feed(one, "orders")
        one.schedule("orders", records("later"), level(at=clock.now() + 1), 1.0)
        assert feed.poll(5, 0.0) == []
        clock.advance(1)
        with pytest.raises(WouldBlock):
            feed.poll(5, 0.0)
        assert data(feed.poll(5, 1.0)) == ["later"]

    def test_turning_the_hands_wakes_a_sleeper(self, one: Bus, open_feed: Open, clock: ManualClock) -> None:
        """Who sleeps until a time of the clock is woken when the hands are turned past it."""
        feed, found = open_feed(one, "orders"), list[str]()
        one.schedule("orders", records("later"), level(at=clock.now() + 3600), 1.0)

        def read() -> None:
            while not found:
                feed.wait(None)
                found.extend(data(feed.poll(5)))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_for(lambda: feed.waker is not None)
        clock.advance(3600)
        reader.join(10)
        assert found == ["later"]


@both
class TestTheEnd:
    def test_after_closing_nobody_is_attached(self, one: Bus, open_feed: Open) -> None:
        feed = open_feed(one, "orders")
        assert [each.name for each in one.members.subscribers() if each.reads("orders")] == ["ann"]
        feed.close()
        assert one.members.subscribers() == []
        publish(one, "orders", "a")
        assert feed.is_ready(), "whoever waits on it has to see the end"
        with pytest.raises(Closed):
            feed.wait(1.0)

    def test_one_that_is_refused_leaves_nothing_behind(self, one: Bus, open_feed: Open) -> None:
        one.create_topic("orders", TopicOptions(max_subscribers=1))
        first = open_feed(one, "orders")
        for _ in range(3):
            with pytest.raises(TooManySubscribers):
                open_feed(one, "orders")
        assert list(one.hub._feeds) == [first]
        first.close()
        assert (one.hub._feeds, one.hub._by_shard) == ({}, {})

    def test_errors_of_the_disk_are_errors_of_the_storage(
        self, one: Bus, open_feed: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed = open_feed(one, "orders")
        publish(one, "orders", "a")

        def full(offset: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(one.topic("orders").shards[0].log, "read", full)
        with pytest.raises(StorageFull):
            feed.poll(1)


FORKING = """
    import os, sys
    from tests.engines.stage import consumer, data, publish, tail
    from pathlib import Path
    from tidings.engines.embedded.bus import Bus, BusOptions
    from tidings.errors import Closed
    bus = Bus(Path(sys.argv[1]), BusOptions())
    feeds = [tail(bus, "orders"), consumer(bus, "orders")]
    if os.fork() == 0:
        bus.current()
        for feed in feeds:
            try:
                feed.poll(1)
            except Closed:
                print("closed")
            feed.close()
        os._exit(0)
    os.wait()
    publish(bus, "orders", "a")
    print([data(feed.poll(5)) for feed in feeds])
"""


def test_a_forked_child_has_no_part_in_it(tmp_path: Any) -> None:
    with Child(FORKING, tmp_path / "bus") as child:
        assert [child.line() for _ in range(3)] == ["closed", "closed", "[['a'], ['a']]"]


def test_terms_are_those_of_the_topic_or_the_usual_ones(one: Bus) -> None:
    one.create_topic("orders", TopicOptions(max_retries=3))
    feed = tail(one, "orders")
    publish(one, "orders", "a")
    (message,) = feed.poll(1)
    assert feed.terms(message).max_retries == 3
    one.drop_topic("orders")
    assert feed.terms(message) == TopicOptions()


def test_another_process_sees_who_is_attached(on_disk: Buses) -> None:
    here, there = on_disk.open(), on_disk.open()
    tail(here, "orders")
    consumer(here, "ord*")
    assert [(each.name, each.group) for each in there.members.subscribers() if each.reads("orders")] == [
        ("ann", None),
        ("ann", "billing"),
    ]
