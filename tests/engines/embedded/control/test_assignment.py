"""Shares of partitions: even, stable, exclusive; and any order of joins, leaves, deaths and stops."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.engines.embedded.control.desk import LEASE, Desk, applicant
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import Claim, Span

NORMAL, HIGH = 100, 200  # the shards of partition n are 100 + n, of normal priority, and 200 + n


def homes_of(partitions: range | list[int]) -> dict[int, int]:
    return {first + n: NORMAL + n for first in (NORMAL, HIGH) for n in partitions}


class Team:
    """A group whose consumers take order, on a topic with some partitions and two priorities."""

    def __init__(self, partitions: int, group: str = "team") -> None:
        self.desk = Desk()
        self.group = self.desk.groups.bind(group, ["orders"], {}, self.desk.now)
        self.partitions = partitions
        self.ends = dict.fromkeys(homes_of(range(partitions)), 0)

    def join(self, slot: int = 1, reads: list[int] | None = None) -> Member:
        number = self.desk.members.join(applicant(self.group, f"c{slot}", slot, ordering=True), {})
        homes = homes_of(range(self.partitions) if reads is None else reads)
        return Member(self.group, number, json.dumps(sorted(homes)), LEASE, homes)

    def claim(self, who: Member, limit: int = 1000) -> list[Claim]:
        assert who.homes is not None
        spans = {shard: Span(0, end) for shard, end in self.ends.items() if shard in who.homes}
        return self.desk.claims.claim(who, spans, limit, self.desk.now, 0)

    def settle(self, claim: Claim, action: str = "ack", seconds: float = 0.0) -> list[int]:
        from tidings.engines.embedded.control.claims import Range

        part = Range(claim.shard, claim.first, claim.last, claim.lease, action, seconds)
        return [offset for _, offset in self.desk.claims.settle(self.group, [part], self.desk.now, 0)]

    def owners(self) -> dict[int, int]:
        """The consumer of each partition that has one."""
        query = "SELECT partition, consumer FROM assignments WHERE group_id = ?"
        return {home - NORMAL: consumer for home, consumer in self.desk.control.read(query, (self.group,))}

    def shares(self, *members: Member) -> list[int]:
        held = Counter(self.owners().values())
        return [held[each.consumer] for each in members]

    def rounds(self, *members: Member, count: int = 3) -> None:
        """Everybody looks, and settles what it gets."""
        for _ in range(count):
            for who in members:
                for claim in self.claim(who):
                    self.settle(claim)


@pytest.mark.parametrize(("partitions", "members"), [(1, 1), (4, 2), (5, 2), (3, 5), (7, 3), (16, 16)])
def test_shares_are_even(partitions: int, members: int) -> None:
    team = Team(partitions)
    crew = [team.join(slot) for slot in range(members)]
    team.rounds(*crew)
    shares = team.shares(*crew)
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1


def test_a_partition_is_its_shards_of_all_priorities() -> None:
    team = Team(2)
    ann, bob = team.join(1), team.join(2)
    team.rounds(ann, bob)
    team.ends = dict.fromkeys(team.ends, 3)
    claims = [{claim.shard % 100 for claim in team.claim(who)} for who in (ann, bob)]
    assert sorted(claims, key=str) == [{0}, {1}]
    assert [len(claim) for claim in team.claim(ann)] == []


def test_who_comes_gets_its_share_and_no_more_than_that_moves() -> None:
    team = Team(6)
    ann, bob = team.join(1), team.join(2)
    team.rounds(ann, bob)
    before = team.owners()
    carl = team.join(3)
    team.rounds(ann, bob, carl)
    after = team.owners()
    assert team.shares(ann, bob, carl) == [2, 2, 2]
    assert sum(before[each] != after[each] for each in before) == 2


def test_who_leaves_leaves_its_share_and_no_more_than_that_moves() -> None:
    team = Team(6)
    crew = [team.join(slot) for slot in (1, 2, 3)]
    team.rounds(*crew)
    before = team.owners()
    team.desk.members.leave(crew[0].consumer)
    team.rounds(*crew[1:])
    after = team.owners()
    assert team.shares(*crew) == [0, 3, 3]
    assert all(before[each] == after[each] for each in before if before[each] != crew[0].consumer)


def test_nothing_moves_while_something_of_it_is_held() -> None:
    team = Team(2)
    ann = team.join(1)
    team.ends = dict.fromkeys(team.ends, 2)
    held = team.claim(ann)
    bob = team.join(2)
    assert (team.claim(bob), ann.leaving) == ([], False)
    team.claim(ann)
    assert (ann.leaving, ann.gained) == (True, False), "somebody waits for one of its partitions"
    given = [claim for claim in held if claim.shard % 100 == 1]
    for claim in given[:-1]:
        team.settle(claim)
    team.claim(ann)
    assert (team.claim(bob), ann.leaving) == ([], True)
    team.settle(given[-1])
    team.ends = dict.fromkeys(team.ends, 3)
    assert {claim.shard % 100 for claim in team.claim(ann)} == {0}
    assert (ann.gained, ann.leaving) == (True, False), "others have to be told that there is one to take"
    assert {claim.shard % 100 for claim in team.claim(bob)} == {1}
    assert bob.gained


def test_nothing_new_is_claimed_of_a_partition_that_is_to_go() -> None:
    team = Team(2)
    ann = team.join(1)
    team.ends = dict.fromkeys(team.ends, 2)
    team.claim(ann)
    team.claim(team.join(2))
    team.ends = dict.fromkeys(team.ends, 4)
    assert {claim.shard % 100 for claim in team.claim(ann)} == {0}


def test_a_retry_of_a_partition_that_moves_is_the_first_that_the_new_owner_gets() -> None:
    """Whatever its back-off says: what follows may have the same key."""
    team = Team(1)
    ann = team.join(1)
    team.ends[NORMAL] = 3
    (claim,) = team.claim(ann)
    team.settle(claim, "nack", 1000.0)
    team.desk.members.leave(ann.consumer)
    team.ends[NORMAL] = 5
    found = team.claim(team.join(2))
    assert [(claim.first, claim.last, claim.attempt) for claim in found] == [(0, 2, 2), (3, 4, 1)]


class TestStopped:
    """A consumer that neither claims nor renews, and does not die."""

    def test_it_keeps_its_partitions_for_a_lease_and_then_loses_them(self) -> None:
        team = Team(2)
        ann, bob = team.join(1), team.join(2)
        team.rounds(ann, bob)
        team.desk.now += LEASE - 1
        team.rounds(bob)
        assert team.shares(ann, bob) == [1, 1]
        team.desk.now += 2
        team.rounds(bob)
        assert team.shares(ann, bob) == [0, 2]
        team.rounds(ann, bob)
        assert team.shares(ann, bob) == [1, 1], "it is back"

    def test_what_it_holds_goes_on_when_its_lease_has_ended(self) -> None:
        team = Team(1)
        ann, bob = team.join(1), team.join(2)
        team.ends[NORMAL] = 2
        (claim,) = team.claim(ann)
        team.desk.now += LEASE - 0.5
        assert team.claim(bob) == []
        assert team.desk.claims.next_due(bob, team.desk.now) == pytest.approx(team.desk.now + 0.5)
        team.desk.now += 0.5
        assert [(claim.first, claim.attempt) for claim in team.claim(bob)] == [(0, 2)]
        assert team.settle(claim) == [0, 1]

    def test_what_it_holds_for_longer_is_waited_for(self) -> None:
        """It asked for more time for one message: nobody takes over what follows it."""
        team = Team(1)
        ann, bob = team.join(1), team.join(2)
        team.ends[NORMAL] = 2
        (claim,) = team.claim(ann)
        team.settle(claim, "extend", 3 * LEASE)
        team.desk.now += 2 * LEASE
        assert team.claim(bob) == []
        team.desk.now += LEASE
        assert [(claim.first, claim.attempt) for claim in team.claim(bob)] == [(0, 2)]

    def test_who_renews_is_there(self) -> None:
        team = Team(2)
        ann, bob = team.join(1), team.join(2)
        team.rounds(ann, bob)
        for _ in range(10):
            team.desk.now += LEASE / 3
            team.desk.claims.renew(ann.consumer, team.desk.now + LEASE, 0)
            team.rounds(bob)
        assert team.shares(ann, bob) == [1, 1]


class TestDifferentReaders:
    """Members of a group may read different topics, or some partitions only."""

    def test_each_partition_goes_to_one_who_reads_it(self) -> None:
        team = Team(4)
        crew = [team.join(slot, [slot]) for slot in range(4)]
        team.rounds(*crew)
        assert team.owners() == {slot: who.consumer for slot, who in enumerate(crew)}

    def test_what_some_read_together_is_shared_among_these(self) -> None:
        team = Team(6)
        ann, bob, eve = team.join(1, [0, 1, 2, 3]), team.join(2, [0, 1, 2, 3]), team.join(3, [4, 5])
        team.rounds(ann, bob, eve)
        assert team.shares(ann, bob, eve) == [2, 2, 2]

    def test_what_nobody_reads_is_nobody_s(self) -> None:
        team = Team(3)
        ann = team.join(1, [0, 2])
        team.rounds(ann)
        assert set(team.owners()) == {0, 2}

    def test_a_topic_that_appears_is_shared_out_too(self) -> None:
        team = Team(2)
        ann, bob = team.join(1, [0]), team.join(2, [0])
        team.rounds(ann, bob)
        for who in (ann, bob):
            who.homes = homes_of([0, 1])
        team.rounds(ann, bob)
        assert sorted(team.shares(ann, bob)) == [1, 1]


def test_groups_share_for_themselves() -> None:
    team = Team(2)
    ann = team.join(1)
    team.rounds(ann)
    other = team.desk.groups.bind("other", ["orders"], {}, team.desk.now)
    number = team.desk.members.join(applicant(other, "eve", 2, ordering=True), {})
    eve = Member(other, number, "[]", LEASE, homes_of(range(2)))
    team.claim(eve)
    assert team.shares(ann) == [2]
    assert team.desk.control.read("SELECT count(*) FROM assignments WHERE consumer = ?", (eve.consumer,)) == [(2,)]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens: who holds a message of a partition is the only one who holds one, deliveries of a partition
    begin in order, and once it is quiet, all partitions have owners and equal shares."""

    def __init__(self) -> None:
        super().__init__()
        self.team = Team(4)
        self.crew: dict[int, Member] = {}
        self.held: dict[int, list[Claim]] = {}
        self.until: dict[int, float] = {}
        self.slots = iter(range(1, 1000))
        self.delivered: dict[int, int] = {}

    @precondition(lambda self: len(self.crew) < 5)
    @rule(reads=st.none() | st.lists(st.integers(0, 3), min_size=1, unique=True))
    def join(self, reads: list[int] | None) -> None:
        slot = next(self.slots)
        self.crew[slot] = self.team.join(slot, reads)
        self.held[slot], self.until[slot] = [], self.team.desk.now + LEASE

    def someone(self, which: int) -> int:
        return sorted(self.crew)[which % len(self.crew)]

    @precondition(lambda self: self.crew)
    @rule(which=st.integers(0, 4), how=st.sampled_from(["dies", "leaves"]))
    def go(self, which: int, how: str) -> None:
        slot = self.someone(which)
        gone = self.crew.pop(slot)
        del self.held[slot], self.until[slot]
        if how == "dies":
            self.team.desk.members.bury(lambda other: other == slot)
        else:
            self.team.desk.members.leave(gone.consumer)

    @rule(shard=st.sampled_from(sorted(homes_of(range(4)))), count=st.integers(1, 3))
    def publish(self, shard: int, count: int) -> None:
        self.team.ends[shard] += count

    @precondition(lambda self: self.crew)
    @rule(which=st.integers(0, 4), limit=st.integers(1, 5))
    def claim(self, which: int, limit: int) -> None:
        slot = self.someone(which)
        claims = self.team.claim(self.crew[slot], limit)
        for claim in claims:
            assert claim.first <= self.delivered.get(claim.shard, 0), "something was passed over"
            self.delivered[claim.shard] = max(self.delivered.get(claim.shard, 0), claim.last + 1)
        self.held[slot] += claims
        self.until[slot] = self.team.desk.now + LEASE

    @precondition(lambda self: self.crew)
    @rule(which=st.integers(0, 4), action=st.sampled_from(["ack", "ack", "nack", "release"]))
    def settle(self, which: int, action: str) -> None:
        slot = self.someone(which)
        for claim in self.held[slot]:
            self.team.settle(claim, action, 5.0 if action == "nack" else 0.0)
        self.held[slot] = []

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        """Whoever does not renew meanwhile is stopped."""
        self.team.desk.now += seconds

    @precondition(lambda self: self.crew)
    @rule(which=st.integers(0, 4))
    def renew(self, which: int) -> None:
        slot, desk = self.someone(which), self.team.desk
        desk.claims.renew(self.crew[slot].consumer, desk.now + LEASE, 0)
        self.until[slot] = desk.now + LEASE

    @invariant()
    def nobody_shares_a_partition(self) -> None:
        query = (
            "SELECT shard % 100, count(DISTINCT consumer) FROM pending WHERE group_id = ? AND consumer IS NOT NULL "
            "AND due > ? GROUP BY 1 HAVING count(DISTINCT consumer) > 1"
        )
        assert self.team.desk.control.read(query, (self.team.group, self.team.desk.now)) == []

    @invariant()
    def who_holds_a_lease_is_the_owner(self) -> None:
        """Until it has settled what it holds; others wait."""
        query = (
            "SELECT DISTINCT shard % 100, consumer FROM pending WHERE group_id = ? AND consumer IS NOT NULL AND due > ?"
        )
        owners = self.team.owners()
        for partition, consumer in self.team.desk.control.read(query, (self.team.group, self.team.desk.now)):
            assert owners.get(partition) == consumer

    def teardown(self) -> None:
        """When all settle and nothing else happens, everything that somebody reads is consumed, evenly shared."""
        try:
            if self.crew:
                self.quieten()
        finally:
            self.team.desk.control.close()

    def quieten(self) -> None:
        team = self.team
        for slot in sorted(self.crew):
            for claim in self.held[slot]:
                team.settle(claim)
        team.desk.now += LEASE + 6
        team.rounds(*self.crew.values(), count=3)
        before = team.owners()
        team.rounds(*self.crew.values(), count=6)
        assert team.owners() == before, "it does not come to rest"
        readers = {n: [who for who in self.crew.values() if who.homes and NORMAL + n in who.homes] for n in range(4)}
        assert set(before) >= {n for n, who in readers.items() if who}
        shards = json.dumps([shard for shard in team.ends if readers[shard % 100]])
        query = "SELECT count(*) FROM pending WHERE group_id = ? AND shard IN (SELECT value FROM json_each(?))"
        assert team.desk.control.read(query, (team.group, shards)) == [(0,)]
        cursors = team.desk.groups.cursors(team.group)
        assert all(cursors.get(shard, 0) == end for shard, end in team.ends.items() if readers[shard % 100])
        for together in {tuple(who.consumer for who in each) for each in readers.values() if each}:
            same = [n for n, each in readers.items() if tuple(who.consumer for who in each) == together]
            shares = Counter(before[n] for n in same)
            counts = [shares[consumer] for consumer in together]
            assert max(counts) - min(counts) <= 1


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
