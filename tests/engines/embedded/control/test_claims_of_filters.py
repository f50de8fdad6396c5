"""What consumers of a filtered group hold: runs of what is wanted, whatever was claimed or moved since they looked."""

from __future__ import annotations

import random

import pytest

from tests.engines.embedded.control.desk import LEASE, SHARD, Desk
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import Claim, Range, Span

Runs = tuple[tuple[int, int], ...]


def claim(desk: Desk, who: Member, wanted: Runs, place: int = 0, end: int = 10, limit: int = 100) -> list[int]:
    """Claim what is wanted, as it was seen by who looked from `place` on; return the offsets."""
    return [offset for each in claims(desk, who, wanted, place, end, limit) for offset in each.offsets()]


def claims(desk: Desk, who: Member, wanted: Runs, place: int, end: int, limit: int) -> list[Claim]:
    who.unleased = desk.unleased
    return desk.claims.claim(who, {SHARD: Span(0, end, place, wanted)}, limit, desk.now, 0)


def runs_of(offsets: list[int]) -> Runs:
    """Join neighbours."""
    found: list[list[int]] = []
    for offset in offsets:
        if found and found[-1][1] == offset - 1:
            found[-1][1] = offset
        else:
            found.append([offset, offset])
    return tuple((first, last) for first, last in found)


def settle(desk: Desk, of: Claim, offsets: list[int], action: str, seconds: float = 0.0) -> list[int]:
    """Settle these offsets of a claim together; return what was lost."""
    runs = runs_of(offsets)
    part = Range(of.shard, offsets[0], offsets[-1], of.lease, action, seconds, runs if len(runs) > 1 else ())
    return [offset for _, offset in desk.claims.settle(desk.group, [part], desk.now, 0)]


def cursor(desk: Desk) -> int:
    return desk.groups.cursors(desk.group).get(SHARD, 0)


def test_what_is_not_wanted_is_passed_over(desk: Desk) -> None:
    assert claim(desk, desk.ann, ((1, 2), (5, 5))) == [1, 2, 5]
    assert (desk.counts(), desk.counted("filtered", "skipped"), cursor(desk)) == ((3, 3, 0), (7, 0), 10)
    assert claim(desk, desk.bob, (), place=10) == []


def test_nothing_wanted_is_everything_passed_over(desk: Desk) -> None:
    assert claim(desk, desk.ann, ()) == []
    assert (desk.counts(), desk.counted("filtered"), cursor(desk)) == ((0, 0, 0), (10,), 10)


@pytest.mark.parametrize(
    ("limit", "expected", "place"), [(1, [1], 2), (2, [1, 2], 3), (3, [1, 2, 5], 6), (4, [1, 2, 5, 6], 7)]
)
def test_a_limit_ends_right_behind_the_last_that_was_claimed(
    desk: Desk, limit: int, expected: list[int], place: int
) -> None:
    """What follows has not been passed over yet: another filter run may still want it."""
    assert claim(desk, desk.ann, ((1, 2), (5, 8)), limit=limit) == expected
    assert (cursor(desk), desk.counted("filtered")) == (place, (place - limit,))


def test_the_limit_counts_what_comes_again_too(desk: Desk) -> None:
    """Of three that are due and many that are new, no more are claimed than were asked for."""
    (first,) = claims(desk, desk.ann, ((0, 2),), 0, 3, 100)
    settle(desk, first, [0, 1, 2], "nack")
    assert claim(desk, desk.bob, ((4, 9),), place=3, limit=5) == [0, 1, 2, 4, 5]
    assert cursor(desk) == 6


def test_who_looked_before_another_claimed_gets_what_is_left(desk: Desk) -> None:
    """Nothing comes to two, and nothing is counted twice."""
    wanted = ((1, 2), (4, 8))
    assert claim(desk, desk.ann, wanted, limit=4) == [1, 2, 4, 5]
    assert claim(desk, desk.bob, wanted) == [6, 7, 8]
    assert claim(desk, desk.bob, wanted) == []
    assert (desk.counts(), desk.counted("filtered")) == ((7, 7, 0), (3,))


def test_a_group_that_was_moved_back_is_looked_at_anew(desk: Desk) -> None:
    """What was found out from a later place on says nothing about what is before it."""
    assert claim(desk, desk.ann, ((0, 4),), end=5) == [0, 1, 2, 3, 4]
    desk.groups.seek("billing", {SHARD: 1}, desk.now)
    assert claim(desk, desk.bob, ((7, 8),), place=5) == []
    assert (cursor(desk), desk.counted("filtered"), desk.counts()) == (1, (0,), (9, 0, 0))
    assert claim(desk, desk.bob, ((3, 4), (7, 8)), place=1) == [3, 4, 7, 8]


def test_a_group_that_was_moved_ahead_claims_nothing_behind(desk: Desk) -> None:
    desk.groups.seek("billing", {SHARD: 6}, desk.now)
    assert claim(desk, desk.ann, ((1, 2), (5, 7))) == [6, 7]
    assert desk.counted("filtered") == (2,)


