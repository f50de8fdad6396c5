"""What a topic's options make of the deliveries of a group: expiry, retries, dead letters, order."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.stage import (
    LEASE,
    Buses,
    consumer,
    counts,
    data,
    everything,
    level,
    publish,
    records,
    settle,
    stored,
    tail,
    told,
)
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.reading import policy as module
from tidings.engines.embedded.reading.group import GroupFeed
from tidings.model.dead_letter import DeadLetter, story_of
from tidings.model.message import Message
from tidings.model.options import TopicOptions
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back-off is as long as it can be."""
    monkeypatch.setattr(random, "random", lambda: 0.9999999)


def letters(bus: Bus, topic: str = "orders") -> list[DeadLetter]:
    """The stories of a topic's dead letters."""
    bus.pump.hurry()
    stories = [story_of(message) for message in everything(tail(bus, f"dead-letters/{topic}", start="beginning"))]
    assert None not in stories
    return [story for story in stories if story is not None]


class TestRetries:
    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_there_are_so_many_and_then_a_dead_letter(self, one: Bus, clock: ManualClock, retries: int) -> None:
        one.create_topic("orders", TopicOptions(max_retries=retries, retry_delay=1))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        for attempt in range(1, retries + 2):
            found = feed.poll(5)
            assert told(found) == [("a", attempt)]
            assert letters(one) == []
            settle(feed, found, "nack", error=f"failure {attempt}")
            clock.advance(100)
        assert feed.poll(5) == []
        (story,) = letters(one)
        assert (story.reason, story.error, story.attempts) == (
            "retries exhausted",
            f"failure {retries + 1}",
            retries + 1,
        )
        assert (story.topic, story.partition, story.offset, story.group) == ("orders", 0, 0, "billing")
        assert counts(one) == {"dead": 1, "failed": retries + 1} | ({"redelivered": retries} if retries else {})

    def test_the_back_off_is_the_topic_s(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(retry_delay=1, retry_backoff=10, retry_max_delay=50))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        for attempt, delay in enumerate((1, 10, 50, 50), 1):
            found = feed.poll(5)
            assert told(found) == [("a", attempt)]
            settle(feed, found, "nack")
            clock.advance(delay - 0.01)
            assert feed.poll(5) == []
            clock.advance(0.01)

    def test_a_consumer_may_say_when(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(5), "nack", 0.0)
        settle(feed, feed.poll(5), "nack", 33.0)
        clock.advance(32)
        assert feed.poll(5) == []
        clock.advance(1)
        assert told(feed.poll(5)) == [("a", 3)]

    def test_a_poison_message_that_kills_its_consumers_dies_too(self, on_disk: Buses) -> None:
        here = on_disk.open()
        here.create_topic("orders", TopicOptions(max_retries=2))
        publish(here, "orders", "before", "poison", "after")
        feed = consumer(here, "orders", start="beginning")
        settle(feed, feed.poll(1), "ack")
        feed.close()
        for attempt in range(1, 4):
            there = on_disk.open()
            assert told(consumer(there, "orders").poll(1)) == [("poison", attempt)]
            on_disk.kill(there)
            here.bury()
        survivor = consumer(here, "orders")
        assert told(everything(survivor)) == [("after", 1)]
        (story,) = letters(here)
        assert (story.reason, story.error, story.attempts) == ("retries exhausted", module.NEVER_SETTLED, 3)
        assert counts(here) == {"lag": 1, "acked": 1, "dead": 1, "redelivered": 3}

    def test_so_does_one_that_is_held_too_long_each_time(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(max_retries=1))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        for attempt in (1, 2):
            assert told(feed.poll(1)) == [("a", attempt)]
            clock.advance(LEASE + 1)
        assert feed.poll(1) == []
        assert [story.attempts for story in letters(one)] == [2]
        assert counts(one) == {"dead": 1, "redelivered": 2}

    def test_a_release_is_no_attempt(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(max_retries=0))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        for _ in range(5):
            settle(feed, feed.poll(1), "release")
        assert told(feed.poll(1)) == [("a", 1)]
        assert letters(one) == []

    def test_other_options_hold_at_once(self, open_bus: Buses) -> None:
        here = open_bus.open()
        there = open_bus.open() if open_bus.folder else here
        feed = consumer(here, "orders")
        publish(here, "orders", "a")
        settle(feed, feed.poll(1), "nack", 0.0)
        there.catalog.alter("orders", TopicOptions(max_retries=0))
        there.hub.announce_change(0)
        here.hub.look()
        assert feed.poll(1) == []
        assert [story.attempts for story in letters(here)] == [1]


