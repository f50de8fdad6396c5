"""Those who wait with a filter ride along; only whom a message concerns is woken, and nobody misses one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engines.stage import Buses, data, numbered, publish, tail
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.courses import Course
from tidings.engines.embedded.reading.tail import TailFeed
from tidings.errors import DamagedData
from tidings.model.message import Message
from tidings.model.predicate import Predicate, record

pytestmark = pytest.mark.parametrize("open_bus", ["memory", "file"], indirect=True)


def keyed(key: str) -> Predicate:
    return record(lambda m: m.key == key)


def rider(bus: Bus, key: str, *topics: str, **options: Any) -> TailFeed[Message]:
    """A subscription that has read everything and waits for a key."""
    feed = tail(bus, *(topics or ("orders",)), filter=keyed(key), **options)
    assert feed.poll(10) == []
    return feed


def everything(feed: TailFeed[Message], limit: int = 100) -> list[Message]:
    """All that there is; a poll may find nothing of it and leave more to look at."""
    found: list[Message] = []
    while (some := feed.poll(limit)) or feed.is_ready():
        found += some
    return found


def asleep(feed: TailFeed[Message]) -> list[str]:
    """Let a feed sleep; what is returned tells when it is woken."""
    woken: list[str] = []
    feed.waker = lambda: woken.append("woken")
    return woken


def only_course(bus: Bus) -> Course:
    (course,) = bus.courses._courses.values()
    return course


def test_one_looks_for_all_and_wakes_whom_it_concerns(one: Bus) -> None:
    feeds = [rider(one, key) for key in "abcde"]
    bells = [asleep(feed) for feed in feeds]
    publish(one, "orders", "for d", key="d")
    assert bells == [["woken"], [], [], [], []]
    assert feeds[0].poll(10) == []
    assert bells == [["woken"], [], [], ["woken"], []]
    assert not feeds[1].is_ready()
    assert data(feeds[3].poll(10)) == ["for d"]


def test_when_nobody_sleeps_the_next_who_would_looks(one: Bus) -> None:
    feeds = [rider(one, key) for key in "ab"]
    publish(one, "orders", "for a", key="a")
    assert feeds[1].is_ready()
    assert feeds[1].poll(10) == []
    assert data(feeds[0].poll(10)) == ["for a"]


def test_each_gets_all_that_is_its_own_in_order(one: Bus) -> None:
    feeds = {key: rider(one, key) for key in "abc"}
    for number in range(30):
        publish(one, "orders", str(number), key="abcd"[number % 4])
        feeds["a"].poll(1)  # which runs the course each time, and gets something each fourth time
    assert data(everything(feeds["b"])) == [str(number) for number in range(1, 30, 4)]
    assert data(everything(feeds["c"], 2)) == [str(number) for number in range(2, 30, 4)]


def test_equal_filters_are_asked_once(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    real = Predicate.matches

    def matches(self: Predicate, message: Message) -> bool:
        asked.append(message.key)
        return real(self, message)

    monkeypatch.setattr(Predicate, "matches", matches)
    feeds = [rider(one, "a") for _ in range(50)]
    publish(one, "orders", "x", key="a")
    publish(one, "orders", "y", key="b")
    assert [data(everything(feed)) for feed in feeds] == [["x"]] * 50
    assert asked == ["a", "b"]


def test_one_that_begins_earlier_reads_up_to_the_others_first(one: Bus) -> None:
    waiting = rider(one, "b")
    numbered(one, 3)
    publish(one, "orders", "early", key="a")
    feed = tail(one, "orders", filter=keyed("a"), start="beginning")
    publish(one, "orders", "late", key="a")
    publish(one, "orders", "other", key="b")
    assert data(everything(feed)) == ["early", "late"]
    assert data(everything(waiting)) == ["other"]
    publish(one, "orders", "last", key="a")
    assert data(everything(feed)) == ["last"]


def test_a_topic_that_gets_a_second_priority_is_merged_from_then_on(one: Bus) -> None:
    feed, other = rider(one, "a"), rider(one, "b")
    publish(one, "orders", "1", key="a")
    publish(one, "orders", "2", key="a", priority=9)
    publish(one, "orders", "3", key="a")
    assert data(everything(feed)) == ["1", "2", "3"]
    assert only_course(one)._riders == {}, "nobody rides where several priorities have to be merged"
    woken = asleep(other)
    publish(one, "orders", "4", key="b", priority=9)
    assert woken == ["woken"]
    assert data(everything(other)) == ["4"]


def test_topics_that_appear_later_are_ridden_too(one: Bus) -> None:
    feed = rider(one, "a", "orders/*")
    publish(one, "orders/eu", "first", key="a")
    publish(one, "orders/us", "none", key="b")
    assert data(everything(feed)) == ["first"]
    woken = asleep(feed)
    publish(one, "orders/us", "second", key="a")
    assert woken == ["woken"]
    assert data(everything(feed)) == ["second"]


def test_who_leaves_is_forgotten(one: Bus) -> None:
    feeds = [rider(one, key) for key in "aab"]
    course = only_course(one)
    for feed in feeds:
        feed.close()
    assert (course._riders, course._index._places, course._index._others) == ({}, {}, {})
    publish(one, "orders", "x", key="a")
    assert data(everything(tail(one, "orders", filter=keyed("a"), start="beginning"))) == ["x"]


def test_a_dropped_topic_leaves_nothing_behind(one: Bus) -> None:
    feed = rider(one, "a")
    one.drop_topic("orders")
    assert feed.poll(10) == []
    publish(one, "orders", "new", key="a")
    assert data(everything(feed)) == ["new"]
    assert len(one.courses._courses) == 1
    assert len(one.hub._by_shard) == 1


def test_damage_is_told_to_everybody(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = [rider(one, key) for key in "ab"]
    publish(one, "orders", "x", key="a")
    log = one.topic("orders").shards[0].log

    def damaged(offset: int) -> Any:
        raise DamagedData("the file", offset, "it is torn")

    with monkeypatch.context() as patch:
        patch.setattr(log, "read", damaged)
        for feed in feeds:
            with pytest.raises(DamagedData):
                feed.poll(10)
    assert data(everything(feeds[0])) == ["x"]


def test_how_far_a_rider_is_counts_as_everything(open_bus: Buses, one: Bus) -> None:
    from tidings.engines.embedded.statistics import of_topics

    feed = rider(one, "a")
    numbered(one, 5)
    publish(one, "orders", "x", key="a")

    def lag() -> int:
        return of_topics(one, ["orders"], 60.0)[0].subscribers[0].lag

    assert lag() == 0
    open_bus.clock.advance(2)
    assert data(feed.poll(10)) == ["x"]
    open_bus.clock.advance(2)
    assert feed.poll(10) == []
    open_bus.clock.advance(2)
    feed.poll(10)
    numbered(one, 5)
    assert lag() == 0


def test_another_process_reaches_the_riders_here(open_bus: Buses, one: Bus) -> None:
    if open_bus.folder is None:
        assert one.presence is None  # memory has no other process
        return
    feed = rider(one, "a")
    there = open_bus.open()
    publish(there, "orders", "x", key="b")
    publish(there, "orders", "y", key="a")
    one.hub.look()
    assert feed.is_ready()
    assert data(everything(feed)) == ["y"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["publish a", "publish b", "poll 0", "poll 1", "poll 2", "new", "close"]), max_size=40))
def test_whatever_happens_everybody_gets_what_is_theirs(open_bus: Buses, steps: list[str]) -> None:
    bus = Buses(None).open()
    try:
        feeds: list[tuple[TailFeed[Message], str, list[str], list[str]]] = []
        for number, step in enumerate(steps):
            what, _, which = step.partition(" ")
            if what == "publish":
                publish(bus, "orders", str(number), key=which)
                for _, key, expected, _ in feeds:
                    expected += [str(number)] if key == which else []
            elif what == "new":
                key = "ab"[number % 2]
                feeds.append((tail(bus, "orders", filter=keyed(key)), key, [], []))
            elif what == "close" and feeds:
                feeds.pop()[0].close()
            elif what == "poll" and int(which) < len(feeds):
                feeds[int(which)][3].extend(data(feeds[int(which)][0].poll(1)))
        for feed, _, expected, got in feeds:
            assert got + data(everything(feed)) == expected
    finally:
        bus.close()


def test_many_threads_publish_and_wait(one: Bus) -> None:
    feeds = [rider(one, key) for key in "abcd"]
    got: dict[str, list[str]] = {key: [] for key in "abcd"}

    def wait(feed: TailFeed[Message], key: str) -> None:
        while len(got[key]) < 50:
            got[key] += data(feed.poll(10))
            if len(got[key]) < 50:
                feed.wait(5.0)

    threads = [threading.Thread(target=wait, args=pair) for pair in zip(feeds, "abcd", strict=True)]
    for thread in threads:
        thread.start()
    for number in range(50):
        for key in "abcd":
            publish(one, "orders", str(number), key=key)
    for thread in threads:
        thread.join(30)
    assert got == {key: list(map(str, range(50))) for key in "abcd"}


def test_a_subscription_that_has_read_on_by_itself_rides_up_to_date_again(open_bus: Buses, one: Bus) -> None:
    """What it had written down while it read is not what is told of it afterwards."""
    from tidings.engines.embedded.statistics import of_topics

    feed = tail(one, "orders", filter=keyed("a"))
    numbered(one, 3)
    assert feed.poll(10) == []
    open_bus.clock.advance(2)
    assert feed.poll(10) == []
    numbered(one, 4)
    assert of_topics(one, ["orders"], 60.0)[0].subscribers[0].lag == 0


def test_nobody_boards_an_empty_course_where_there_is_more_to_read(one: Bus) -> None:
    """Who was told of it may have been let off before the course was run, and forgot what was stale."""
    feed, other = rider(one, "a"), rider(one, "b")
    course, shard = only_course(one), one.topic("orders").shards[0].id
    feed._get_off(shard)
    other._get_off(shard)
    publish(one, "orders", "x", key="a")
    one.courses.stale.clear()
    assert not course.board(feed, keyed("a"), 0)
    assert course.board(feed, keyed("a"), 1)


def test_nobody_boards_what_cannot_be_read(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = rider(one, "a")
    course, shard = only_course(one), one.topic("orders").shards[0]
    feed._get_off(shard.id)

    def damaged(offset: int) -> Any:
        raise DamagedData("the file", offset, "it is torn")

    monkeypatch.setattr(shard.log, "read", damaged)
    assert not course.board(feed, keyed("a"), 0)
