"""Consumers of a group when something is in the way: locks, damage, retention, drops, limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engines.sample import damage
from tests.engines.stage import (
    LEASE,
    Buses,
    busy,
    consumer,
    counts,
    data,
    everything,
    numbered,
    polled,
    publish,
    settle,
    told,
)
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.errors import (
    BusBusy,
    Closed,
    DamagedData,
    GroupNotFound,
    InvalidOption,
    LeaseLost,
    TooManySubscribers,
)
from tidings.model.options import TopicOptions
from tidings.testing.clock import ManualClock


class TestTrouble:
    def test_a_lock_that_is_held_costs_nothing_but_another_try(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        feed = consumer(here, "orders")
        shard = here.topic("orders").shards[0].id
        acts: list[Callable[[], object]] = [
            lambda: publish(here, "orders", "a"),
            lambda: here.groups.seek("billing", {shard: 0}, 0.0),
        ]
        for act in acts:
            settle(feed, feed.poll(1), "ack")
            assert not feed.poll(1)
            act()
            here.announce_groups()
            with there.control.write(), pytest.raises(WouldBlock):
                feed.poll(1, 0.0)
            assert feed.is_ready()
            assert data(feed.poll(1, 0.0)) == ["a"]

    def test_a_group_that_is_behind_skips_what_retention_removed(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(retention_messages=10))
        feed = consumer(one, "orders")
        numbered(one, 2)
        held = feed.poll(1)
        for number in range(10):
            numbered(one, 5, first=2 + 5 * number)
        found = everything(feed, 3)
        offsets = [message.offset for message in found]
        assert offsets == list(range(offsets[0], 52))
        assert feed.skipped == offsets[0] - 1
        settle(feed, held + found, "ack")
        assert counts(one) == {"skipped": feed.skipped, "acked": 52 - feed.skipped}

    def test_what_is_claimed_and_cannot_be_read_goes_back_at_once(self, one: Bus) -> None:
        ann, bob = consumer(one, "orders"), consumer(one, "orders")
        publish(one, "orders", "a", "b")
        assert data(ann.poll(1)) == ["a"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.topic("orders").shards[0].log, "read", busy)
            with pytest.raises(BusBusy):
                ann.poll(1)
        assert told(bob.poll(10)) == [("b", 1)]

    @pytest.mark.parametrize("step", ["record", "_after_claim"])
    def test_what_is_claimed_and_cannot_be_handed_out_goes_back_too(
        self, one: Bus, clock: ManualClock, step: str
    ) -> None:
        """Nobody would settle it, and renewing would prolong its lease as long as the consumer lives."""
        feed = consumer(one, "orders", key="k")
        publish(one, "orders", "other", key="x")
        publish(one, "orders", "mine", key="k")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feed if step != "record" else feed._policy, step if step != "record" else "_record", busy)
            with pytest.raises(BusBusy):
                feed.poll(10)
        assert counts(one) == {"lag": 2}
        assert told(polled(feed)) == [("mine", 1)]

    def test_also_when_giving_it_back_fails_at_first(self, one: Bus, clock: ManualClock) -> None:
        """A process that was stopped holds the lock for longer than anybody waits."""
        feed = consumer(one, "orders", key="k")
        publish(one, "orders", "other", key="x")
        publish(one, "orders", "mine", key="k")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.claims, "settle", busy)
            with pytest.raises(BusBusy):
                feed.poll(10)
        for _ in range(3):
            feed.renew()
            clock.advance(LEASE / 3)
        assert told(polled(feed)) == [("mine", 1)]

    def test_seeking_is_seen_by_who_is_attached(self, one: Bus) -> None:
        feed = consumer(one, "orders")
        numbered(one, 5)
        settle(feed, feed.poll(10), "ack")
        assert feed.poll(10) == []
        one.groups.seek("billing", {one.topic("orders").shards[0].id: 3}, 0.0)
        one.announce_groups()
        assert data(feed.poll(10)) == ["3", "4"]

    def test_care_finds_what_a_process_did_that_died_before_it_could_tell(self, one: Bus) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "a")
        settle(feed, feed.poll(1), "ack")
        assert feed.poll(1) == []
        one.groups.seek("billing", {one.topic("orders").shards[0].id: 0}, 0.0)
        one.care()
        assert feed.is_ready()
        assert data(feed.poll(1)) == ["a"]

    def test_a_dropped_group_delivers_nothing_any_more(self, one: Bus) -> None:
        feed = consumer(one, "orders")
        numbered(one, 3)
        settle(feed, feed.poll(10), "ack")
        one.groups.drop("billing")
        publish(one, "orders", "later")
        with pytest.raises((GroupNotFound, Closed)):
            feed.poll(10)
        assert one.control.read("SELECT count(*) FROM cursors") == [(0,)], "a group that is gone has a place"

    def test_what_is_held_of_a_dropped_topic_is_lost_and_the_new_one_is_read(self, one: Bus) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "old")
        held = feed.poll(1)
        one.drop_topic("orders")
        publish(one, "orders", "new")
        with pytest.raises(LeaseLost):
            settle(feed, held, "ack")
        assert data(feed.poll(10)) == ["new"]

    def test_offsets_that_a_loss_of_power_took_are_asked_for_again_and_skipped_when_it_is_certain(
        self, on_disk: Buses
    ) -> None:
        here = on_disk.open()
        feed = consumer(here, "orders")
        shard = here.topic("orders").shards[0]
        publish(here, "orders", "a")
        with here.control.write() as run:  # somebody was given the offsets 1 and 2
            run("UPDATE cursors SET next = 3")
            run(
                "INSERT INTO pending (group_id, shard, first, last, attempt, due, lease) VALUES (?, ?, 0, 2, 1, 0, 0)",
                (here.groups.find("billing"), shard.id),
            )
        assert told(feed.poll(10)) == [("a", 2)]
        on_disk.clock.advance(1)
        assert feed.poll(10) == []
        assert counts(here)["lag"] == 3
        assert "skipped" not in counts(here), "they may still be written by somebody"
        shard.close()
        assert publish(here, "orders", "b")[0].offset == 3, "an offset that was given is not given again"
        on_disk.clock.advance(1)
        assert data(polled(feed)) == ["b"]
        assert counts(here)["skipped"] == 2

    def test_damage_is_told_after_what_is_readable_and_costs_no_attempt(self, on_disk: Buses) -> None:
        bus = on_disk.open(segment_bytes=2000)
        numbered(bus, 10)
        assert on_disk.folder is not None
        (path,) = on_disk.folder.rglob("00*.log")
        damage(path, 4)
        feed = consumer(on_disk.open(segment_bytes=2000), "orders", start="beginning")
        assert data(feed.poll(100)) == ["0", "1", "2", "3"]
        for _ in range(2):
            with pytest.raises(DamagedData) as told_of:
                feed.poll(100)
        assert (told_of.value.resume_offset, told_of.value.file) == (5, str(path))
        feed.bus.groups.seek("billing", {feed.bus.topic("orders").shards[0].id: 5}, 0.0)
        feed.bus.announce_groups()
        assert [(message.offset, message.attempt) for message in feed.poll(100)] == [(at, 1) for at in range(5, 10)]


class TestJoining:
    def test_a_topic_has_so_many_subscribers_and_no_group_is_made_in_vain(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(max_subscribers=1))
        ann = consumer(one, "orders")
        for group in ("billing", "other"):
            with pytest.raises(TooManySubscribers):
                consumer(one, "orders", group=group)
        assert one.groups.bindings() == {"billing": ["orders"]}
        ann.close()
        consumer(one, "orders", group="other")

    def test_a_dead_consumer_does_not_count(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        here.create_topic("orders", TopicOptions(max_subscribers=1))
        there.catalog.refresh()
        consumer(there, "orders")
        on_disk.kill(there)
        feed = consumer(here, "orders")
        publish(here, "orders", "x")
        assert data(feed.poll(1)) == ["x"]

    def test_a_group_is_consumed_in_one_way(self, one: Bus) -> None:
        consumer(one, "orders", ordering=True)
        with pytest.raises(InvalidOption, match="ordering"):
            consumer(one, "orders")
        publish(one, "orders", "a")
        assert data(consumer(one, "orders", group="other").poll(1)) == []