class TestDeadLetters:
    def test_a_letter_is_the_message_with_its_story(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        (record,) = records("a", key="k", ttl_until=clock.now() + 1000)
        record.headers = {"source": "web"}
        one.append("orders", [record], level(8))
        published = clock.now()
        clock.advance(10)
        settle(feed, feed.poll(1), "reject", reason="makes\nno sense", error="ValueError: x")
        one.pump.run()
        (letter,) = everything(tail(one, "dead-letters/orders", start="beginning"))
        assert (letter.id, letter.record.data, letter.key, letter.headers["source"]) == (record.id, b"a", "k", "web")
        assert (letter.priority, letter.expires_at) == (8, None), "a dead letter does not expire"
        story = story_of(letter)
        assert story is not None
        assert story.published_at == pytest.approx(published, abs=1e-3)
        assert story == DeadLetter(
            topic="orders",
            partition=0,
            offset=0,
            group="billing",
            reason="makes no sense",
            error="ValueError: x",
            attempts=1,
            published_at=story.published_at,
            died_at=clock.now(),
        )
        assert counts(one) == {"dead": 1, "failed": 1}

    @pytest.mark.parametrize(
        ("template", "target"),
        [("failed/{topic}", "failed/orders"), ("trash", "trash"), (None, None), ("orders", None)],
    )
    def test_where_they_go(self, one: Bus, template: str | None, target: str | None) -> None:
        one.create_topic("orders", TopicOptions(dead_letter_topic=template))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(1), "reject")
        one.pump.run()
        assert counts(one) == {"dead": 1, "failed": 1}
        assert set(one.catalog.topics) == {"orders", target} - {None}
        if target:
            assert stored(one, target) == ["a"]

    @pytest.mark.parametrize("topic", ["x" * 255, "é" * 127, "dead/" + "y" * 250])
    def test_a_topic_with_a_long_name_has_dead_letters_too(self, one: Bus, topic: str) -> None:
        for template in ("dead-letters/{topic}", "{topic}/{topic}"):
            name = topic if template.startswith("dead") else topic[:-1]
            one.create_topic(name, TopicOptions(dead_letter_topic=template))
            feed = consumer(one, name)
            publish(one, name, "a")
            settle(feed, feed.poll(1), "reject")
            one.pump.run()
            assert stored(one, f"dead-letters/{name}") == ["a"]

    def test_a_name_that_is_no_topic_s_is_replaced_by_the_usual_one(self, one: Bus) -> None:
        """The template was fine, and with this topic in it, it is not."""
        one.create_topic("foo", TopicOptions(dead_letter_topic="{topic}\u0308"))
        feed = consumer(one, "foo")
        publish(one, "foo", "a")
        settle(feed, feed.poll(1), "reject")
        one.pump.run()
        assert stored(one, "dead-letters/foo") == ["a"]

    def test_dead_letters_that_die_are_dropped_and_counted(self, one: Bus, clock: ManualClock) -> None:
        """They would go round in circles."""
        publish(one, "dead-letters/orders", "a", "b")
        feed = consumer(one, "dead-letters/orders", start="beginning")
        first, second = feed.poll(2)
        settle(feed, [first], "reject")
        for _ in range(30):
            settle(feed, [second], "nack", 0.0)
            (second,) = feed.poll(2)
        one.pump.run()
        assert set(one.catalog.topics) == {"dead-letters/orders"}
        assert stored(one, "dead-letters/orders") == ["a", "b"]
        assert counts(one, "dead-letters/orders") == {"lag": 1, "dead": 1, "failed": 31, "redelivered": 30}

    def test_each_group_gives_up_for_itself(self, one: Bus) -> None:
        feeds = [consumer(one, "orders", group=name) for name in ("a", "b")]
        publish(one, "orders", "x")
        for feed in feeds:
            settle(feed, feed.poll(1), "reject")
        assert sorted(story.group for story in letters(one)) == ["a", "b"]

    def test_a_letter_and_the_end_of_its_message_are_one(self, one: Bus, clock: ManualClock) -> None:
        """The consumer died between them: there is a letter all the same, and only one."""
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feed, "_tell", lambda *_: None)
            settle(feed, feed.poll(1), "reject")
        clock.advance(LEASE + 1)
        assert feed.poll(1) == []
        assert len(letters(one)) == 1


