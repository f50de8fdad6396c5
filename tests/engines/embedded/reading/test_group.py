"""Consumers of a group: what they claim, read and settle."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.engines.stage import (
    LEASE,
    Buses,
    busy,
    consumer,
    counts,
    data,
    everything,
    level,
    numbered,
    outputs,
    polled,
    publish,
    records,
    settle,
    stored,
    tail,
    told,
)
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.control.claims import Range
from tidings.engines.embedded.reading.group import GroupFeed
from tidings.errors import (
    Closed,
    DamagedData,
    LeaseLost,
    TopicFull,
)
from tidings.model.message import Message
from tidings.model.options import Durability, Guarantee, TopicOptions
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock


class TestSharing:
    def test_nothing_is_delivered_twice(self, one: Bus, clock: ManualClock) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        numbered(one, 10)
        found = [ann.poll(3), bob.poll(3), ann.poll(3), bob.poll(3)]
        assert [data(part) for part in found] == [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"], ["9"]]
        settle(ann, found[0] + found[2], "ack")
        settle(bob, found[1] + found[3], "ack")
        clock.advance(10 * LEASE)
        assert ann.poll(10) == bob.poll(10) == []

    def test_a_consumer_that_closes_gives_back_at_once(self, one: Bus) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        numbered(one, 3)
        assert len(ann.poll(3)) == 3
        assert bob.poll(3) == []
        ann.close()
        ann.close()
        assert bob.is_ready(), "nobody told the other one"
        assert told(bob.poll(3)) == [("0", 1), ("1", 1), ("2", 1)]
        with pytest.raises(Closed):
            ann.poll(1)

    def test_a_consumer_that_dies_is_noticed_by_care(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        ann, bob = consumer(here, "orders"), consumer(there, "orders")
        numbered(here, 2)
        assert data(bob.poll(1)) == ["0"]
        on_disk.kill(there)
        here.care()
        assert told(ann.poll(5)) == [("0", 2), ("1", 1)]

    def test_renewing_keeps_what_is_held(self, one: Bus, clock: ManualClock) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a")
        held = ann.poll(1)
        assert ann.renew_every == LEASE / 3
        for _ in range(6):
            clock.advance(LEASE / 3)
            ann.renew()
            assert bob.poll(1) == []
        settle(ann, held, "ack")

    def test_it_sleeps_until_a_retry_is_due(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(1), "nack", 7.0)
        assert feed.poll(1) == []
        one.pump.due = 1e18
        assert feed.pause() == 7.0
        assert not feed.is_ready()
        clock.advance(7)
        assert feed.is_ready()
        assert told(feed.poll(1)) == [("a", 2)]

    def test_only_its_partitions(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(partitions=3))
        ann, bob = consumer(one, "orders", partitions=(0, 2)), consumer(one, "orders", partitions=(1,))
        numbered(one, 9)
        assert [len(everything(feed)) for feed in (ann, bob)] == [6, 3]

    def test_only_messages_of_its_key_and_the_others_are_acked(self, one: Bus) -> None:
        feed = consumer(one, "orders", key="k")
        for number in range(10):
            publish(one, "orders", f"{number}", key="k" if number % 3 == 0 else "x")
        found = everything(feed, 3)
        assert data(found) == ["0", "3", "6", "9"]
        assert counts(one) == {"lag": 4, "acked": 6}

    @pytest.mark.parametrize("priorities", [(5,), (5, 9)])
    def test_what_is_new_is_not_forgotten_over_many_retries(self, one: Bus, priorities: tuple[int, ...]) -> None:
        """More of them are due than are claimed at once."""
        feed = consumer(one, "orders")
        publish(one, "orders", *map(str, range(600)))
        found = feed.poll(600)
        settle(feed, found[::2], "nack", 0.0)
        settle(feed, found[1::2], "ack")
        for priority in priorities:
            publish(one, "orders", "new", priority=priority)
        assert len(polled(feed, 1000)) == 300 + len(priorities)


class TestSettling:
    def test_acks_of_neighbours_are_one_range(self, one: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", *map(str, range(20)))
        messages = feed.poll(20)
        settled: list[Range] = []
        real = one.claims.settle

        def note(group: int, ranges: Sequence[Range], *rest: Any) -> list[tuple[int, int]]:
            settled.extend(ranges)
            return real(group, ranges, *rest)

        monkeypatch.setattr(one.claims, "settle", note)
        settle(feed, messages[:10], "ack")
        feed.settle([Settlement(message, "nack", 1.0 if at < 5 else 2.0) for at, message in enumerate(messages[10:])])
        assert [(part.first, part.last, part.action) for part in settled] == [
            (0, 9, "ack"),
            (10, 14, "nack"),
            (15, 19, "nack"),
        ]

    def test_a_lost_lease_is_named_and_the_others_are_settled(self, one: Bus, clock: ManualClock) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a", "b")
        late = ann.poll(1)
        clock.advance(LEASE + 1)
        taken = bob.poll(1)
        assert (data(late), told(taken)) == (["a"], [("a", 2)])
        kept = ann.poll(1)
        with pytest.raises(LeaseLost) as lost:
            settle(ann, late + kept, "ack")
        assert (lost.value.topic, lost.value.offsets) == ("orders", (0,))
        settle(bob, taken, "ack")
        assert counts(one) == {"acked": 2, "redelivered": 1}

    def test_repeating_an_ack_is_harmless_and_a_late_one_is_refused_each_time(
        self, one: Bus, clock: ManualClock
    ) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a", "b")
        acked, late = ann.poll(1), ann.poll(1)
        for _ in range(2):
            settle(ann, acked, "ack")
        clock.advance(LEASE + 1)
        assert data(bob.poll(1)) == ["b"]
        for _ in range(2):
            with pytest.raises(LeaseLost):
                settle(ann, late, "ack")

    def test_a_rejected_message_of_a_lost_lease_leaves_no_letter(self, one: Bus, clock: ManualClock) -> None:
        """Somebody else has it now, and may well succeed."""
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a")
        late = ann.poll(1)
        clock.advance(LEASE + 1)
        settle(bob, bob.poll(1), "ack")
        with pytest.raises(LeaseLost):
            settle(ann, late, "reject")
        one.pump.run()
        assert stored(one, "dead-letters/orders") == []
        assert counts(one) == {"acked": 1, "redelivered": 1}

    def test_settling_while_another_thread_makes_topics(self, one: Bus) -> None:
        feed = consumer(one, "t/*")
        for number in range(20):
            one.create_topic(f"t/{number}", TopicOptions(partitions=16))
        publish(one, "t/0", *map(str, range(50)))
        messages, errors = feed.poll(100), list[Exception]()

        def make() -> None:
            for number in range(20, 40):
                one.create_topic(f"t/{number}", TopicOptions())

        maker = threading.Thread(target=make)
        maker.start()
        while maker.is_alive():
            try:
                settle(feed, messages, "ack")
                feed.poll(1)
            except RuntimeError as error:
                errors.append(error)
                break
        maker.join()
        assert errors == []


class TestAtMostOnce:
    @pytest.fixture
    def feed(self, one: Bus) -> GroupFeed[Message]:
        one.create_topic("orders", TopicOptions(delivery=Guarantee.AT_MOST_ONCE))
        return consumer(one, "orders")

    def test_nothing_comes_again(self, one: Bus, feed: GroupFeed[Message], clock: ManualClock) -> None:
        publish(one, "orders", "a", "b", "c")
        acked, nacked, rejected = found = feed.poll(5)
        assert [message.lease for message in found] == [0, 0, 0]
        settle(feed, [acked], "ack")
        settle(feed, [nacked], "nack", 0.0)
        settle(feed, [rejected], "reject")
        clock.advance(10 * LEASE)
        assert feed.poll(5) == consumer(one, "orders").poll(5) == []
        assert counts(one) == {"acked": 3}
        one.pump.run()
        assert "dead-letters/orders" not in one.catalog.topics

    def test_what_was_not_handed_out_is_given_back(self, one: Bus, feed: GroupFeed[Message]) -> None:
        publish(one, "orders", "a", "b", "c")
        found = feed.poll(5)
        settle(feed, found[1:], "release")
        feed.close()
        assert counts(one) == {"lag": 2, "acked": 1}
        assert told(consumer(one, "orders").poll(5)) == [("b", 1), ("c", 1)]

    def test_what_has_expired_is_not_delivered(self, one: Bus, feed: GroupFeed[Message], clock: ManualClock) -> None:
        one.append("orders", records("old", ttl_until=clock.now() + 5), level())
        publish(one, "orders", "new")
        clock.advance(5)
        assert data(feed.poll(5)) == ["new"]
        assert counts(one) == {"acked": 1, "expired": 1}

    def test_a_topic_that_is_altered_while_it_is_read(self, open_bus: Buses) -> None:
        here = open_bus.open()
        there = open_bus.open() if open_bus.folder else here
        feed = consumer(here, "orders")
        publish(here, "orders", "a")
        held = feed.poll(1)
        there.catalog.alter("orders", TopicOptions(delivery=Guarantee.AT_MOST_ONCE))
        there.hub.announce_change(0)
        here.hub.look()
        publish(here, "orders", "b")
        (unleased,) = feed.poll(1)
        assert (held[0].lease > 0, unleased.lease) == (True, 0)
        settle(feed, held, "ack")
        assert counts(here) == {"acked": 2}

    def test_damage_in_one_partition_costs_nothing_of_another(self, one: Bus) -> None:
        one.create_topic("many", TopicOptions(partitions=2, delivery=Guarantee.AT_MOST_ONCE))
        feed = consumer(one, "many")
        numbered(one, 4, "many")
        broken = one.topic("many").shards[1].log
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(broken, "read", _broken)
            found = data(feed.poll(10))
            assert counts(one, "many")["lag"] == 2
        assert sorted(found + data(feed.poll(10))) == ["0", "1", "2", "3"]


def _broken(offset: int) -> None:
    raise DamagedData("the log", 0, "is damaged", 1)


class TestPriorities:
    MIXED = (5, 9, 0, 9, 5, 0, 5)

    def mix(self, bus: Bus, first: int = 0) -> None:
        for number, priority in enumerate(self.MIXED, first):
            publish(bus, "orders", f"{number}", priority=priority)

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_without_order_of_priority_they_come_as_they_were_published(self, one: Bus, limit: int) -> None:
        feed = consumer(one, "orders")
        self.mix(one)
        self.mix(one, 7)
        assert data(polled(feed, limit)) == [f"{number}" for number in range(14)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
    def test_also_while_something_is_tried_again(self, one: Bus, limit: int) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "r1", priority=9)
        publish(one, "orders", "r2", priority=0)
        settle(feed, feed.poll(2), "nack", 0.0)
        self.mix(one)
        found = data(polled(feed, limit))
        assert [each for each in found if each[0] != "r"] == [f"{number}" for number in range(7)]
        assert sorted(found[:2]) == ["r1", "r2"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_the_highest_priority_comes_first(self, one: Bus, limit: int) -> None:
        feed = consumer(one, "orders", priority_order=True)
        self.mix(one)
        assert data(polled(feed, limit)) == ["1", "3", "0", "4", "6", "2", "5"]

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_what_is_tried_again_has_no_advantage(self, one: Bus, limit: int) -> None:
        feed = consumer(one, "orders", priority_order=True)
        publish(one, "orders", "low", priority=1)
        publish(one, "orders", "high", priority=8)
        settle(feed, feed.poll(2), "nack", 0.0)
        publish(one, "orders", "low too", priority=1)
        publish(one, "orders", "high too", priority=8)
        assert data(polled(feed, limit)) == ["high", "high too", "low", "low too"]

    def test_nor_has_it_when_there_is_much_of_it(self, one: Bus) -> None:
        feed = consumer(one, "orders", priority_order=True)
        publish(one, "orders", *map(str, range(600)), priority=8)
        found = feed.poll(600)
        settle(feed, found[::2], "nack", 0.0)
        settle(feed, found[1::2], "ack")
        publish(one, "orders", "low", priority=1)
        again = data(polled(feed, 1000))
        assert (len(again), again[-1]) == (301, "low")

    @pytest.mark.parametrize("priority", [0, 9])
    def test_a_priority_that_another_process_uses_first_is_read_from_its_first_message(
        self, on_disk: Buses, priority: int
    ) -> None:
        here, there = on_disk.open(), on_disk.open()
        feeds = [consumer(here, "orders", group=name, priority_order=name == "p") for name in "gp"]
        publish(there, "orders", "first", "second", priority=priority)
        here.hub.look()
        assert [data(polled(feed)) for feed in feeds] == [["first", "second"]] * 2
        assert [counts(here, group=name) for name in "gp"] == [{"lag": 2}] * 2

    def test_what_retention_removed_of_several_priorities_is_counted(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(retention_messages=10))
        feed = consumer(one, "orders")
        for number in range(60):
            publish(one, "orders", f"{number}", priority=number % 2)
        found = polled(feed, 7)
        settle(feed, found, "ack")
        assert data(found) == [f"{number}" for number in range(60 - len(found), 60)]
        assert counts(one) == {"skipped": feed.skipped, "acked": 60 - feed.skipped}


class TestTransactions:
    def test_acks_and_outputs_are_one(self, one: Bus) -> None:
        feed, out = consumer(one, "orders"), tail(one, "out")
        publish(one, "orders", "a", "b")
        found = feed.poll(2)
        feed.commit([Settlement(message, "ack") for message in found], outputs("out", "1", "2"), Durability.OS)
        assert data(everything(out)) == ["1", "2"]
        assert counts(one) == {"acked": 2}
        assert one.outbox.due(1e18, 10) == []

    def test_with_one_lease_lost_nothing_takes_effect(self, one: Bus, clock: ManualClock) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a", "b")
        (first,) = ann.poll(1)
        clock.advance(LEASE + 1)
        bob.poll(1)
        (second,) = ann.poll(1)
        done = [Settlement(second, "ack"), Settlement(first, "ack")]
        with pytest.raises(LeaseLost) as lost:
            ann.commit(done, outputs("out", "1"), Durability.OS)
        assert lost.value.offsets == (0,)
        assert (stored(one, "out"), counts(one)) == ([], {"lag": 2, "redelivered": 1})
        settle(ann, [second], "ack")

    def test_an_output_that_is_refused_refuses_all(self, one: Bus) -> None:
        """Whether the topic is full, or does not take such data."""
        one.create_topic("full", TopicOptions(max_length=1))
        consumer(one, "full", group="slow")
        publish(one, "full", "x")
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        (message,) = feed.poll(1)
        with pytest.raises(TopicFull):
            feed.commit([Settlement(message, "ack")], outputs("out", "1") + outputs("full", "2"), Durability.OS)
        assert (stored(one, "out"), counts(one)) == ([], {"lag": 1})
        settle(feed, [message], "ack")

    def test_outputs_for_later_wait_for_their_time(self, one: Bus, clock: ManualClock) -> None:
        feed, out = consumer(one, "orders"), tail(one, "out")
        publish(one, "orders", "a")
        (message,) = feed.poll(1)
        given = [*outputs("out", "later", at=clock.now() + 60), *outputs("out", "now", priority=9)]
        feed.commit([Settlement(message, "ack")], given, Durability.DISK if one.folder else Durability.MEMORY)
        assert data(everything(out)) == ["now"]
        clock.advance(60)
        assert data(everything(out)) == ["later"]

    def test_what_cannot_be_stored_now_is_stored_later_for_it_is_committed(self, one: Bus, clock: ManualClock) -> None:
        feed, out = consumer(one, "orders"), tail(one, "out")
        publish(one, "orders", "a")
        (message,) = feed.poll(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one, "store", busy)
            feed.commit([Settlement(message, "ack")], outputs("out", "1"), Durability.OS)
        assert counts(one) == {"acked": 1}
        assert data(everything(out)) == ["1"]

    def test_a_nack_in_it_follows_the_topic_s_options(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(max_retries=0))
        feed, letters = consumer(one, "orders"), tail(one, "dead-letters/orders")
        publish(one, "orders", "a", "b")
        first, second = feed.poll(2)
        feed.commit([Settlement(first, "ack"), Settlement(second, "nack")], outputs("out", "1"), Durability.OS)
        assert (data(everything(letters)), stored(one, "out")) == (["b"], ["1"])
        assert counts(one) == {"acked": 1, "dead": 1, "failed": 1}
