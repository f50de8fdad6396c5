"""Staged messages: rows that commit with whatever they belong to, and are taken by one mover at a time."""

from __future__ import annotations

import pytest

from tests.engines.embedded.control.desk import SHARD, Desk, entry
from tidings.engines.embedded.control.outbox import Outbox, Staged
from tidings.model.message import Record

SLOT, PEER = 3, 4


def place(row: Staged, shard: int = SHARD, floor: int = 0) -> Staged:
    """Say where the row is to be moved to, if nobody has."""
    if not row.tried:
        row.shard, row.floor = shard, floor
    return row


def ids(desk: Desk, now: float = 1e18) -> list[int]:
    return [row.id for row in desk.outbox.due(now, 1000)]


def test_a_record_comes_back_as_it_went_in(desk: Desk) -> None:
    record = Record("id", "type", b"\x00data", "key", {"name": "value"}, {"expires": 5.5})
    given = entry("x", topic="out", due=7.0)
    given.record, given.priority = record, 8
    (number,) = desk.outbox.add([given], 0, False)
    (row,) = desk.outbox.due(7.0, 10)
    assert row == Staged(
        id=number, topic="out", priority=8, record=record, due=7.0, shard=None, floor=None, tried=False
    )


def stage_and_fail(desk: Desk) -> None:
    with desk.control.write() as run:
        Outbox.stage(run, [entry("a")])
        raise KeyError


def test_staging_is_part_of_a_transaction(desk: Desk) -> None:
    with pytest.raises(KeyError):
        stage_and_fail(desk)
    assert ids(desk) == []
    with desk.control.write() as run:
        numbers = Outbox.stage(run, [entry("a"), entry("b")])
    assert ids(desk) == numbers


def test_those_due_first_are_at_the_front_and_others_wait(desk: Desk) -> None:
    assert desk.outbox.next_due() is None
    numbers = desk.outbox.add(
        [entry("c", due=30.0), entry("a", due=10.0), entry("b", due=20.0), entry("a2", due=10.0)], 0, False
    )
    assert desk.outbox.next_due() == 10.0
    assert ids(desk, 9.99) == []
    assert ids(desk, 10.0) == [numbers[1], numbers[3]]
    assert ids(desk, 99.0) == [numbers[1], numbers[3], numbers[2], numbers[0]]
    assert [row.id for row in desk.outbox.due(99.0, 2)] == [numbers[1], numbers[3]]


class TestTaking:
    def test_one_of_many_takes_a_row(self, desk: Desk) -> None:
        desk.outbox.add([entry("a"), entry("b")], 0, False)
        mine, theirs = desk.outbox.due(1.0, 1), desk.outbox.due(1.0, 2)
        assert [row.record.data for row in desk.outbox.take(SLOT, [place(row) for row in mine])] == [b"a"]
        assert [row.record.data for row in desk.outbox.take(PEER, [place(row) for row in theirs])] == [b"b"]
        assert (ids(desk), desk.outbox.next_due()) == ([], None)

    def test_a_row_that_was_let_go_keeps_where_to_look(self, desk: Desk) -> None:
        desk.outbox.add([entry("a")], 0, False)
        (row,) = desk.outbox.take(SLOT, [place(row, SHARD, 17) for row in desk.outbox.due(1.0, 1)])
        desk.outbox.let_go([row.id])
        (again,) = desk.outbox.due(1.0, 1)
        assert (again.tried, again.shard, again.floor) == (True, SHARD, 17)
        assert desk.outbox.take(PEER, [again]) == [again]

    def test_a_row_that_was_tried_meanwhile_is_not_taken_by_who_thinks_it_was_not(self, desk: Desk) -> None:
        """It may be in a log already: who takes it has to look there."""
        desk.outbox.add([entry("a")], 0, False)
        (stale,) = desk.outbox.due(1.0, 1)
        (row,) = desk.outbox.take(SLOT, [place(row) for row in desk.outbox.due(1.0, 1)])
        desk.outbox.let_go([row.id])
        assert desk.outbox.take(PEER, [place(stale)]) == []
        assert len(ids(desk)) == 1

    def test_a_row_whose_place_was_forgotten_meanwhile_is_not_taken_by_who_would_look_there(self, desk: Desk) -> None:
        desk.outbox.add([entry("a", mover=SLOT, shard=SHARD, floor=1)], 0, False)
        number = desk.control.read("SELECT id FROM staged")[0][0]
        desk.outbox.let_go([number])
        (stale,) = desk.outbox.due(1.0, 1)
        desk.outbox.let_go([number], forget=True)
        assert desk.outbox.take(PEER, [stale]) == []
        (row,) = desk.outbox.due(1.0, 1)
        assert (row.tried, row.shard, row.floor) == (False, None, None)

    def test_a_row_that_is_gone_is_not_taken(self, desk: Desk) -> None:
        numbers = desk.outbox.add([entry("a")], 0, False)
        rows = desk.outbox.due(1.0, 1)
        desk.outbox.finish(numbers)
        assert desk.outbox.take(SLOT, [place(row) for row in rows]) == []


class TestCancelling:
    def test_what_nobody_moves_is_taken_back_once(self, desk: Desk) -> None:
        (number,) = desk.outbox.add([entry("a", due=9.0)], 0, True)
        assert desk.outbox.cancel(number, "out", "id-a")
        assert not desk.outbox.cancel(number, "out", "id-a")
        assert ids(desk) == []

    @pytest.mark.parametrize(("topic", "message_id"), [("other", "id-a"), ("out", "id-b")])
    def test_a_receipt_of_something_else_takes_nothing_back(self, desk: Desk, topic: str, message_id: str) -> None:
        """Such as one of another bus, whose numbers are the same."""
        (number,) = desk.outbox.add([entry("a", due=9.0)], 0, True)
        assert not desk.outbox.cancel(number, topic, message_id)
        assert not desk.outbox.cancel(number + 1, "out", "id-a")
        assert ids(desk) == [number]

    def test_what_somebody_has_begun_to_move_is_not_taken_back(self, desk: Desk) -> None:
        desk.outbox.add([entry("a", due=0.5)], 0, True)
        (row,) = desk.outbox.take(SLOT, [place(row) for row in desk.outbox.due(1.0, 1)])
        assert not desk.outbox.cancel(row.id, "out", "id-a")
        desk.outbox.let_go([row.id])
        assert not desk.outbox.cancel(row.id, "out", "id-a"), "it may be in the log already"
        desk.outbox.let_go([row.id], forget=True)
        assert desk.outbox.cancel(row.id, "out", "id-a")


def test_scheduled_counts_what_waits_for_a_time(desk: Desk) -> None:
    desk.outbox.add([entry("a", due=5.0), entry("b"), entry("c", topic="other", due=5.0)], 0, False)
    assert [desk.outbox.scheduled(topic) for topic in ("out", "other", "none")] == [1, 1, 0]


def test_a_repetition_of_what_waits_is_the_same_message(desk: Desk) -> None:
    first = desk.outbox.add_once([entry("a", due=7.0), entry("b", due=7.0)], 0, False)
    again = desk.outbox.add_once([entry("b", due=9.0), entry("c", due=9.0)], 0, False)
    assert [known for _, known in first] == [False, False]
    assert again[0] == (first[1][0], True)
    assert again[1][1] is False
    assert len(ids(desk)) == 3