class TestExpiry:
    @pytest.mark.parametrize("wanted", [False, True])
    def test_what_has_expired_is_not_delivered_and_counted(self, one: Bus, clock: ManualClock, wanted: bool) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=60, dead_letter_expired=wanted))
        feed = consumer(one, "orders")
        publish(one, "orders", "old")
        clock.advance(59.9)
        publish(one, "orders", "young")
        assert feed.bus.topic("orders").shards[0].log.read(0)[0].extra
        clock.advance(0.1)
        assert told(feed.poll(5)) == [("young", 1)]
        assert counts(one) == {"lag": 1, "expired": 1}
        assert [(story.reason, story.attempts) for story in letters(one)] == [("expired", 0)] * wanted

    def test_also_while_it_waits_for_its_retry(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=60))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(5), "nack", 70.0)
        clock.advance(80)
        assert feed.poll(5) == []
        assert counts(one)["expired"] == 1

    def test_a_message_may_live_shorter_than_its_topic_says_and_no_longer(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=60))
        feed = consumer(one, "orders")
        one.append("orders", records("short", ttl_until=clock.now() + 5), level())
        one.append("orders", records("long", ttl_until=clock.now() + 500), level())
        publish(one, "orders", "usual")
        clock.advance(6)
        found = feed.poll(5)
        assert data(found) == ["long", "usual"]
        settle(feed, found, "release")
        clock.advance(54)
        assert feed.poll(5) == []

    def test_what_is_held_may_be_finished(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=10))
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        found = feed.poll(5)
        clock.advance(20)
        settle(feed, found, "ack")
        assert counts(one) == {"acked": 1}

    def test_a_delayed_message_expires_after_it_was_due(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=10))
        feed = consumer(one, "orders")
        one.schedule("orders", records("a"), level(at=clock.now() + 100), 1.0)
        clock.advance(101)
        assert data(feed.poll(5)) == ["a"]


