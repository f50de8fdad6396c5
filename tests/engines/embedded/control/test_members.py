"""Who is attached: limits, one kind of order in a group, and what becomes of what the dead held."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.embedded.control.desk import SHARD, Desk, applicant, entry, offsets
from tidings.engines.embedded.control.members import Members
from tidings.errors import InvalidOption, TooManySubscribers


class TestJoining:
    def test_each_gets_a_number_that_is_never_used_again(self, desk: Desk) -> None:
        first = desk.members.join(applicant(None, "x", 1), {})
        desk.members.leave(first)
        assert desk.members.join(applicant(None, "x", 1), {}) > first > desk.bob.consumer

    def test_a_topic_has_so_many_subscribers_and_no_more(self, desk: Desk) -> None:
        """Consumers of groups and temporary subscriptions count alike; those of other topics do not."""
        desk.members.join(applicant(None, "else", 1, topic="bills"), {"bills": 1})
        desk.members.join(applicant(None, "third", 1), {"orders": 3})
        with pytest.raises(TooManySubscribers, match="orders") as error:
            desk.members.join(applicant(None, "fourth", 1), {"bills": 9, "orders": 3})
        assert (error.value.topic, error.value.limit) == ("orders", 3)
        assert [each.name for each in desk.members.subscribers() if each.reads("orders")] == ["ann", "bob", "third"]
        desk.members.leave(desk.ann.consumer)
        desk.members.join(applicant(None, "fourth", 1), {"orders": 3})

    def test_who_reads_it_by_a_pattern_counts_too(self, desk: Desk) -> None:
        desk.members.join(applicant(None, "all", 1, topic="bills/*"), {})
        with pytest.raises(TooManySubscribers):
            desk.members.join(applicant(None, "one", 1, topic="bills/new"), {"bills/new": 1})

    def test_checking_says_the_same_and_joins_nobody(self, desk: Desk) -> None:
        desk.members.check({"orders": 3})
        desk.members.check({})
        with pytest.raises(TooManySubscribers):
            desk.members.check({"orders": 2})
        assert len(desk.members.consumers(desk.group)) == 2

    def test_all_consumers_of_a_group_take_the_same_order(self, desk: Desk) -> None:
        with pytest.raises(InvalidOption, match="ordering=True"):
            desk.members.join(applicant(desk.group, "carl", 3, ordering=True), {})
        desk.members.join(applicant(None, "temporary", 3, ordering=True), {})
        other = desk.groups.bind("audit", ["orders"], {}, desk.now)
        desk.members.join(applicant(other, "eve", 3, ordering=True), {})
        with pytest.raises(InvalidOption, match="ordering=False"):
            desk.members.join(applicant(other, "carl", 3), {})
        for who in (desk.ann, desk.bob):
            desk.members.leave(who.consumer)
        desk.members.join(applicant(desk.group, "carl", 3, ordering=True), {})


class TestBurying:
    def test_only_the_dead_lose_what_they_hold(self, desk: Desk) -> None:
        mine, theirs = desk.claim(desk.ann, 2)[0], desk.claim(desk.bob, 2)[0]
        assert desk.members.bury(lambda slot: slot == 1)
        assert not desk.members.bury(lambda slot: slot == 1)
        assert desk.members.peers() == {102}
        assert desk.settle(mine, "ack") == [0, 1]
        assert desk.settle(theirs, "ack") == []

    def test_their_partitions_are_free(self, desk: Desk) -> None:
        with desk.control.write() as run:
            for partition, who in ((1, desk.ann), (2, desk.bob)):
                run("INSERT INTO assignments VALUES (?, ?, ?)", (desk.group, partition, who.consumer))
        desk.members.bury(lambda slot: slot == 2)
        assert desk.control.read("SELECT partition FROM assignments") == [(1,)]
        desk.members.leave(desk.ann.consumer)
        assert desk.control.read("SELECT partition FROM assignments") == []

    def test_what_they_were_moving_is_left_to_others_and_where_to_look_is_kept(self, desk: Desk) -> None:
        desk.outbox.add([entry("a", mover=7, shard=SHARD, floor=5), entry("b", mover=2, shard=SHARD, floor=6)], 0, True)
        assert desk.staged() == []
        assert desk.members.bury(lambda slot: slot == 7), "a mover need not be a subscriber"
        (row,) = desk.outbox.due(1.0, 10)
        assert (row.record.data, row.shard, row.floor, row.tried) == (b"a", SHARD, 5, True)

    def test_who_takes_the_slot_meanwhile_is_not_robbed(self, desk: Desk) -> None:
        """Between the look at the locks and the writing a new process may have come into the slot of a dead one."""
        alive: list[int] = []

        def is_dead(slot: int) -> bool:
            if slot != 1 or alive:
                return False
            alive.append(slot)
            with desk.control.write() as run:  # the new process begins
                desk.outbox.stage(run, [entry("new", mover=1, shard=SHARD, floor=0)])
            return True

        claim = desk.claim(desk.ann, 2)[0]
        assert not desk.members.bury(is_dead)
        assert desk.control.read("SELECT mover FROM staged") == [(1,)]
        assert desk.settle(claim, "ack") == []

    def test_a_start_of_the_machine_is_the_death_of_all(self, desk: Desk) -> None:
        desk.claim(desk.ann, 3)
        desk.settle(desk.claim(desk.bob, 1)[0], "ack")
        desk.outbox.add([entry("a", mover=7, shard=SHARD, floor=5)], 0, True)
        with desk.control.write() as run:
            run("INSERT INTO assignments VALUES (1, 1, 1)")
            Members.forget(run)
        for table in ("consumers", "assignments"):
            assert desk.control.read(f"SELECT count(*) FROM {table}") == [(0,)]
        (row,) = desk.outbox.due(1.0, 10)
        assert row.floor == 5
        desk.now = 2.0
        assert offsets(desk.claim(desk.join("carl", 3), 3)) == [(0, 2), (1, 2), (2, 2)]
        assert desk.standing().ack_rate == 0.0
        assert desk.counted("acked") == (1,)


class TestShowing:
    def test_consumers_are_shown_with_what_they_hold(self, desk: Desk) -> None:
        desk.claim(desk.ann, 3)
        found = desk.members.consumers(desk.group)
        assert [(each.consumer, each.pid, each.held) for each in found] == [("ann", 101, 3), ("bob", 102, 0)]

    def test_subscribers_are_shown_with_their_group(self, desk: Desk) -> None:
        desk.members.join(applicant(None, "tail", 3, topic="ord*"), {})
        found: list[Any] = [(s.name, s.group, s.pid, s.since) for s in desk.members.subscribers() if s.reads("orders")]
        assert found == [("ann", "billing", 101, 5.0), ("bob", "billing", 102, 5.0), ("tail", None, 103, 5.0)]
        assert [each.name for each in desk.members.subscribers() if each.reads("other")] == []

    def test_peers_are_those_whose_death_concerns_a_group(self, desk: Desk) -> None:
        desk.members.join(applicant(None, "tail", 3), {})
        assert desk.members.peers() == {101, 102}

    def test_how_far_a_subscription_is_goes_when_it_leaves(self, desk: Desk) -> None:
        here = desk.members.join(applicant(None, "tail", 3), {})
        desk.members.tell(here, 7.5, {1: 10, 2: -1}, 1.0)
        desk.members.tell(here, 8.5, {1: 20}, 1.0)
        told = {each.name: (each.last, each.places) for each in desk.members.subscribers()}
        assert told == {"ann": (None, {}), "bob": (None, {}), "tail": (8.5, {1: 20, 2: -1})}
        desk.members.leave(here)
        desk.members.tell(here, 9.5, {1: 30}, 1.0)
        assert desk.control.read("SELECT count(*) FROM places") == [(0,)]
