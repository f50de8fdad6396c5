"""Staged messages reach their logs when they are due, whatever fails, is dropped or taken back meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest

from tests.engines.stage import (
    Buses,
    Died,
    consumer,
    data,
    killed_at,
    level,
    outputs,
    publish,
    records,
    rows,
    run,
    stage,
    stored,
    tail,
)
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import GroupSync
from tidings.engines.embedded.pump import FINISH_ROWS, MOVE_ROWS, STAGED
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.errors import BusBusy, PublishFailed, PublishUnknown, SchemaMismatch, StorageFull
from tidings.model.options import Durability, Guarantee, TopicOptions
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock


class TestFailing:
    def busy(self, *_: object, **__: object) -> Any:
        raise BusBusy("a stopped process holds the lock")

    @pytest.mark.parametrize("error", [BusBusy("x"), StorageFull("x"), PublishFailed("x"), OSError(errno.EIO, "x")])
    def test_what_cannot_be_appended_is_left_to_whoever_looks_next(self, on_disk: Buses, error: Exception) -> None:
        here, there = on_disk.open(), on_disk.open()
        stage(here, "out", "a")

        def fail(*_: object) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here, "store", fail)
            run(here)
            assert rows(here) == [("out", None)]
            assert here.pump.due == on_disk.clock.monotonic() + LOOK_SECONDS, "it is not tried again at once"
        run(there)
        assert (stored(here, "out"), rows(here)) == (["a"], [])

    def test_one_log_that_cannot_be_written_does_not_hold_up_the_others(self, one: Bus) -> None:
        stage(one, "a", "1", "2")
        stage(one, "b", "3")
        stage(one, "c", "4")
        real = one.store

        def fail(shard: Any, *rest: Any) -> Any:
            return self.busy() if shard.topic == "b" else real(shard, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one, "store", fail)
            run(one)
            assert (stored(one, "a"), stored(one, "c")) == (["1", "2"], ["4"])
        run(one)
        run(one)
        assert (stored(one, "a"), stored(one, "b"), stored(one, "c")) == (["1", "2"], ["3"], ["4"])
        assert rows(one) == []

    def test_what_cannot_even_be_let_go_is_let_go_later(self, one: Bus, clock: ManualClock) -> None:
        """The mover lives: nobody else would take it from him."""
        feed = tail(one, "out")
        stage(one, "out", "a")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one, "store", self.busy)
            patch.setattr(one.outbox, "let_go", self.busy)
            run(one)
        found: list[str] = []
        for _ in range(3):
            clock.advance(LOOK_SECONDS)
            found += data(feed.poll(5))
        assert (found, rows(one)) == (["a"], [])

    def test_a_sync_that_failed_once_is_made_up_for(self, on_disk: Buses) -> None:
        bus = on_disk.open()
        stage(bus, "out", "a")
        real, failed = os.fdatasync, list[int]()

        def fail(fd: int) -> None:
            if not failed and os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
                failed.append(fd)
                raise OSError(errno.EIO, "Input/output error")
            real(fd)

        publish(bus, "out", "before")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            run(bus)
            run(bus)
        assert failed
        assert rows(bus) == [], "it waits for somebody to publish there again"
        stage(bus, "out", "b")
        run(bus)
        assert (stored(bus, "out"), rows(bus)) == (["before", "a", "b"], [])

    def test_a_log_that_cannot_be_synced_keeps_its_rows_and_holds_up_no_others(self, on_disk: Buses) -> None:
        bus = on_disk.open()
        for topic in ("bad", "good"):
            publish(bus, topic, "before")
        bad = bus.topic("bad").shards[0].log
        stage(bus, "bad", "a")
        stage(bus, "good", "b")

        def unknown(point: object = None) -> None:
            raise PublishUnknown("the disk is broken")

        with pytest.MonkeyPatch.context() as patch:
            for name in ("sync", "secure"):
                patch.setattr(bad, name, unknown)
            for _ in range(3):
                run(bus)
            assert stored(bus, "good") == ["before", "b"]
            assert [topic for topic, _ in rows(bus)] == ["bad"], "it may be lost with the power: its row is kept"
            stage(bus, "good", "c")
            run(bus)
            assert stored(bus, "good") == ["before", "b", "c"]
        run(bus)
        assert (stored(bus, "bad"), rows(bus)) == (["before", "a"], [])

    def test_a_row_that_cannot_be_moved_is_tried_now_and_then(self, on_disk: Buses) -> None:
        """A drop that broke off half-way left a topic that cannot be written to: the others go on, and nobody is kept
        busy by it."""
        here, there = on_disk.open(), on_disk.open()
        publish(here, "half", "before")
        stage(here, "half", "a")
        stage(here, "out", "b")
        real = FileLog.drop

        def break_off(log: FileLog) -> None:
            real(log)
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FileLog, "drop", break_off)
            with pytest.raises(Died):
                there.drop_topic("half")
        run(here)
        assert stored(here, "out") == ["b"]
        assert here.pump.due - on_disk.clock.monotonic() == pytest.approx(LOOK_SECONDS)
        there.drop_topic("half")
        assert rows(here) == []


class TestDrops:
    def test_what_waits_for_a_topic_goes_with_it(self, one: Bus) -> None:
        stage(one, "out", "a", due=1e15)
        one.topic("out")
        one.drop_topic("out")
        assert rows(one) == []

    def test_a_topic_that_is_gone_is_made_anew(self, one: Bus) -> None:
        stage(one, "out", "a")
        run(one)
        assert (stored(one, "out"), rows(one)) == (["a"], [])

    def test_one_that_is_dropped_between_taking_and_storing_takes_no_others_along(self, on_disk: Buses) -> None:
        """What another mover has stored already is still looked for where it may be."""
        here, dead = on_disk.open(), on_disk.open()
        stage(here, "kept", "k", due=2.0)
        with killed_at(on_disk, dead, "bus store after"):
            run(dead)
        here.bury()
        here.topic("gone")
        stage(here, "gone", "g", due=1.0)
        real, calls = here.store, list[str]()

        def store(shard: Any, *rest: Any) -> Any:
            calls.append(shard.topic)
            if calls == ["gone"]:
                raise LogGone
            return real(shard, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here, "store", store)
            run(here)
            run(here)
        assert (stored(here, "kept"), stored(here, "gone"), rows(here)) == (["k"], ["g"], [])

    def test_what_was_moved_into_a_topic_that_is_gone_needs_no_sync(self, on_disk: Buses) -> None:
        """Nobody is kept from moving by a log that cannot be synced any more."""
        bus = on_disk.open()
        feed, later = consumer(bus, "orders"), tail(bus, "later")
        publish(bus, "orders", "a")
        (message,) = feed.poll(1)
        feed.commit([Settlement(message, "ack")], outputs("out", "1"), Durability.OS)
        bus.drop_topic("out")
        stage(bus, "later", "x")
        run(bus)
        assert (data(later.poll(5)), rows(bus)) == (["x"], [])

    def test_a_row_that_was_tried_on_a_topic_that_was_made_again_is_stored_there(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        here.topic("out")
        (number,) = stage(here, "out", "a", mover=99, shard=12345, floor=7)
        there.bury()
        assert rows(here) == [("out", None)]
        run(there)
        assert (stored(here, "out"), rows(here), number) == (["a"], [], number)


class TestFinishing:
    def test_rows_of_transactions_are_removed_many_at_a_time(self, on_disk: Buses) -> None:
        """One sync serves for all of them; each commit takes along what those before it have moved."""
        bus = on_disk.open()
        feed = consumer(bus, "orders")
        syncs: list[int] = []
        real = GroupSync.wait
        with pytest.MonkeyPatch.context() as patch:

            def wait(sync: GroupSync, point: Any) -> None:
                syncs.append(len(rows(bus)))
                real(sync, point)

            patch.setattr(GroupSync, "wait", wait)
            for number in range(2 * FINISH_ROWS + 5):
                publish(bus, "orders", f"{number}")
                bus.hub.look()
                bus.pump.due = 1e18  # nobody moves anything meanwhile
                (message,) = feed.poll(1)
                feed.commit([Settlement(message, "ack")], outputs("out", f"{number}"), Durability.OS)
        assert syncs == [FINISH_ROWS] * 2
        assert len(rows(bus)) == 5
        run(bus)
        assert (rows(bus), len(stored(bus, "out"))) == ([], 2 * FINISH_ROWS + 5)

    def test_what_a_commit_could_not_remove_is_removed_later(self, one: Bus) -> None:
        feed = consumer(one, "orders")
        publish(one, "orders", "a", "b")
        first, second = feed.poll(2)
        feed.commit([Settlement(first, "ack")], outputs("out", *map(str, range(FINISH_ROWS))), Durability.OS)
        with pytest.MonkeyPatch.context() as patch:

            def busy(*_: object) -> None:
                raise BusBusy("x")

            patch.setattr(one.claims, "commit", busy)
            with pytest.raises(BusBusy):
                feed.commit([Settlement(second, "ack")], outputs("out", "lost"), Durability.OS)
        assert len(rows(one)) == FINISH_ROWS
        run(one)
        assert (rows(one), len(stored(one, "out"))) == ([], FINISH_ROWS)

    def test_closing_finishes(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        feed = consumer(there, "orders")
        publish(here, "orders", "a")
        (message,) = feed.poll(1)
        feed.commit([Settlement(message, "ack")], outputs("out", "1"), Durability.OS)
        assert len(rows(here)) == 1
        feed.close()
        there.close()
        on_disk.opened.remove(there)
        assert (rows(here), stored(here, "out")) == ([], ["1"])


class TestWhenAndWhat:
    def test_only_what_is_due_and_those_due_first_at_the_front(self, one: Bus, clock: ManualClock) -> None:
        now = clock.now()
        for number in (3, 1, 2, 9):
            stage(one, "out", f"{number}", due=now + number)
        clock.advance(3)
        run(one)
        assert stored(one, "out") == ["1", "2", "3"]
        clock.advance(6)
        run(one)
        assert stored(one, "out") == ["1", "2", "3", "9"]

    def test_more_than_fit_into_one_go(self, one: Bus) -> None:
        stage(one, "out", *map(str, range(2 * MOVE_ROWS + 10)))
        run(one)
        assert stored(one, "out") == [f"{number}" for number in range(2 * MOVE_ROWS + 10)]
        assert rows(one) == []

    def test_a_record_comes_out_as_it_went_in(self, one: Bus, clock: ManualClock) -> None:
        (record,) = records("x", key="k", ttl_until=clock.now() + 50)
        record.headers = {"a": "b"}
        one.outbox.add([Entry(topic="out", record=record, priority=9)], 1.0, False)
        feed = tail(one, "out")
        clock.advance(1)
        (message,) = [*feed.poll(5), *feed.poll(5)]
        assert (message.id, message.key, message.headers, message.priority) == (record.id, "k", {"a": "b"}, 9)
        assert message.expires_at == clock.now() + 49
        assert message.published_at == pytest.approx(clock.now(), abs=0.01), "it was published when it was due"
        assert set(message.record.extra or ()) == {"expires", STAGED}

    def test_a_repetition_is_stored_once_in_an_exactly_once_topic(self, one: Bus) -> None:
        one.create_topic("out", TopicOptions(delivery=Guarantee.EXACTLY_ONCE))
        (record,) = records("x")
        entries = [Entry(topic="out", record=record, priority=5) for _ in range(3)]
        one.append("out", [record], level())
        one.outbox.add(entries, 1.0, False)
        run(one)
        assert (stored(one, "out"), rows(one)) == (["x"], [])

    def test_what_was_accepted_is_stored_whatever_the_topic_says_by_then(self, one: Bus) -> None:
        """It had room and fitted when it was scheduled."""
        consumer(one, "out")
        one.schedule("out", records("a", "b"), level(at=one.clock.now() + 5), 1.0)
        one.catalog.alter("out", TopicOptions(max_length=1, schema={"x": "INT"}))
        stage(one, "out", "c")
        run(one)
        assert stored(one, "out") == ["c"]
        with pytest.raises(SchemaMismatch):
            one.schedule("out", records("d"), level(at=one.clock.now() + 5), 1.0)
        assert one.outbox.scheduled("out") == 2

    def test_one_of_many_moves(self, on_disk: Buses) -> None:
        buses = [on_disk.open() for _ in range(3)]
        stage(buses[0], "out", *map(str, range(300)))
        threads = [threading.Thread(target=run, args=(bus,)) for bus in buses for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for bus in buses:
            run(bus)
        assert sorted(map(int, stored(buses[0], "out"))) == list(range(300))
        assert rows(buses[0]) == []


class TestLooking:
    @pytest.mark.parametrize(("ahead", "expected"), [(0.1, 0.1), (100.0, LOOK_SECONDS), (None, LOOK_SECONDS)])
    def test_it_looks_again_when_something_is_due_or_now_and_then(
        self, one: Bus, clock: ManualClock, ahead: float | None, expected: float
    ) -> None:
        if ahead is not None:
            stage(one, "out", "a", due=clock.now() + ahead)
        run(one)
        assert one.pump.due - clock.monotonic() == pytest.approx(expected)

    def test_a_clock_that_was_set_back_makes_it_wait_and_forward_makes_it_due(
        self, one: Bus, clock: ManualClock
    ) -> None:
        stage(one, "out", "a", due=clock.now() + 100)
        clock.jump(-1000)
        run(one)
        assert stored(one, "out") == []
        clock.jump(1100)
        assert one.pump.due == 0.0, "the hands were turned"
        one.pump.run()
        assert stored(one, "out") == ["a"]

    def test_with_nothing_to_move_it_never_waits(self, one: Bus, clock: ManualClock) -> None:
        one.pump.hurry()
        one.pump.run(0.0)
        stage(one, "out", "a", due=clock.now() + 1)
        one.pump.hurry()
        one.pump.run(0.0)
        clock.advance(1)
        with pytest.raises(WouldBlock):
            one.pump.run(0.0)

    def test_what_another_process_stages_is_told(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        run(here)
        assert here.pump.due > on_disk.clock.monotonic()
        there.schedule("out", records("a"), level(at=on_disk.clock.now() + 0.2), 1.0)
        here.hub.look()
        assert here.pump.due == 0.0

    def test_while_one_thread_moves_the_others_go_on(self, one: Bus) -> None:
        stage(one, "out", "a")
        moving, may_go = threading.Event(), threading.Event()
        real = one.store

        def slow(*arguments: Any) -> Any:
            moving.set()
            assert may_go.wait(10)
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one, "store", slow)
            mover = threading.Thread(target=run, args=(one,))
            mover.start()
            assert moving.wait(10)
            one.pump.run()
            may_go.set()
            mover.join(10)
        assert stored(one, "out") == ["a"]


class TestCancelling:
    def test_a_scheduled_message_is_taken_back(self, one: Bus, clock: ManualClock) -> None:
        receipts = one.schedule("out", records("a", "b"), level(at=clock.now() + 5), 1.0)
        assert [(r.partition, r.offset, r.scheduled is not None) for r in receipts] == [(-1, -1, True)] * 2
        number = receipts[0].scheduled
        assert number is not None
        assert one.outbox.cancel(number, "out", receipts[0].message_id)
        clock.advance(5)
        run(one)
        assert stored(one, "out") == ["b"]

    def test_either_it_is_cancelled_or_it_is_delivered(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        receipts = here.schedule("out", records(*map(str, range(60))), level(at=on_disk.clock.now() + 1), 1.0)
        on_disk.clock.advance(1)
        taken_back: list[str] = []

        def cancel() -> None:
            for receipt in reversed(receipts):
                assert receipt.scheduled is not None
                if there.outbox.cancel(receipt.scheduled, "out", receipt.message_id):
                    taken_back.append(receipt.message_id)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        run(here)
        canceller.join(30)
        run(here)
        ids = {receipt.message_id: number for number, receipt in enumerate(receipts)}
        delivered = set(map(int, stored(here, "out")))
        assert delivered.isdisjoint(ids[each] for each in taken_back)
        assert len(delivered) + len(taken_back) == 60