class TestOrder:
    @pytest.fixture
    def feed(self, one: Bus) -> GroupFeed[Message]:
        one.create_topic("orders", TopicOptions(retry_delay=5, retry_backoff=1))
        return consumer(one, "orders", ordering=True)

    def test_a_failed_message_holds_back_those_of_its_key(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock
    ) -> None:
        for number, key in enumerate("kxkkx"):
            publish(one, "orders", f"{key}{number}", key=key)
        first = feed.poll(1)
        settle(feed, first, "nack")
        found = feed.poll(10)
        assert data(found) == ["x1", "x4"]
        settle(feed, found, "ack")
        publish(one, "orders", "k5", key="k")
        publish(one, "orders", "y6", key="y")
        assert data(feed.poll(10)) == ["y6"]
        clock.advance(5)
        assert told(feed.poll(10)) == [("k0", 2), ("k2", 1), ("k3", 1), ("k5", 1)]

    def test_messages_without_a_key_count_as_one(self, one: Bus, feed: GroupFeed[Message], clock: ManualClock) -> None:
        publish(one, "orders", "a", "b", "c")
        settle(feed, feed.poll(1), "nack")
        assert feed.poll(10) == []
        publish(one, "orders", "other", key="k")
        assert data(feed.poll(10)) == ["other"]
        clock.advance(5)
        assert told(feed.poll(10)) == [("a", 2), ("b", 1), ("c", 1)]

    @pytest.mark.parametrize("limit", [1, 2, 10])
    def test_what_is_due_together_comes_in_order(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock, limit: int
    ) -> None:
        """Those that follow are due a moment earlier, and are given back once more should they come first."""
        publish(one, "orders", *map(str, range(6)), key="k")
        settle(feed, feed.poll(1), "nack", 3.3)
        assert feed.poll(10) == []
        seen: list[str] = []
        for _ in range(200):
            found = feed.poll(limit)
            settle(feed, found, "ack")
            seen += data(found)
            assert seen == list(map(str, range(len(seen))))
            clock.advance(0.05)
        assert len(seen) == 6
        assert counts(one) == {"acked": 6, "failed": 1, "redelivered": 1}

    def test_when_several_fail_the_first_one_is_waited_for(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock
    ) -> None:
        publish(one, "orders", *map(str, range(4)), key="k")
        zero, one_, two, three = feed.poll(4)
        feed.settle(
            [
                Settlement(three, "release"),
                Settlement(two, "nack", 1.0),
                Settlement(one_, "nack", 20.0),
                Settlement(zero, "ack"),
            ]
        )
        clock.advance(10)
        assert feed.poll(10) == []
        clock.advance(10)
        assert told(feed.poll(10)) == [("1", 2), ("2", 2), ("3", 1)]

    def test_a_message_before_the_one_that_failed_takes_its_place(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock
    ) -> None:
        """It was handled at the same time, and fails later."""
        publish(one, "orders", "0", "1", key="k")
        first, second = feed.poll(2)
        settle(feed, [second], "nack", 1.0)
        settle(feed, [first], "nack", 8.0)
        clock.advance(1)
        assert feed.poll(10) == []
        clock.advance(7)
        assert told(feed.poll(10)) == [("0", 2), ("1", 2)]

    @pytest.mark.parametrize("end", ["reject", "ack"])
    def test_when_it_is_done_with_the_others_go_on(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock, end: str
    ) -> None:
        publish(one, "orders", "0", "1", key="k")
        settle(feed, feed.poll(1), "nack")
        assert feed.poll(10) == []
        clock.advance(5)
        found = feed.poll(1)
        assert told(found) == [("0", 2)]
        settle(feed, found, end)
        publish(one, "orders", "2", key="k")
        assert told(feed.poll(10)) == [("1", 1), ("2", 1)]

    def test_when_it_has_died_the_others_go_on(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("few", TopicOptions(max_retries=1, retry_delay=5, retry_backoff=1))
        feed = consumer(one, "few", ordering=True)
        publish(one, "few", "0", "1", key="k")
        settle(feed, feed.poll(1), "nack")
        clock.advance(5)
        settle(feed, feed.poll(1), "nack")
        clock.advance(5)
        assert told(feed.poll(10)) == [("1", 1)]
        assert [story.attempts for story in letters(one, "few")] == [2]

    def test_when_it_has_expired_the_others_go_on(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders", ordering=True)
        one.append("orders", records("0", key="k", ttl_until=clock.now() + 3), level())
        publish(one, "orders", "1", key="k")
        settle(feed, feed.poll(1), "nack", 5.0)
        clock.advance(5)
        assert told(feed.poll(10)) == [("1", 1)]

    def test_who_takes_over_begins_with_what_failed(
        self, one: Bus, feed: GroupFeed[Message], clock: ManualClock
    ) -> None:
        publish(one, "orders", *map(str, range(3)), key="k")
        settle(feed, feed.poll(1), "nack", 1000.0)
        assert feed.poll(10) == []
        feed.close()
        assert told(consumer(one, "orders", ordering=True).poll(10)) == [("0", 2), ("1", 1), ("2", 1)]

    def test_without_ordering_nobody_waits(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", *map(str, range(3)), key="k")
        settle(feed, feed.poll(1), "nack", 5.0)
        assert data(feed.poll(10)) == ["1", "2"]


class Act(NamedTuple):
    """Of one consumer: take up to `limit`, and say of each message what the digit says (0 nacks, 1 releases)."""

    who: int
    limit: int
    verdicts: str
    pause: float


acts = st.lists(
    st.builds(
        Act,
        who=st.integers(0, 1),
        limit=st.integers(1, 6),
        verdicts=st.text("012345", min_size=6, max_size=6),
        pause=st.sampled_from([0.0, 0.5, 3.0]),
    ),
    max_size=25,
)


@given(acts, st.lists(st.sampled_from("abc"), min_size=1, max_size=14))
@settings(max_examples=50, deadline=None)
def test_whatever_fails_each_key_is_worked_off_in_order(story: list[Act], keys: list[str]) -> None:
    """A message is acked only when all those before it with its key are; two consumers, two partitions."""
    buses = Buses(None)
    bus = buses.open()
    options = TopicOptions(partitions=2, max_retries=1000, retry_delay=2, retry_backoff=1)
    bus.create_topic("orders", options)
    feeds = [consumer(bus, "orders", ordering=True) for _ in range(2)]
    for number, key in enumerate(keys):
        publish(bus, "orders", f"{number}", key=key)
    done: dict[str, list[int]] = {key: [] for key in "abc"}
    try:
        for act in [*story, *[Act(number % 2, 100, "5" * 100, 3.0) for number in range(12)]]:
            failed: set[str | None] = set()
            said: list[Settlement] = []
            for message, verdict in zip(found := feeds[act.who].poll(act.limit), act.verdicts, strict=False):
                assert message.key is not None
                if message.key in failed:
                    said.append(Settlement(message, "release"))  # as the listener does
                elif verdict in "01":
                    said.append(Settlement(message, "nack" if verdict == "0" else "release"))
                    failed.add(message.key)
                else:
                    said.append(Settlement(message, "ack"))
                    done[message.key].append(int(message.record.data))
            said += [Settlement(message, "release") for message in found[len(said) :]]
            feeds[act.who].settle(said)
            buses.clock.advance(act.pause)
        expected = {key: [number for number, each in enumerate(keys) if each == key] for key in "abc"}
        assert done == expected
        assert counts(bus).get("lag", 0) == 0
    finally:
        buses.close()
