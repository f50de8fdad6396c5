"""Groups: what they collect from, how far they are, and the counts and rates that follow from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engines.embedded.control.desk import OTHER, SHARD, Desk, offsets
from tidings.engines.embedded.control.claims import MARK_SECONDS
from tidings.engines.embedded.control.groups import Groups
from tidings.errors import GroupNotFound


def test_binding_keeps_the_places_that_there_are(desk: Desk) -> None:
    desk.claim(desk.ann, 4)
    assert desk.groups.bind("billing", ["orders", "bills/*"], {SHARD: 9, OTHER: 7}, desk.now) == desk.group
    assert desk.groups.cursors(desk.group) == {SHARD: 4, OTHER: 7}
    assert desk.groups.bindings() == {"billing": ["bills/*", "orders"]}
    assert desk.groups.is_bound("billing", ["orders"])
    assert not desk.groups.is_bound("billing", ["orders", "other"])


def test_groups_do_not_see_each_other(desk: Desk) -> None:
    audit = desk.groups.bind("audit", ["orders"], {SHARD: 8}, desk.now)
    who = desk.join("eve", 3, audit)
    desk.claim(desk.ann)
    assert offsets(desk.claims.claim(who, desk.spans(), 100, desk.now, 0)) == [(8, 1), (9, 1)]
    desk.groups.drop("audit")
    assert desk.counts() == (10, 10, 0)
    assert desk.groups.bindings() == {"billing": ["orders"]}


def test_a_dropped_group_leaves_nothing(desk: Desk) -> None:
    desk.claim(desk.ann, 4)
    with desk.control.write() as run:
        run("INSERT INTO assignments VALUES (?, 4, 1)", (desk.group,))
    desk.groups.drop("billing")
    for table in ("groups", "bindings", "cursors", "pending", "consumers", "assignments"):
        assert desk.control.read(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.parametrize("use", [Groups.find, Groups.drop, lambda groups, name: groups.seek(name, {}, 0.0)])
def test_a_group_that_is_not_there(desk: Desk, use: Callable[[Groups, str], object]) -> None:
    with pytest.raises(GroupNotFound) as error:
        use(desk.groups, "nobody")
    assert error.value.group == "nobody"


class TestSeeking:
    @pytest.mark.parametrize(("to", "expected"), [(0, range(10)), (4, range(4, 10)), (10, range(0))])
    def test_it_makes_a_message_new_or_done_whatever_it_was(self, desk: Desk, to: int, expected: range) -> None:
        acked, leased, freed = desk.claim(desk.ann, 2)[0], desk.claim(desk.ann, 2)[0], desk.claim(desk.ann, 2)[0]
        desk.settle(acked, "ack")
        desk.settle(freed, "nack", 100.0)
        desk.groups.seek("billing", {SHARD: to}, desk.now)
        assert desk.settle(leased, "ack") == [2, 3]
        assert offsets(desk.claim(desk.bob)) == [(offset, 1) for offset in expected]

    def test_it_leaves_the_totals_and_other_shards_alone(self, desk: Desk) -> None:
        desk.ends[OTHER] = 3
        for claim in desk.claim(desk.ann):
            desk.settle(claim, "ack")
        desk.groups.seek("billing", {SHARD: 5}, desk.now)
        assert desk.groups.cursors(desk.group) == {SHARD: 5, OTHER: 3}
        assert desk.counted("acked", "skipped") == (13, 0)
        assert desk.counts() == (5, 0, 0)


class TestDroppingTheOldest:
    def test_what_is_not_claimed_is_skipped_and_counted(self, desk: Desk) -> None:
        held = desk.claim(desk.ann, 2)[0]
        assert desk.groups.drop_oldest(desk.group, SHARD, 3, 10, desk.now) == 3
        assert offsets(desk.claim(desk.bob, 1)) == [(5, 1)]
        assert desk.counted("skipped") == (3,)
        assert desk.settle(held, "ack") == [], "what is held is not dropped"

    def test_it_stops_at_the_end_that_it_is_told(self, desk: Desk) -> None:
        assert desk.groups.drop_oldest(desk.group, SHARD, 100, 4, desk.now) == 4
        assert desk.groups.drop_oldest(desk.group, SHARD, 100, 4, desk.now) == 0
        assert desk.groups.drop_oldest(desk.group, SHARD, 1, 3, desk.now) == 0
        assert desk.groups.cursors(desk.group) == {SHARD: 4}
        assert (desk.counted("skipped"), desk.counts()) == ((4,), (6, 0, 0))


class TestStanding:
    def test_every_message_is_in_exactly_one_place(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 7)[0]
        for action, places in (
            ("ack", range(2)),
            ("reject", range(2, 3)),
            ("expire", range(3, 4)),
            ("skip", range(4, 5)),
        ):
            desk.settle(claim, action, only=places)
        desk.settle(claim, "nack", 5.0, only=range(5, 6))
        found = desk.standing()
        counted = {"acked": 2, "dead": 1, "expired": 1, "skipped": 1, "failed": 2}
        assert found.counts == counted | {"filtered": 0, "redelivered": 0}
        assert (found.lag, found.held, found.retrying) == (5, 1, 1)
        assert sum(found.counts[name] for name in ("acked", "dead", "expired", "skipped")) + found.lag == 10

    def test_the_oldest_is_what_waits_longest_of_each_shard(self, desk: Desk) -> None:
        desk.ends = {SHARD: 10, OTHER: 2}
        assert desk.standing().oldest == {SHARD: 0, OTHER: 0}
        shard, other = desk.claim(desk.ann)
        assert desk.standing().oldest == {SHARD: 0, OTHER: 0}
        desk.settle(other, "ack")
        desk.settle(shard, "ack", only=range(4))
        assert desk.standing().oldest == {SHARD: 4}
        desk.settle(shard, "ack", only=range(5, 10))
        assert desk.standing().oldest == {SHARD: 4}
        desk.settle(shard, "ack", only=range(4, 5))
        assert desk.standing().oldest == {}

    def test_only_the_shards_that_were_asked_for_count(self, desk: Desk) -> None:
        desk.ends = {SHARD: 10, OTHER: 4}
        for claim in desk.claim(desk.ann):
            desk.settle(claim, "ack")
        found = desk.groups.standing(desk.group, {OTHER: 6}, desk.now)
        assert (found.lag, found.counts["acked"]) == (2, 4)
        assert desk.groups.standing(desk.group, {}, desk.now).lag == 0

    def test_a_place_beyond_the_end_is_no_negative_lag(self, desk: Desk) -> None:
        """After a loss of power a log may end before what a group was given."""
        desk.claim(desk.ann)
        assert desk.groups.standing(desk.group, {SHARD: 3}, desk.now).lag == 10
        assert desk.groups.standing(desk.group, {SHARD: 3}, desk.now).oldest == {SHARD: 0}


class TestRates:
    """Over the time since a mark that is one to two `MARK_SECONDS` back."""

    def work(self, desk: Desk, seconds: int, acks: int = 2, fails: int = 1) -> None:
        """So much of it each second."""
        for _ in range(seconds):
            desk.now += 1
            desk.ends[SHARD] += acks + fails
            for _ in range(acks):
                desk.settle(desk.one(desk.ann), "ack")
            for _ in range(fails):
                desk.settle(desk.one(desk.ann), "reject")

    @pytest.fixture
    def fresh(self, desk: Desk) -> Desk:
        desk.groups.bind("billing", ["orders"], {SHARD: 10}, desk.now)
        return desk

    @pytest.mark.parametrize("seconds", [5, 29, 31, 59, 61, 200])
    def test_steady_work_has_a_steady_rate(self, fresh: Desk, seconds: int) -> None:
        self.work(fresh, seconds)
        found = fresh.standing()
        assert found.ack_rate == pytest.approx(2.0, rel=0.1)
        assert found.fail_rate == pytest.approx(1.0, rel=0.1)

    def test_a_change_shows_after_two_marks(self, fresh: Desk) -> None:
        self.work(fresh, 200, acks=8)
        self.work(fresh, int(2 * MARK_SECONDS) + 1, acks=1, fails=0)
        found = fresh.standing()
        assert found.ack_rate == pytest.approx(1.0, rel=0.1)
        assert found.fail_rate == 0.0

    def test_idleness_shows_too(self, fresh: Desk) -> None:
        self.work(fresh, 100)
        before = fresh.standing().ack_rate
        fresh.now += 10 * MARK_SECONDS
        assert 0 < fresh.standing().ack_rate < before / 5

    def test_a_new_place_does_not_count_from_the_start_of_the_machine(self, desk: Desk) -> None:
        """Neither one that was made by seeking nor one by dropping what is old."""
        desk.groups.seek("billing", {SHARD: 0}, desk.now)
        desk.groups.drop_oldest(desk.group, OTHER, 1, 10, desk.now)
        desk.ends[OTHER] = 11
        desk.now += 10
        for claim in desk.claim(desk.ann):
            desk.settle(claim, "ack")
        assert desk.standing().ack_rate == pytest.approx(2.0, rel=0.2)

    def test_nothing_was_done(self, desk: Desk) -> None:
        assert (desk.standing().ack_rate, desk.standing().fail_rate) == (0.0, 0.0)
