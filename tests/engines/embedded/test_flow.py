"""Topics with a bound: refusing, waiting for room, dropping the oldest, and never for groups that keep up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.conftest import wait_for
from tests.engines.stage import (
    LEASE,
    Buses,
    consumer,
    counts,
    data,
    everything,
    level,
    numbered,
    publish,
    records,
    settle,
    spec,
    stored,
    tail,
)
from tidings.engines.embedded import flow
from tidings.engines.embedded.bus import Bus, BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.engines.embedded.waking import hub
from tidings.errors import TopicFull
from tidings.model.message import Message
from tidings.model.options import Durability, Guarantee, Overflow, PublishOptions, TopicOptions
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock


class TestReject:
    @pytest.fixture(autouse=True)
    def bounded(self, one: Bus) -> None:
        one.create_topic("orders", TopicOptions(max_length=3))

    def test_without_a_group_there_is_no_bound(self, one: Bus) -> None:
        feed = tail(one, "orders")
        numbered(one, 10)
        assert len(everything(feed)) == 10

    def test_what_a_group_has_not_settled_counts(self, one: Bus, clock: ManualClock) -> None:
        """Not claimed, held, and waiting for a retry."""
        feed = consumer(one, "orders")
        numbered(one, 3)
        with pytest.raises(TopicFull, match="'billing'") as error:
            publish(one, "orders", "x")
        assert (error.value.topic, error.value.max_length, error.value.group) == ("orders", 3, "billing")
        found = feed.poll(2)
        with pytest.raises(TopicFull):
            publish(one, "orders", "x")
        settle(feed, found[:1], "nack", 5.0)
        with pytest.raises(TopicFull):
            publish(one, "orders", "x")
        settle(feed, found[1:], "ack")
        publish(one, "orders", "x")
        with pytest.raises(TopicFull):
            publish(one, "orders", "y")
        assert stored(one, "orders") == ["0", "1", "2", "x"]

    def test_the_slowest_group_counts(self, one: Bus) -> None:
        fast, _ = consumer(one, "orders", group="fast"), consumer(one, "ord*", group="slow")
        numbered(one, 3)
        settle(fast, fast.poll(3), "ack")
        with pytest.raises(TopicFull) as error:
            publish(one, "orders", "x")
        assert error.value.group == "slow"
        one.groups.drop("slow")
        publish(one, "orders", "x")

    def test_all_partitions_and_priorities_count_together(self, one: Bus) -> None:
        one.create_topic("many", TopicOptions(max_length=4, partitions=2))
        consumer(one, "many")
        for priority in (0, 5, 5, 9):
            publish(one, "many", "x", priority=priority)
        with pytest.raises(TopicFull):
            publish(one, "many", "x", priority=9)

    def test_a_batch_is_taken_whole_or_not_at_all(self, one: Bus) -> None:
        consumer(one, "orders")
        publish(one, "orders", "a", "b")
        with pytest.raises(TopicFull):
            publish(one, "orders", "c", "d")
        publish(one, "orders", "c")
        with pytest.raises(TopicFull):
            publish(one, "orders", *"0123")
        assert stored(one, "orders") == ["a", "b", "c"]

    def test_other_topics_of_the_group_do_not_count(self, one: Bus) -> None:
        consumer(one, "orders", "bills")
        numbered(one, 10, "bills")
        numbered(one, 3)
        assert counts(one) == {"lag": 3}

    @pytest.mark.parametrize("action", ["ack", "reject", "expire"])
    def test_whatever_ends_a_message_makes_room(self, one: Bus, action: str) -> None:
        feed = consumer(one, "orders")
        numbered(one, 3)
        settle(feed, feed.poll(1), action)
        publish(one, "orders", "x")
        assert stored(one, "orders") == ["0", "1", "2", "x"]

    def test_what_expires_unread_makes_room_when_somebody_comes_to_it(self, one: Bus, clock: ManualClock) -> None:
        feed = consumer(one, "orders")
        for number in range(3):
            one.append("orders", records(f"{number}", ttl_until=clock.now() + 5), level())
        clock.advance(5)
        assert feed.poll(5) == []
        publish(one, "orders", "x")

    def test_a_bound_that_is_altered_holds_at_once(self, open_bus: Buses) -> None:
        here = open_bus.opened[0]
        there = open_bus.open() if open_bus.folder else here
        consumer(here, "orders")
        numbered(there, 3)
        here.catalog.alter("orders", TopicOptions(max_length=4))
        here.hub.announce_change(0)
        there.catalog.refresh()
        publish(there, "orders", "x")
        with pytest.raises(TopicFull):
            publish(there, "orders", "x")

    def test_a_group_that_is_dropped_while_it_is_looked_at_wants_no_room(
        self, one: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = one.groups.bindings
        monkeypatch.setattr(one.groups, "bindings", lambda: {"gone": ["orders"], **real()})
        publish(one, "orders", "x")
        assert stored(one, "orders") == ["x"]

    def test_what_another_process_published_with_another_priority_counts(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        here.create_topic("orders", TopicOptions(max_length=3))
        consumer(here, "orders")
        there.catalog.refresh()
        publish(there, "orders", "a", "b", "c", priority=9)
        here.catalog.refresh()
        with pytest.raises(TopicFull):
            publish(here, "orders", "x")


class TestDropOldest:
    def make(self, bus: Bus, length: int = 3, **options: Any) -> None:
        bus.create_topic("orders", TopicOptions(max_length=length, overflow=Overflow.DROP_OLDEST, **options))

    def test_the_oldest_unread_are_skipped_and_counted(self, one: Bus) -> None:
        self.make(one)
        feed = consumer(one, "orders")
        numbered(one, 10)
        assert counts(one) == {"lag": 3, "skipped": 7}
        found = everything(feed)
        assert (data(found), feed.skipped) == (["7", "8", "9"], 0)

    def test_a_group_that_keeps_up_loses_nothing(self, one: Bus) -> None:
        self.make(one)
        fast, slow = consumer(one, "orders", group="fast"), consumer(one, "orders", group="slow")
        found: list[str] = []
        for number in range(10):
            numbered(one, 1, first=number)
            some = fast.poll(10)
            settle(fast, some, "ack")
            found += data(some)
        assert found == [f"{number}" for number in range(10)]
        assert data(everything(slow)) == ["7", "8", "9"]

    def test_what_is_held_is_not_dropped(self, one: Bus) -> None:
        self.make(one)
        feed = consumer(one, "orders")
        numbered(one, 3)
        held = feed.poll(2)
        numbered(one, 4, first=3)
        assert counts(one)["lag"] == 3
        settle(feed, held, "ack")
        assert data(everything(feed)) == ["6"]

    def test_when_everything_is_held_a_publisher_may_exceed_it(self, one: Bus) -> None:
        self.make(one)
        feed = consumer(one, "orders")
        numbered(one, 3)
        held = feed.poll(3)
        numbered(one, 2, first=3)
        assert (len(held), counts(one)) == (3, {"lag": 4, "skipped": 1})
        assert data(everything(feed)) == ["4"]

    @pytest.mark.parametrize("partitions", [1, 3])
    def test_the_oldest_of_all_partitions_and_priorities_go(self, one: Bus, partitions: int) -> None:
        self.make(one, 5, partitions=partitions)
        feed = consumer(one, "orders")
        for number in range(30):
            publish(one, "orders", f"{number}", priority=(5, 9, 0)[number % 3])
        assert data(everything(feed)) == [f"{number}" for number in range(25, 30)]

    def test_part_of_a_batch_can_go(self, one: Bus) -> None:
        self.make(one, 5)
        feed = consumer(one, "orders")
        publish(one, "orders", *"abcd")
        publish(one, "orders", *"efgh")
        assert data(everything(feed)) == [*"defgh"]

    def test_a_batch_that_is_larger_than_the_topic_is_stored(self, one: Bus) -> None:
        self.make(one)
        feed = consumer(one, "orders")
        numbered(one, 2)
        publish(one, "orders", *map(str, range(2, 9)))
        assert data(everything(feed)) == [f"{number}" for number in range(2, 9)]


@pytest.fixture
def look_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks around now and then, and would find the room that nobody told him of: here, never."""
    monkeypatch.setattr(hub, "LOOK_SECONDS", 0.02 if "by_looking" in request.node.name else 1000.0)


