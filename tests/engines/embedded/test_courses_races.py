"""What a review of filtered readers found: each of these went wrong once, by threads that met, or beyond a bound."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.engines.stage import LEASE, consumer, data, level, polled, publish, records, settle, tail
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard
from tidings.engines.embedded.courses import Course
from tidings.engines.embedded.reading.tail import TailFeed
from tidings.errors import LeaseLost
from tidings.model.message import Message
from tidings.model.predicate import Predicate, record

pytestmark = pytest.mark.parametrize("open_bus", ["memory", "file"], indirect=True)


def keyed(key: str) -> Predicate:
    return record(lambda m: m.key == key)


def rider(bus: Bus, key: str) -> TailFeed[Message]:
    feed = tail(bus, "orders", filter=keyed(key))
    assert feed.poll(10) == []
    return feed


def flood(bus: Bus, count: int, priority: int = 5) -> None:
    """Publish a batch that nobody wants."""
    bus.append("orders", records(*[b"x"] * count, key="no"), level(priority))


def course_of(bus: Bus) -> Course:
    (course,) = bus.courses._courses.values()
    return course


def meanwhile(bus: Bus, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let another thread do something once, at the moment at which a reader boards."""
    real, done = bus.courses.of, list[bool]()

    def of(shard: Shard) -> Course:
        if not done:
            done.append(True)
            thread = threading.Thread(target=act)
            thread.start()
            thread.join(20)
        return real(shard)

    monkeypatch.setattr(bus.courses, "of", of)


@pytest.mark.parametrize("first", ["the one beyond", "the usual one"])
def test_who_begins_beyond_the_end_keeps_nobody_busy(one: Bus, first: str) -> None:
    def beyond() -> TailFeed[Message]:
        return tail(one, "orders", filter=keyed("b"), start=5)

    feeds = [beyond(), rider(one, "a")] if first == "the one beyond" else [rider(one, "a"), beyond()]
    for feed in feeds * 3:
        feed.poll(10)
    assert not any(feed.is_ready() or feed.is_behind() for feed in feeds)
    for number in range(10):
        publish(one, "orders", str(number), key="b")
    later = feeds[first != "the one beyond"]
    assert data(message for _ in range(5) for message in later.poll(10)) == ["5", "6", "7", "8", "9"]