def test_what_retention_removed_is_skipped_and_not_passed_over(desk: Desk) -> None:
    """Though nobody knows whether it was wanted."""
    found = desk.claims.claim(desk.ann, {SHARD: Span(4, 10, 4, ((5, 6),))}, 100, desk.now, 0)
    assert [(each.first, each.last, each.skipped) for each in found] == [(5, 6, 4)]
    assert desk.counted("skipped", "filtered") == (4, 4)


def test_without_leases_what_is_wanted_is_acked(desk: Desk) -> None:
    desk.unleased = frozenset({SHARD})
    assert claim(desk, desk.ann, ((1, 2), (5, 5))) == [1, 2, 5]
    assert (desk.counts(), desk.counted("acked", "filtered")) == ((0, 0, 0), (3, 7))


@pytest.mark.parametrize("action", ["ack", "reject", "expire", "skip"])
def test_runs_end_together_or_one_by_one(desk: Desk, action: str) -> None:
    """Both count the same, and what was passed over between them is not touched."""
    (found,) = claims(desk, desk.ann, ((1, 2), (5, 5), (8, 9)), 0, 10, 100)
    assert settle(desk, found, [2, 5], action) == []
    assert settle(desk, found, [1, 8, 9], action) == []
    assert desk.counts() == (0, 0, 0)
    name = {"ack": "acked", "reject": "dead", "expire": "expired", "skip": "skipped"}[action]
    assert desk.counted(name, "filtered") == (5, 5)
    assert settle(desk, found, [1, 2, 5, 8, 9], action) == [1, 2, 5, 8, 9], "all of it was settled before"


def test_all_runs_are_settled_together(desk: Desk) -> None:
    (found,) = claims(desk, desk.ann, ((1, 2), (5, 5), (8, 9)), 0, 10, 100)
    assert settle(desk, found, [1, 2, 5, 8, 9], "nack", 5.0) == []
    assert (desk.counts(), desk.counted("failed")) == ((5, 0, 5), (5,))
    desk.now += 5
    again = claims(desk, desk.bob, (), 10, 10, 100)
    assert [(each.first, each.last, each.attempt) for each in again] == [(1, 2, 2), (5, 5, 2), (8, 9, 2)]


def test_what_somebody_else_has_by_now_is_lost_alone(desk: Desk) -> None:
    """Of runs that are settled together."""
    (found,) = claims(desk, desk.ann, ((1, 2), (5, 5)), 0, 10, 100)
    desk.now += LEASE + 1
    assert claim(desk, desk.bob, (), place=10, limit=1) == [1]
    assert settle(desk, found, [1, 2, 5], "ack") == [1]
    assert (desk.counts(), desk.counted("acked")) == ((1, 1, 0), (2,))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_what_is_wanted_is_acked_once_and_the_rest_is_counted(desk: Desk, seed: int) -> None:
    """Claims of all sizes by two consumers that looked at different times, settled in any parts, leases that end."""
    dice, end = random.Random(seed), 40
    wanted = {offset for offset in range(end) if dice.random() < dice.choice([0.2, 0.5, 0.9])}
    desk.ends = {SHARD: end}
    held: list[tuple[Claim, set[int]]] = []
    acked: list[int] = []
    looked = 0
    for _ in range(300):
        if dice.random() < 0.5:
            looked = dice.choice([looked, cursor(desk)])
            runs = runs_of(sorted(offset for offset in wanted if offset >= looked))
            limit = dice.randint(1, 12)
            found = claims(desk, dice.choice([desk.ann, desk.bob]), runs, looked, end, limit)
            assert sum(map(len, found)) <= limit
            assert {offset for each in found for offset in each.offsets()} <= wanted
            held += [(each, set(each.offsets())) for each in found]
        elif held:
            of, left = held.pop(dice.randrange(len(held)))
            chosen = sorted(left) if dice.random() < 0.5 else dice.sample(sorted(left), dice.randint(1, len(left)))
            action = dice.choice(["ack", "ack", "nack", "release"])
            lost = settle(desk, of, sorted(chosen), action)
            acked += sorted(set(chosen) - set(lost)) if action == "ack" else []
            held += [(of, left - set(chosen))] if left - set(chosen) else []
        elif dice.random() < 0.2:
            desk.now += LEASE + 1
        assert desk.standing().lag + sum(desk.counted("acked", "filtered")) == end
    desk.now += LEASE + 1
    for each in claims(desk, desk.ann, runs_of(sorted(wanted)), cursor(desk), end, 1000):
        offsets = list(each.offsets())
        assert settle(desk, each, offsets, "ack") == []
        acked += offsets
    assert sorted(acked) == sorted(wanted)
    assert (desk.counts(), desk.counted("filtered")) == ((0, 0, 0), (end - len(wanted),))