@pytest.mark.usefixtures("look_seconds")
class TestBlock:
    """A publisher that waits is woken by whatever makes room, at once."""

    OPTIONS = TopicOptions(max_length=2, overflow=Overflow.BLOCK, overflow_timeout=600)

    def engine(self, buses: Buses) -> EmbeddedEngine:
        path = str(buses.folder) if buses.folder else ""
        engine = EmbeddedEngine(path, BusOptions(lease_seconds=LEASE), memory=buses.folder is None, clock=buses.clock)
        buses.opened.append(engine)  # type: ignore[arg-type]
        return engine

    def wait_for_room(self, engine: EmbeddedEngine, make: Callable[[], object]) -> None:
        """Publish in a thread; it waits until `make` has made room."""
        options = PublishOptions(engine.default_durability)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                engine.publish("orders", records("waited"), options)
            except BaseException as error:
                errors.append(error)

        publisher = threading.Thread(target=run, daemon=True)
        publisher.start()
        wait_for(lambda: [feed for feed in engine.bus.hub._feeds if type(feed) is flow.Vacancy and feed.waker])
        make()
        publisher.join(10)
        assert not publisher.is_alive(), "nobody woke the publisher"
        if errors:
            raise errors[0]
        assert stored(engine.bus, "orders").count("waited") == 1

    def acts(self, bus: Bus, feed: Any, clock: ManualClock) -> dict[str, Callable[[], object]]:
        def fetch_expired() -> None:
            clock.advance(100)
            feed.poll(5)

        def commit() -> None:
            feed.commit([Settlement(feed.poll(1)[0], "ack")], [], Durability.OS)

        def drop_group() -> None:
            bus.groups.drop("billing")
            bus.announce_groups()

        def seek() -> None:
            bus.groups.seek("billing", {bus.topic("orders").shards[0].id: 2}, 0.0)
            bus.announce_groups()

        def nack_for_the_last_time() -> None:
            settle(feed, feed.poll(1), "nack")

        return {
            "ack": lambda: settle(feed, feed.poll(1), "ack"),
            "reject": lambda: settle(feed, feed.poll(1), "reject"),
            "exhaust": nack_for_the_last_time,
            "expire": fetch_expired,
            "commit": commit,
            "drop_group": drop_group,
            "seek": seek,
        }

    NAMES = ("ack", "reject", "exhaust", "expire", "commit", "drop_group", "seek")

    @pytest.mark.parametrize("name", NAMES)
    def test_by_what_happens_here(self, open_bus: Buses, name: str) -> None:
        engine = self.engine(open_bus)
        bus = engine.bus
        bus.create_topic("orders", replace(self.OPTIONS, max_retries=0, message_ttl=50))
        feed = consumer(bus, "orders")
        numbered(bus, 2)
        self.wait_for_room(engine, self.acts(bus, feed, open_bus.clock)[name])

    @pytest.mark.parametrize("name", NAMES)
    def test_by_what_another_process_does(self, on_disk: Buses, name: str) -> None:
        engine, there = self.engine(on_disk), on_disk.open()
        there.create_topic("orders", replace(self.OPTIONS, max_retries=0, message_ttl=50))
        feed = consumer(there, "orders")
        numbered(there, 2)
        engine.bus.catalog.refresh()
        self.wait_for_room(engine, self.acts(there, feed, on_disk.clock)[name])

    def test_by_a_claim_where_nothing_is_acked(self, open_bus: Buses) -> None:
        engine = self.engine(open_bus)
        bus = engine.bus
        bus.create_topic("orders", replace(self.OPTIONS, delivery=Guarantee.AT_MOST_ONCE))
        feed = consumer(bus, "orders")
        numbered(bus, 2)
        self.wait_for_room(engine, lambda: feed.poll(1))

    @pytest.mark.parametrize("options", [{"max_length": 5}, {"max_length": None}, {"overflow": "drop_oldest"}])
    def test_other_options_are_found_by_looking_around(self, open_bus: Buses, options: dict[str, Any]) -> None:
        engine = self.engine(open_bus)
        engine.create_topic("orders", self.OPTIONS)
        consumer(engine.bus, "orders")
        numbered(engine.bus, 2)
        self.wait_for_room(engine, lambda: engine.alter_topic("orders", replace(self.OPTIONS, **options)))

    def test_a_drop_is_found_by_looking_around(self, open_bus: Buses) -> None:
        engine = self.engine(open_bus)
        engine.create_topic("orders", self.OPTIONS)
        consumer(engine.bus, "orders")
        numbered(engine.bus, 2)
        self.wait_for_room(engine, lambda: engine.drop_topic("orders"))

    def test_many_publishers_share_the_room(self, open_bus: Buses) -> None:
        engine = self.engine(open_bus)
        engine.create_topic("orders", self.OPTIONS)
        feed = engine.subscribe(spec("orders", group="billing"), Message)
        options = PublishOptions(engine.default_durability)

        def run(number: int) -> None:
            for at in range(10):
                engine.publish("orders", records(f"{number}-{at}"), options)

        publishers = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
        for publisher in publishers:
            publisher.start()
        found: list[str] = []
        while len(found) < 40:
            some = feed.fetch(10, 10)
            assert some, "a publisher was left sleeping"
            assert engine.groups("orders")[0].lag <= 2 + 4, "by no more than what each stores at once"
            feed.settle([Settlement(message, "ack") for message in some])
            found += data(some)
        for publisher in publishers:
            publisher.join(10)
        assert len(set(found)) == 40

    def test_for_so_long_and_no_longer(self, open_bus: Buses) -> None:
        engine = self.engine(open_bus)
        engine.create_topic("orders", replace(self.OPTIONS, overflow_timeout=0.05))
        consumer(engine.bus, "orders")
        numbered(engine.bus, 2)
        with pytest.raises(TopicFull):
            engine.publish("orders", records("x"), PublishOptions(engine.default_durability))
        assert [feed for feed in engine.bus.hub._feeds if isinstance(feed, flow.Vacancy)] == []
        assert stored(engine.bus, "orders") == ["0", "1"]


def test_a_dead_consumer_s_group_makes_no_room_until_it_is_dropped(on_disk: Buses) -> None:
    here, there = on_disk.open(), on_disk.open()
    here.create_topic("orders", TopicOptions(max_length=1))
    consumer(there, "orders")
    publish(here, "orders", "x")
    on_disk.kill(there)
    here.bury()
    with pytest.raises(TopicFull):
        publish(here, "orders", "y")


def test_vacancies_are_woken_by_room_and_nothing_else(one: Bus) -> None:
    vacancy, woken = flow.Vacancy(), list[int]()
    vacancy.waker = lambda: woken.append(1)
    one.hub.add(vacancy)
    publish(one, "orders", "x")
    assert (vacancy.is_ready(), woken) == (False, [])
    vacancy.stir()
    assert (vacancy.is_ready(), woken) == (True, [1])
    vacancy.again()
    assert not vacancy.is_ready()
    one.hub.remove(vacancy, ())
