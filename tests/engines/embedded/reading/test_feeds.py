"""What readers read from: places for temporary subscriptions, claims for consumers of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tidings.engines.embedded.reading.feeds import GroupFeed, TailFeed, bind, start_offset

from tests.engines.hands import Hands
from tests.engines.sample import records
from tidings.engines.embedded.bus import Bus, BusOptions
from tidings.engines.embedded.catalog import Topic
from tidings.engines.embedded.control.groups import Range
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.reading import feeds as module
from tidings.errors import BusBusy, Closed, DamagedData, GroupNotFound, LeaseLost
from tidings.model.message import Message
from tidings.model.options import Durability, SubscriptionSpec, TopicOptions
from tidings.model.topics import Pattern, parse_topics
from tidings.spi import Settlement

LEASE = 30.0
OpenBus = Callable[[], Bus]


@pytest.fixture(params=["memory", "file"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    folder = None if request.param == "memory" else tmp_path / "bus"
    bus = Bus(folder, BusOptions(lease_seconds=LEASE), Hands())
    yield bus
    bus.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[OpenBus]:
    """Opens the same bus as another process does."""
    opened: list[Bus] = []

    def open_one() -> Bus:
        opened.append(Bus(tmp_path / "bus", BusOptions(segment_bytes=2000), Hands()))
        return opened[-1]

    yield open_one
    for bus in opened:
        bus.close()


def spec(*topics: str, group: str | None = None, start: str | float = "end") -> SubscriptionSpec:
    return SubscriptionSpec(patterns=parse_topics(list(topics)), group=group, consumer="ann", start=start)


def tail(bus: Bus, *topics: str, start: str | float = "end") -> TailFeed[Message]:
    return TailFeed(bus, spec(*topics, start=start), Message)


def consumer(bus: Bus, *topics: str, start: str | float = "end") -> GroupFeed[Message]:
    return GroupFeed(bus, spec(*topics, group="billing", start=start), Message)


def publish(bus: Bus, topic: str, *data: bytes) -> None:
    bus.append(topic, records(*data), Durability.OS)


def numbered(bus: Bus, count: int, topic: str = "orders") -> None:
    for number in range(count):
        publish(bus, topic, b"%d" % number)


def data(messages: Sequence[Message]) -> list[bytes]:
    return [message.record.data for message in messages]


def advance(bus: Bus, seconds: float) -> None:
    assert isinstance(bus.clock, Hands)
    bus.clock.at += seconds


def settle(feed: Any, messages: Sequence[Message], action: str, seconds: float = 0.0) -> None:
    feed.settle([Settlement(message, action, seconds) for message in messages])


class TestTemporary:
    def test_each_sees_what_is_published_while_it_is_open(self, bus: Bus) -> None:
        publish(bus, "orders", b"before")
        one, other = tail(bus, "orders"), tail(bus, "orders")
        publish(bus, "orders", b"a", b"b")
        publish(bus, "bills", b"elsewhere")
        assert data(one.poll(10)) == data(other.poll(10)) == [b"a", b"b"]
        assert one.poll(10) == []
        late = tail(bus, "orders")
        assert late.poll(10) == []

    def test_a_limit_leaves_the_rest_in_order(self, bus: Bus) -> None:
        feed = tail(bus, "orders")
        publish(bus, "orders", *(b"%d" % number for number in range(10)))
        found = [data(feed.poll(4)) for _ in range(4)]
        assert found == [[b"0", b"1", b"2", b"3"], [b"4", b"5", b"6", b"7"], [b"8", b"9"], []]

    def test_a_slow_reader_holds_nothing_and_slows_nobody(self, bus: Bus) -> None:
        slow, fast = tail(bus, "orders"), tail(bus, "orders")
        assert data(slow.poll(1)) == []
        for number in range(50):
            publish(bus, "orders", b"%d" % number)
            assert data(fast.poll(10)) == [b"%d" % number]
        assert data(slow.poll(100)) == [b"%d" % number for number in range(50)]

    @pytest.mark.parametrize(
        ("start", "first"), [("beginning", 0), ("end", 5), (3, 3), (1_000_002.5, 3), (1_000_002.0, 2), (0.0, 0)]
    )
    def test_where_it_starts(self, bus: Bus, start: str | float, first: int) -> None:
        for number in range(5):
            publish(bus, "orders", b"%d" % number)
            advance(bus, 1)
        feed = tail(bus, "orders", start=start)
        assert data(feed.poll(10)) == [b"%d" % number for number in range(first, 5)]
        assert start_offset(bus, bus.topic("orders").shards[0], start) == first

    def test_a_topic_that_appears_later_is_read_from_its_first_message(self, bus: Bus) -> None:
        feed = tail(bus, "orders/*")
        for topic in ("orders/new", "bills/new", "orders/old"):
            publish(bus, topic, topic.encode())
        assert sorted(data(feed.poll(10))) == [b"orders/new", b"orders/old"]

    def test_a_topic_that_another_process_makes_is_read_from_its_first_message(self, on_disk: OpenBus) -> None:
        here, there = on_disk(), on_disk()
        feed = tail(here, "orders/*")
        publish(there, "orders/new", b"first")
        advance(here, 1)
        here.hub.look()
        assert data(feed.poll(10)) == [b"first"]

    def test_a_topic_that_appears_while_subscribing_is_not_missed(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = module.matching

        def slow(bus: Bus, patterns: Sequence[Pattern]) -> list[Topic]:
            found = real(bus, patterns)
            monkeypatch.setattr(module, "matching", real)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(bus.create_topic, "orders/new", None).result(10)
            return found

        monkeypatch.setattr(module, "matching", slow)
        feed = tail(bus, "orders/*")
        publish(bus, "orders/new", b"x")
        assert data(feed.poll(10)) == [b"x"]

    def test_what_is_nacked_comes_again_to_this_one_alone(self, bus: Bus) -> None:
        feed, other = tail(bus, "orders"), tail(bus, "orders")
        publish(bus, "orders", b"a", b"b")
        (first, second), _ = feed.poll(10), other.poll(10)
        settle(feed, [first], "nack", 5.0)
        settle(feed, [second], "release")
        (again,) = feed.poll(10)
        assert (again.record.data, again.attempt) == (b"b", 1)
        assert feed.pause() == 5.0
        advance(bus, 5)
        assert feed.is_ready()
        (again,) = feed.poll(10)
        assert (again.record.data, again.attempt) == (b"a", 2)
        assert other.poll(10) == feed.poll(10) == []

    def test_what_retention_removed_is_counted(self, bus: Bus) -> None:
        bus.create_topic("orders", TopicOptions(retention_messages=10))
        feed = tail(bus, "orders")
        numbered(bus, 50)
        found: list[Message] = []
        while some := feed.poll(7):
            found += some
        assert data(found) == [b"%d" % number for number in range(feed.skipped, 50)]
        assert 0 < feed.skipped <= 40

    def test_after_a_drop_it_goes_on_with_the_new_topic(self, bus: Bus) -> None:
        feed = tail(bus, "orders")
        publish(bus, "orders", b"old")
        bus.drop_topic("orders")
        publish(bus, "orders", b"new")
        assert data(feed.poll(10))[-1:] == [b"new"]
        publish(bus, "orders", b"newer")
        assert data(feed.poll(10)) == [b"newer"]

    def test_closing_wakes_and_refuses(self, bus: Bus) -> None:
        feed = tail(bus, "orders")
        woken = []
        feed.waker = lambda: woken.append(1)
        feed.close()
        feed.close()
        assert woken == [1]
        for use in (lambda: feed.poll(1), feed.pause):
            with pytest.raises(Closed):
                use()


class TestGroup:
    def test_consumers_share_and_nothing_is_delivered_twice(self, bus: Bus) -> None:
        one, other = consumer(bus, "orders"), consumer(bus, "orders")
        numbered(bus, 10)
        found = [one.poll(3), other.poll(3), one.poll(3), other.poll(3)]
        assert [data(part) for part in found] == [[b"0", b"1", b"2"], [b"3", b"4", b"5"], [b"6", b"7", b"8"], [b"9"]]
        settle(one, found[0] + found[2], "ack")
        settle(other, found[1] + found[3], "ack")
        advance(bus, 10 * LEASE)
        assert one.poll(10) == other.poll(10) == []

    def test_acks_of_neighbours_are_one_range(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        feed = consumer(bus, "orders")
        publish(bus, "orders", *(b"%d" % number for number in range(20)))
        messages = feed.poll(20)
        settled: list[Range] = []
        real = bus.groups.settle

        def note(group: int, ranges: Sequence[Range], now: float, wait: float) -> list[tuple[int, int]]:
            settled.extend(ranges)
            return real(group, ranges, now, wait)

        monkeypatch.setattr(bus.groups, "settle", note)
        settle(feed, messages[:10], "ack")
        feed.settle([Settlement(message, "nack", 1.0 if at < 5 else 2.0) for at, message in enumerate(messages[10:])])
        assert [(part.first, part.last, part.action) for part in settled] == [
            (0, 9, "ack"),
            (10, 14, "nack"),
            (15, 19, "nack"),
        ]

    def test_a_lost_lease_is_named_and_the_others_are_settled(self, bus: Bus) -> None:
        one, other = consumer(bus, "orders"), consumer(bus, "orders")
        publish(bus, "orders", b"a", b"b")
        late = one.poll(1)
        advance(bus, LEASE + 1)
        taken = other.poll(1)
        assert data(late) == data(taken)
        assert taken[0].attempt == 2
        kept = one.poll(1)
        with pytest.raises(LeaseLost) as lost:
            settle(one, late + kept, "ack")
        assert (lost.value.topic, lost.value.offsets) == ("orders", (0,))
        settle(other, taken, "ack")
        info = bus.groups.describe("billing", "orders", {bus.topic("orders").shards[0].id: 2})
        assert info.lag == 0

    def test_repeating_an_ack_is_harmless_and_a_late_one_is_refused_each_time(self, bus: Bus) -> None:
        one, other = consumer(bus, "orders"), consumer(bus, "orders")
        publish(bus, "orders", b"a", b"b")
        acked, late = one.poll(1), one.poll(1)
        for _ in range(2):
            settle(one, acked, "ack")
        advance(bus, LEASE + 1)
        assert data(other.poll(1)) == [b"b"]
        for _ in range(2):
            with pytest.raises(LeaseLost):
                settle(one, late, "ack")

    def test_renewing_keeps_what_is_held(self, bus: Bus) -> None:
        one, other = consumer(bus, "orders"), consumer(bus, "orders")
        publish(bus, "orders", b"a")
        held = one.poll(1)
        assert one.renew_every == LEASE / 3
        for _ in range(6):
            advance(bus, LEASE / 3)
            one.renew()
            assert other.poll(1) == []
        settle(one, held, "ack")

    def test_a_consumer_that_closes_gives_back_at_once(self, bus: Bus) -> None:
        one, other = consumer(bus, "orders"), consumer(bus, "orders")
        numbered(bus, 3)
        assert len(one.poll(3)) == 3
        assert other.poll(3) == []
        one.close()
        assert other.is_ready(), "nobody told the other one"
        found = other.poll(3)
        assert [(message.record.data, message.attempt) for message in found] == [(b"0", 1), (b"1", 1), (b"2", 1)]
        with pytest.raises(Closed):
            one.poll(1)

    def test_it_sleeps_until_a_retry_is_due(self, bus: Bus) -> None:
        feed = consumer(bus, "orders")
        publish(bus, "orders", b"a")
        settle(feed, feed.poll(1), "nack", 7.0)
        assert feed.poll(1) == []
        assert feed.pause() == 7.0
        assert not feed.is_ready()
        advance(bus, 7)
        assert feed.is_ready()
        assert [message.attempt for message in feed.poll(1)] == [2]

    def test_a_lock_that_is_held_costs_nothing_but_another_try(self, on_disk: OpenBus) -> None:
        here, there = on_disk(), on_disk()
        feed = consumer(here, "orders")
        shard = here.topic("orders").shards[0].id
        acts: list[Callable[[], None]] = [
            lambda: publish(here, "orders", b"a"),
            lambda: here.groups.seek("billing", {shard: 0}),
        ]
        for act in acts:
            settle(feed, feed.poll(1), "ack")
            assert not feed.poll(1)
            act()
            here.announce_groups()
            with there.control.write(), pytest.raises(WouldBlock):
                feed.poll(1, 0.0)
            assert feed.is_ready()
            assert data(feed.poll(1, 0.0)) == [b"a"]

    def test_a_group_that_is_behind_skips_what_retention_removed(self, bus: Bus) -> None:
        bus.create_topic("orders", TopicOptions(retention_messages=10))
        feed = consumer(bus, "orders")
        held = []
        numbered(bus, 2)
        held += feed.poll(1)
        for _ in range(10):
            numbered(bus, 5)
        found: list[Message] = []
        while some := feed.poll(3):
            found += some
        offsets = [message.offset for message in found]
        assert offsets == list(range(offsets[0], 52))
        assert feed.skipped == offsets[0] - 1
        settle(feed, held + found, "ack")
        info = bus.groups.describe("billing", "orders", {bus.topic("orders").shards[0].id: 52})
        assert (info.lag, info.skipped) == (0, feed.skipped)

    def test_seeking_is_seen_by_who_is_attached(self, bus: Bus) -> None:
        feed = consumer(bus, "orders")
        numbered(bus, 5)
        settle(feed, feed.poll(10), "ack")
        assert feed.poll(10) == []
        bus.groups.seek("billing", {bus.topic("orders").shards[0].id: 3})
        bus.announce_groups()
        assert data(feed.poll(10)) == [b"3", b"4"]

    def test_what_is_claimed_and_cannot_be_read_goes_back_at_once(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed, other = consumer(bus, "orders"), consumer(bus, "orders")
        publish(bus, "orders", b"a", b"b")
        assert data(feed.poll(1)) == [b"a"]

        def busy(offset: int) -> None:
            raise BusBusy("a stopped process holds the lock")

        with monkeypatch.context() as patch:
            patch.setattr(bus.topic("orders").shards[0].log, "read", busy)
            with pytest.raises(BusBusy):
                feed.poll(1)
        assert [(message.record.data, message.attempt) for message in other.poll(10)] == [(b"b", 1)]

    def test_care_finds_what_a_process_did_that_died_before_it_could_tell(self, bus: Bus) -> None:
        feed = consumer(bus, "orders")
        publish(bus, "orders", b"a")
        settle(feed, feed.poll(1), "ack")
        assert feed.poll(1) == []
        bus.groups.seek("billing", {bus.topic("orders").shards[0].id: 0})
        bus.care()
        assert feed.is_ready()
        assert data(feed.poll(1)) == [b"a"]

    def test_a_dropped_group_delivers_nothing_any_more(self, bus: Bus) -> None:
        feed = consumer(bus, "orders")
        numbered(bus, 3)
        settle(feed, feed.poll(10), "ack")
        bus.groups.drop("billing")
        publish(bus, "orders", b"later")
        with pytest.raises((GroupNotFound, Closed)):
            feed.poll(10)
        assert bus.control.read("SELECT count(*) FROM cursors") == [(0,)], "a group that is gone has a place"

    def test_what_is_held_of_a_dropped_topic_is_lost_and_the_new_one_is_read(self, bus: Bus) -> None:
        feed = consumer(bus, "orders")
        publish(bus, "orders", b"old")
        held = feed.poll(1)
        bus.drop_topic("orders")
        publish(bus, "orders", b"new")
        with pytest.raises(LeaseLost):
            settle(feed, held, "ack")
        assert data(feed.poll(10)) == [b"new"]

    def test_a_group_without_a_consumer_collects_from_the_moment_it_is_made(self, bus: Bus) -> None:
        publish(bus, "orders", b"before")
        bind(bus, spec("orders", "bills/*", group="billing"))
        publish(bus, "orders", b"after")
        publish(bus, "bills/new", b"bill")
        feed = consumer(bus, "orders", "bills/*", start="beginning")
        assert sorted(data(feed.poll(10))) == [b"after", b"bill"]


def test_damage_is_told_after_what_is_readable_and_costs_no_attempt(on_disk: OpenBus, tmp_path: Path) -> None:
    bus = on_disk()
    numbered(bus, 10)
    (log,) = (tmp_path / "bus").rglob("00*.log")
    content = bytearray(log.read_bytes())
    content[content.index(b"\xf1TDB", content.index(b"id-0", 400)) + 45] ^= 1
    log.write_bytes(content)
    feed = consumer(on_disk(), "orders", start="beginning")
    before = data(feed.poll(100))
    assert before == [b"%d" % number for number in range(len(before))]
    assert 0 < len(before) < 9
    for _ in range(2):
        with pytest.raises(DamagedData) as damage:
            feed.poll(100)
    lost = len(before)
    assert damage.value.resume_offset == lost + 1
    assert damage.value.file == str(log)
    feed.bus.groups.seek("billing", {feed.bus.topic("orders").shards[0].id: lost + 1})
    feed.bus.announce_groups()
    found = feed.poll(100)
    assert [(message.offset, message.attempt) for message in found] == [(offset, 1) for offset in range(lost + 1, 10)]