def test_a_second_priority_that_comes_while_it_boards(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    other, feed = rider(one, "z"), tail(one, "orders", filter=keyed("a"))
    meanwhile(one, monkeypatch, lambda: publish(one, "orders", "hi", key="x", priority=9))
    got: list[str] = []
    for number in range(3):
        got += data(message for _ in range(5) for message in feed.poll(10))
        publish(one, "orders", str(number), key="a")
        other.poll(10)
    got += data(message for _ in range(5) for message in feed.poll(10))
    assert got == ["0", "1", "2"]


def test_one_that_is_closed_while_it_boards_is_forgotten(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = tail(one, "orders", filter=keyed("a"))
    meanwhile(one, monkeypatch, feed.close)
    feed.poll(10)
    assert course_of(one)._riders == {}


def test_topics_that_come_and_go_leave_no_courses(one: Bus) -> None:
    for number in range(5):
        feed = tail(one, f"reply/{number}", filter=keyed("a"))
        feed.poll(1)
        feed.close()
        one.drop_topic(f"reply/{number}")
    assert (one.courses._courses, one.courses.stale, one.hub._by_shard) == ({}, {}, {})


def test_an_interrupt_in_the_middle_of_a_look_forgets_nothing(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = rider(one, "a")
    publish(one, "orders", "x", key="a")

    def interrupted(self: object, batch: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Course, "_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            feed.poll(1)
    assert feed.is_ready()
    assert data(feed.poll(1)) == ["x"]


def test_one_that_was_woken_and_leaves_wakes_the_next(one: Bus) -> None:
    first, second = rider(one, "a"), rider(one, "b")
    woken: list[str] = []
    first.waker, second.waker = (lambda: woken.append("first")), (lambda: woken.append("second"))
    publish(one, "orders", "x", key="b")
    first.waker = None
    first.close()
    assert woken == ["first", "second"]


def test_who_asks_while_another_looks_gets_what_is_there(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = rider(one, "a"), rider(one, "b")
    publish(one, "orders", "x", key="b")
    inside, go, real = threading.Event(), threading.Event(), Course._pass

    def slow(self: Course, batch: Any) -> None:
        inside.set()
        assert go.wait(20)
        real(self, batch)

    monkeypatch.setattr(Course, "_pass", slow)
    looking = threading.Thread(target=first.poll, args=(1,))
    looking.start()
    assert inside.wait(20)
    found: list[Message] = []
    asking = threading.Thread(target=lambda: found.extend(second.poll(1)))
    asking.start()
    go.set()
    for thread in (looking, asking):
        thread.join(20)
    assert data(found) == ["x"]


def test_what_comes_while_a_shard_is_followed_is_seen(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, real = tail(one, "orders/*"), one.hub.follow

    def follow(follower: Any, shard: int) -> None:
        if follower is feed:
            monkeypatch.setattr(one.hub, "follow", real)
            assert feed.poll(1) == []
            publish(one, "orders/1", "x")
        real(follower, shard)

    monkeypatch.setattr(one.hub, "follow", follow)
    one.topic("orders/1")
    assert feed.is_ready()


def test_a_look_ends_though_there_is_more(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.engines.embedded.courses.SIFT_MESSAGES", 100)
    feed = rider(one, "a")
    for _ in range(5):
        flood(one, 60)
    publish(one, "orders", "x", key="a")
    looked = []
    while not (found := feed.poll(1)):
        looked.append(course_of(one)._place)
        assert feed.is_behind()
    assert looked == [120, 240]
    assert data(found) == ["x"]


def test_acks_on_both_sides_are_no_ack_of_what_lies_between(one: Bus) -> None:
    feed = consumer(one, "orders", filter=keyed("a"))
    for number in range(3):
        publish(one, "orders", str(number), key="a")
    first, middle, last = feed.poll(10)
    settle(feed, [first, last], "ack")
    one.clock.advance(LEASE + 1)  # type: ignore[attr-defined]
    assert data(consumer(one, "orders", consumer="bob", filter=keyed("a")).poll(10)) == ["1"]
    with pytest.raises(LeaseLost):
        settle(feed, [middle], "ack")


@pytest.mark.parametrize("in_order_of_priority", [True, False])
def test_a_long_stretch_that_nobody_wants_changes_no_order(
    one: Bus, monkeypatch: pytest.MonkeyPatch, in_order_of_priority: bool
) -> None:
    for name in ("sift", "reading.merge"):
        monkeypatch.setattr(f"tidings.engines.embedded.{name}.SIFT_MESSAGES", 100)
    feed = consumer(one, "orders", filter=keyed("a"), priority_order=in_order_of_priority)
    for _ in range(4):
        flood(one, 60, priority=9)
    publish(one, "orders", "first", key="a", priority=9)
    publish(one, "orders", "second", key="a", priority=1)
    assert data(polled(feed)) == ["first", "second"]


def test_a_look_over_several_priorities_is_bounded(one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sift", "reading.merge"):
        monkeypatch.setattr(f"tidings.engines.embedded.{name}.SIFT_MESSAGES", 100)
    asked: list[int] = []
    real = Predicate.matches

    def matches(self: Predicate, message: Message) -> bool:
        asked.append(message.offset)
        return real(self, message)

    feed = consumer(one, "orders", filter=keyed("a"))
    for number in range(40):
        flood(one, 50, priority=(1, 9)[number % 2])
    monkeypatch.setattr(Predicate, "matches", matches)
    feed.poll(1)
    assert len(asked) <= 200


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("in_group", [False, True])
def test_what_was_lost_with_the_power_keeps_no_reader_of_priorities_busy(
    one: Bus, monkeypatch: pytest.MonkeyPatch, filtered: bool, in_group: bool
) -> None:
    """Offsets that were given once and are not in the log: its end is ahead of what can be read."""
    wanted = keyed("a") if filtered else None
    feed: Any = consumer(one, "orders", filter=wanted) if in_group else tail(one, "orders", filter=wanted)
    publish(one, "orders", "1", key="a")
    publish(one, "orders", "h", key="a", priority=9)
    found = polled(feed)
    assert sorted(data(found)) == ["1", "h"]
    settle(feed, found, "ack")
    log = one.topic("orders").levels[5][0].log
    kind: Any = type(log)
    end, span = kind.end, kind.span
    monkeypatch.setattr(kind, "end", lambda self: end(self) + 3 * (self is log))
    monkeypatch.setattr(kind, "span", lambda self: (span(self)[0], span(self)[1] + 3 * (self is log)))
    for shard in one.topic("orders").shards:
        feed.touch(shard.id)
    for _ in range(20):
        assert feed.poll(1) == []
    assert not feed.is_ready()
