"""Temporary subscriptions: each reads for itself, from its place in each shard, and holds nothing up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.stage import (
    Buses,
    data,
    everything,
    level,
    numbered,
    outputs,
    publish,
    records,
    settle,
    stored,
    tail,
    told,
)
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Topic
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.log import memorylog
from tidings.engines.embedded.reading import feed as module
from tidings.engines.embedded.reading.start import matching
from tidings.errors import Closed, DamagedData, TooManySubscribers
from tidings.model.message import Record
from tidings.model.options import Durability, Guarantee, TopicOptions
from tidings.model.topics import Pattern
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock


class TestReading:
    def test_each_sees_what_is_published_while_it_is_open(self, one: Bus) -> None:
        publish(one, "orders", "before")
        here, there = tail(one, "orders"), tail(one, "orders")
        publish(one, "orders", "a", "b")
        publish(one, "bills", "elsewhere")
        assert data(here.poll(10)) == data(there.poll(10)) == ["a", "b"]
        assert here.poll(10) == []
        assert tail(one, "orders").poll(10) == []

    def test_a_limit_leaves_the_rest_in_order(self, one: Bus) -> None:
        feed = tail(one, "orders")
        publish(one, "orders", *map(str, range(10)))
        found = [data(feed.poll(4)) for _ in range(4)]
        assert found == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"], []]

    def test_a_slow_reader_holds_nothing_and_slows_nobody(self, one: Bus) -> None:
        slow, fast = tail(one, "orders"), tail(one, "orders")
        assert data(slow.poll(1)) == []
        for number in range(50):
            publish(one, "orders", f"{number}")
            assert data(fast.poll(10)) == [f"{number}"]
        assert data(slow.poll(100)) == [f"{number}" for number in range(50)]

    @pytest.mark.parametrize(("start", "first"), [("beginning", 0), ("end", 5), (3, 3), (2.5, 3), (2.0, 2), (-9.0, 0)])
    def test_where_it_starts(self, one: Bus, clock: ManualClock, start: str | float, first: int) -> None:
        begun = clock.now()
        for number in range(5):
            publish(one, "orders", f"{number}")
            clock.advance(1)
        feed = tail(one, "orders", start=begun + start if isinstance(start, float) else start)
        assert data(feed.poll(10)) == [f"{number}" for number in range(first, 5)]

    def test_only_some_partitions(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(partitions=4))
        feed = tail(one, "orders", partitions=(1, 3))
        numbered(one, 8)
        publish(one, "orders", *map(str, range(8, 16)), priority=9)
        assert {message.partition for message in everything(feed)} == {1, 3}

    def test_what_retention_removed_is_counted(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(retention_messages=10))
        feed = tail(one, "orders")
        numbered(one, 50)
        found = everything(feed, 7)
        assert data(found) == [f"{number}" for number in range(feed.skipped, 50)]
        assert 0 < feed.skipped <= 40

    def test_what_retention_removed_of_several_priorities_is_counted(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(retention_messages=10))
        feed = tail(one, "orders")
        for number in range(50):
            publish(one, "orders", f"{number}", priority=number % 2)
        found = everything(feed, 7)
        assert data(found) == [f"{number}" for number in range(50 - len(found), 50)]
        assert feed.skipped == 50 - len(found) > 0

    def test_closing_wakes_and_refuses(self, one: Bus) -> None:
        feed = tail(one, "orders")
        woken = []
        feed.waker = lambda: woken.append(1)
        feed.close()
        feed.close()
        assert woken == [1]
        for use in (lambda: feed.poll(1), feed.pause):
            with pytest.raises(Closed):
                use()


class TestTopicsThatAppear:
    def test_they_are_read_from_their_first_message(self, one: Bus) -> None:
        feed = tail(one, "orders/*")
        for topic in ("orders/new", "bills/new", "orders/old"):
            publish(one, topic, topic)
        assert sorted(data(feed.poll(10))) == ["orders/new", "orders/old"]

    def test_also_when_another_process_makes_them(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        feed = tail(here, "orders/*")
        publish(there, "orders/new", "first")
        here.hub.look()
        assert data(feed.poll(10)) == ["first"]

    def test_one_that_appears_while_subscribing_is_not_missed(self, one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        real = matching

        def slow(bus: Bus, patterns: Sequence[Pattern]) -> list[Topic]:
            found = real(bus, patterns)
            monkeypatch.setattr(module, "matching", real)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(bus.create_topic, "orders/new", None).result(10)
            return found

        monkeypatch.setattr(module, "matching", slow)
        feed = tail(one, "orders/*")
        publish(one, "orders/new", "x")
        assert data(feed.poll(10)) == ["x"]

    def test_after_a_drop_it_goes_on_with_the_new_topic(self, one: Bus) -> None:
        feed = tail(one, "orders")
        publish(one, "orders", "old")
        one.drop_topic("orders")
        publish(one, "orders", "new")
        assert data(feed.poll(10))[-1:] == ["new"]
        publish(one, "orders", "newer")
        assert data(feed.poll(10)) == ["newer"]

    @pytest.mark.parametrize("priority", [0, 9])
    def test_a_priority_that_is_used_first_is_read_from_its_first_message(self, open_bus: Buses, priority: int) -> None:
        here = open_bus.open()
        there = open_bus.open() if open_bus.folder else here
        feeds = [tail(here, "orders"), tail(here, "ord*"), tail(here, "orders", priority_order=True)]
        publish(there, "orders", "usual")
        publish(there, "orders", "first", "second", priority=priority)
        here.hub.look()
        assert [sorted(data(everything(feed))) for feed in feeds] == [["first", "second", "usual"]] * 3

    def test_a_priority_whose_maker_died_before_it_told_is_found(self, on_disk: Buses) -> None:
        """By whoever publishes with it next, or by looking around."""
        here, dying, third = on_disk.open(), on_disk.open(), on_disk.open()
        feed = tail(here, "orders")
        for bus in (dying, third):
            bus.catalog.refresh()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dying.hub, "announce_change", lambda word: None)
            dying.destination("orders", records("x")[0], 8)
        publish(third, "orders", "found", priority=8)
        here.hub.look()
        assert data(feed.poll(1)) == ["found"]
        with pytest.MonkeyPatch.context() as patch:
            for bus in (dying, third):
                patch.setattr(bus.hub, "announce_change", lambda word: None)
            publish(dying, "orders", "lost hint", priority=2)
        here.hub.look()
        here.care()
        assert data(feed.poll(1)) == ["lost hint"]


class TestPriorities:
    MIXED = (5, 9, 0, 9, 5, 0, 5)

    def mix(self, bus: Bus) -> None:
        for number, priority in enumerate(self.MIXED):
            publish(bus, "orders", f"{number}", priority=priority)

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_without_order_of_priority_they_come_as_they_were_published(self, one: Bus, limit: int) -> None:
        feed = tail(one, "orders")
        self.mix(one)
        assert data(everything(feed, limit)) == [f"{number}" for number in range(len(self.MIXED))]

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_the_highest_priority_comes_first(self, one: Bus, limit: int) -> None:
        feed = tail(one, "orders", priority_order=True)
        self.mix(one)
        assert data(everything(feed, limit)) == ["1", "3", "0", "4", "6", "2", "5"]

    def test_however_much_of_it_there_is(self, one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memorylog, "READ_BATCHES", 10)
        feed = tail(one, "orders", priority_order=True)
        publish(one, "orders", "low", priority=1)
        for _ in range(300):
            publish(one, "orders", "x" * 1000, priority=8)
        found = data(feed.poll(1000))
        assert (len(found), found[-1]) == (301, "low")

    def test_messages_say_their_priority(self, one: Bus) -> None:
        feed = tail(one, "orders")
        self.mix(one)
        assert [message.priority for message in everything(feed)] == list(self.MIXED)


class TestFiltering:
    def publish_mixed(self, bus: Bus) -> None:
        """Every third message has the key; in batches of many, then one by one."""
        keyed = [Record(f"i{n}", "t", b"%d" % n, "k" if n % 3 == 0 else f"x{n}") for n in range(90)]
        bus.append("orders", keyed[:60], level())
        for record in keyed[60:]:
            bus.append("orders", [record], level())

    @pytest.mark.parametrize("limit", [1, 7, 100])
    def test_only_messages_of_the_key_and_all_of_them(self, one: Bus, limit: int) -> None:
        feed = tail(one, "orders", key="k")
        self.publish_mixed(one)
        assert data(everything(feed, limit)) == [f"{number}" for number in range(0, 90, 3)]
        assert feed.skipped == 0

    @pytest.mark.parametrize("limit", [1, 7, 100])
    def test_also_over_several_priorities(self, one: Bus, limit: int) -> None:
        feed = tail(one, "orders", key="k")
        publish(one, "orders", "urgent", key="k", priority=9)
        self.publish_mixed(one)
        publish(one, "orders", "other", key="x", priority=9)
        found: list[str] = []
        for _ in range(200):
            found += data(feed.poll(limit))
        assert found == ["urgent", *(f"{number}" for number in range(0, 90, 3))]

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_what_has_expired_is_left_out(self, one: Bus, clock: ManualClock, limit: int) -> None:
        feed = tail(one, "orders")
        short, late = records(*map(str, range(10)), ttl_until=clock.now() + 5), records("never", "too late")
        one.append(
            "orders", [record for pair in zip(short, records(*["kept"] * 10), strict=True) for record in pair], level()
        )
        one.append("orders", late, level())
        clock.advance(4.9)
        assert len(tail(one, "orders", start="beginning").poll(100)) == 22
        clock.advance(0.1)
        found: list[str] = []
        for _ in range(30):
            found += data(feed.poll(limit))
        assert found == [*["kept"] * 10, "never", "too late"]
        assert feed.skipped == 0


class TestSettling:
    def test_what_is_nacked_comes_again_to_this_one_alone(self, one: Bus, clock: ManualClock) -> None:
        feed, other = tail(one, "orders"), tail(one, "orders")
        publish(one, "orders", "a", "b")
        (first, second), _ = feed.poll(10), other.poll(10)
        settle(feed, [first], "nack", 5.0)
        settle(feed, [second], "release")
        assert told(feed.poll(10)) == [("b", 1)]
        clock.advance(1)
        assert feed.poll(10) == []  # how far it is has been written down, and need not be any more
        one.pump.due = 1e18
        assert feed.pause() == 4.0
        assert not feed.is_ready()
        clock.advance(4)
        assert feed.is_ready()
        assert told(feed.poll(10)) == [("a", 2)]
        assert other.poll(10) == feed.poll(10) == []

    def test_the_back_off_is_the_topic_s(self, one: Bus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(random, "random", lambda: 0.999999)
        one.create_topic("orders", TopicOptions(retry_delay=1, retry_backoff=10, retry_max_delay=50))
        feed = tail(one, "orders")
        publish(one, "orders", "a")
        for attempt, delay in enumerate((1, 10, 50, 50), 1):
            (message,) = feed.poll(10)
            assert message.attempt == attempt
            settle(feed, [message], "nack")
            clock.advance(delay - 0.01)
            assert feed.poll(10) == []
            clock.advance(0.01)

    def test_after_the_last_retry_it_is_a_dead_letter(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(max_retries=2, retry_delay=0))
        feed, letters = tail(one, "orders"), tail(one, "dead-letters/orders")
        publish(one, "orders", "a", key="k")
        for _ in range(3):
            settle(feed, feed.poll(1), "nack", error="it broke")
        clock.advance(100)
        assert feed.poll(1) == []
        (letter,) = letters.poll(10)
        headers = {name.removeprefix("tidings-dead-"): value for name, value in letter.headers.items()}
        assert (letter.record.data, letter.key) == (b"a", "k")
        assert (headers["reason"], headers["error"], headers["group"]) == ("retries exhausted", "it broke", "")
        assert (headers["attempts"], headers["topic"], headers["offset"]) == ("3", "orders", "0")

    def test_what_is_rejected_is_a_dead_letter_at_once(self, one: Bus) -> None:
        feed, letters = tail(one, "orders"), tail(one, "dead-letters/orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(1), "reject", reason="makes no sense")
        (letter,) = letters.poll(10)
        assert letter.headers["tidings-dead-reason"] == "makes no sense"

    def test_what_expires_while_it_waits_is_not_delivered_again(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(message_ttl=3))
        feed = tail(one, "orders")
        publish(one, "orders", "a", "b")
        settle(feed, feed.poll(2), "nack", 2.9)
        clock.advance(2.95)
        assert told(feed.poll(1)) == [("a", 2)]
        clock.advance(0.1)
        assert feed.poll(1) == []

    def test_at_most_once_is_never_again(self, one: Bus, clock: ManualClock) -> None:
        one.create_topic("orders", TopicOptions(delivery=Guarantee.AT_MOST_ONCE))
        feed = tail(one, "orders")
        publish(one, "orders", "a", "b", "c")
        nacked, rejected, kept = feed.poll(3)
        settle(feed, [nacked], "nack", 0.0)
        settle(feed, [rejected], "reject")
        settle(feed, [kept], "release")
        clock.advance(100)
        assert told(feed.poll(3)) == [("c", 1)], "what was not handed out comes back"
        assert "dead-letters/orders" not in one.catalog.topics

    def test_a_lock_that_is_held_settles_nothing_twice(self, on_disk: Buses) -> None:
        """An event loop tries without waiting, and then again in a thread."""
        here, there = on_disk.open(), on_disk.open()
        feed = tail(here, "orders")
        here.topic("dead-letters/orders")
        publish(here, "orders", "a", "b")
        nacked, rejected = feed.poll(2)
        both = [Settlement(nacked, "nack", 0.0), Settlement(rejected, "reject")]
        with there.control.write(), pytest.raises(WouldBlock):
            feed.settle(both, 0.0)
        feed.settle(both, 1.0)
        assert told(everything(feed)) == [("a", 2)]
        here.pump.run()
        assert stored(here, "dead-letters/orders") == ["b"]

    def test_its_transactions_publish_together(self, one: Bus) -> None:
        feed = tail(one, "orders")
        publish(one, "orders", "a", "b")
        first, second = feed.poll(2)
        done = [Settlement(first, "ack"), Settlement(second, "nack", 0.0)]
        feed.commit(done, [*outputs("x", "1", "2"), *outputs("y", "3")], Durability.OS)
        assert (stored(one, "x"), stored(one, "y")) == (["1", "2"], ["3"])
        assert told(feed.poll(10)) == [("b", 2)]


class TestTrouble:
    """What cannot be read is told, and costs nothing of what can."""

    def damage(self, bus: Bus, topic: str, patch: pytest.MonkeyPatch) -> None:
        def read(offset: int) -> None:
            raise DamagedData("the log", 0, "is damaged", 1)

        patch.setattr(bus.topic(topic).shards[0].log, "read", read)

    @pytest.mark.parametrize("priorities", [(5,), (5, 9)])
    def test_what_was_found_before_comes_first_and_the_damage_is_told_each_time(
        self, one: Bus, priorities: tuple[int, ...], clock: ManualClock
    ) -> None:
        feed = tail(one, "orders", "bills")
        publish(one, "orders", "again")
        settle(feed, feed.poll(1), "nack", 1.0)
        clock.advance(1)
        publish(one, "orders", "sound")
        for priority in priorities:
            publish(one, "bills", "broken", priority=priority)
        with pytest.MonkeyPatch.context() as patch:
            self.damage(one, "bills", patch)
            assert told(feed.poll(10)) == [("again", 2), ("sound", 1)]
            for _ in range(3):
                assert feed.is_ready()
                with pytest.raises(DamagedData):
                    feed.poll(10)
            publish(one, "orders", "later")
            found: list[str] = []
            for _ in range(4):
                try:
                    found += data(feed.poll(10))
                except DamagedData:
                    continue
            assert found == ["later"], "damage in one topic hides another one"
        assert data(everything(feed)) == ["broken"] * len(priorities)


def test_a_topic_has_so_many_subscribers_and_no_more(one: Bus) -> None:
    one.create_topic("orders", TopicOptions(max_subscribers=2))
    feeds = [tail(one, "orders"), tail(one, "ord*")]
    with pytest.raises(TooManySubscribers, match="orders"):
        tail(one, "orders")
    publish(one, "orders", "x")
    assert [data(feed.poll(1)) for feed in feeds] == [["x"], ["x"]]
    feeds[0].close()
    tail(one, "orders")


def test_a_dead_subscriber_does_not_count(on_disk: Buses) -> None:
    here, there = on_disk.open(), on_disk.open()
    here.create_topic("orders", TopicOptions(max_subscribers=1))
    there.catalog.refresh()
    tail(there, "orders")
    with pytest.raises(TooManySubscribers):
        tail(here, "orders")
    on_disk.kill(there)
    tail(here, "orders")
