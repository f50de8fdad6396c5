"""The places of consumer groups: each cell of the state table, and any order of events against a plain model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.control.groups import MAX_CLAIMS, Claim, Groups, Member, Range
from tidings.errors import GroupNotFound

LEASE = 30.0
SHARD, OTHER = 4, 9


class Desk:
    """A group named "billing", its consumers `ann` and `bob`, and a time that the test says."""

    def __init__(self) -> None:
        self.control = Control(None, None)
        self.groups = Groups(self.control)
        self.group = self.groups.bind("billing", ["orders"], {})
        self.ann, self.bob = self.join("ann", 1), self.join("bob", 2)
        self.now = 1000.0
        self.ends = {SHARD: 10}
        self.firsts = {SHARD: 0, OTHER: 0}

    def join(self, name: str, slot: int) -> Member:
        number = self.groups.join(self.group, name, slot, 100 + slot)
        return Member(self.group, number, json.dumps([SHARD, OTHER]), LEASE)

    def claim(self, who: Member, limit: int = 100) -> list[Claim]:
        return self.groups.claim(who, self.spans(), limit, self.now, 0)

    def spans(self) -> dict[int, tuple[int, int]]:
        """What the log of each shard holds."""
        return {shard: (self.firsts[shard], end) for shard, end in self.ends.items()}

    def one(self, who: Member) -> Claim:
        (claim,) = self.claim(who, 1)
        return claim

    def settle(self, claim: Claim, action: str, seconds: float = 0.0, *, only: range | None = None) -> list[int]:
        """Settle a claim, or some offsets of it; return the offsets that were lost."""
        places = only or range(claim.first, claim.last + 1)
        part = Range(claim.shard, places[0], places[-1], claim.lease, action, seconds)
        return [offset for _, offset in self.groups.settle(self.group, [part], self.now, 0)]

    def counts(self) -> tuple[int, int, int]:
        """Lag, held and retrying."""
        found = self.groups.describe("billing", "orders", self.ends)
        return found.lag, found.held, found.retrying


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.control.close()


def offsets(claims: list[Claim]) -> list[tuple[int, int]]:
    """What was claimed, and for which attempt."""
    return [(offset, claim.attempt) for claim in claims for offset in range(claim.first, claim.last + 1)]


class TestStateTable:
    def test_claiming_what_is_new_is_the_first_attempt(self, desk: Desk) -> None:
        assert offsets(desk.claim(desk.ann, 3)) == [(0, 1), (1, 1), (2, 1)]
        assert offsets(desk.claim(desk.bob, 3)) == [(3, 1), (4, 1), (5, 1)]
        assert desk.counts() == (10, 6, 0)

    def test_what_is_leased_goes_to_nobody_else(self, desk: Desk) -> None:
        desk.claim(desk.ann)
        assert desk.claim(desk.bob) == desk.claim(desk.ann) == []

    def test_an_ack_ends_it(self, desk: Desk) -> None:
        assert desk.settle(*(desk.claim(desk.ann)[0], "ack")) == []
        desk.now += 10 * LEASE
        assert desk.claim(desk.bob) == []
        assert desk.counts() == (0, 0, 0)

    def test_a_nack_brings_it_back_after_its_delay_as_the_next_attempt(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1}
        for attempt in range(1, 4):
            claim = desk.one(desk.ann)
            assert claim.attempt == attempt
            assert desk.settle(claim, "nack", 5.0) == []
            assert desk.counts() == (1, 0, 1)
            desk.now += 4.9
            assert desk.claim(desk.bob) == []
            assert desk.groups.next_due(desk.group) == pytest.approx(desk.now + 0.1)
            desk.now += 0.2

    def test_a_release_brings_it_back_at_once_and_does_not_count(self, desk: Desk) -> None:
        for _ in range(3):
            claim = desk.one(desk.ann)
            assert (claim.first, claim.attempt) == (0, 1)
            desk.settle(claim, "release")

    def test_a_lease_that_ended_is_the_next_attempt_of_whoever_comes(self, desk: Desk) -> None:
        old = desk.one(desk.ann)
        desk.now += LEASE - 0.1
        assert offsets(desk.claim(desk.bob, 1)) == [(1, 1)]
        desk.now += 0.2
        assert offsets(desk.claim(desk.bob, 1)) == [(0, 2)]
        assert desk.settle(old, "ack") == [0], "an old lease was honoured"
        assert desk.counts() == (10, 2, 0)

    def test_a_lease_that_ended_and_that_nobody_took_is_still_one_s_own(self, desk: Desk) -> None:
        claim = desk.one(desk.ann)
        desk.now += 10 * LEASE
        assert desk.settle(claim, "ack") == []

    def test_a_dead_consumer_s_messages_are_free_at_once_and_the_attempt_counts(self, desk: Desk) -> None:
        desk.claim(desk.ann, 3)
        assert desk.groups.bury(lambda slot: slot == 1)
        assert offsets(desk.claim(desk.bob, 4)) == [(0, 2), (1, 2), (2, 2), (3, 1)]
        assert not desk.groups.bury(lambda slot: slot == 1)
        assert desk.groups.peers() == {102}

    def test_a_consumer_that_leaves_gives_back_and_the_attempt_does_not_count(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 3)[0]
        desk.groups.leave(desk.ann.consumer)
        assert offsets(desk.claim(desk.bob, 4)) == [(0, 1), (1, 1), (2, 1), (3, 1)]
        assert desk.settle(claim, "ack") == [0, 1, 2]

    @pytest.mark.parametrize(("to", "expected"), [(0, range(10)), (4, range(4, 10)), (10, range(0))])
    def test_seeking_makes_a_message_new_or_done_whatever_it_was(self, desk: Desk, to: int, expected: range) -> None:
        acked, leased, freed = desk.claim(desk.ann, 2)[0], desk.claim(desk.ann, 2)[0], desk.claim(desk.ann, 2)[0]
        desk.settle(acked, "ack")
        desk.settle(freed, "nack", 100.0)
        desk.groups.seek("billing", {SHARD: to})
        assert desk.settle(leased, "ack") == [2, 3]
        assert offsets(desk.claim(desk.bob)) == [(offset, 1) for offset in expected]

    def test_renewing_keeps_and_never_shortens(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 2)[0]
        desk.settle(claim, "extend", 100.0, only=range(1, 2))
        desk.now += 20
        desk.groups.renew(desk.ann.consumer, desk.now + LEASE, 0)
        desk.now += 29
        assert offsets(desk.claim(desk.bob, 1)) == [(2, 1)]
        desk.now += 2
        assert offsets(desk.claim(desk.bob, 2)) == [(0, 2), (3, 1)]
        desk.now += 60
        assert (1, 2) in offsets(desk.claim(desk.bob))

    def test_a_start_of_the_machine_frees_everything(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 2)[0]
        with desk.control.write() as run:
            desk.groups.forget_leases(run)
        assert desk.settle(claim, "ack") == [0, 1]
        assert desk.groups.describe("billing", "orders", desk.ends).consumers == ()
        desk.now = 1.0  # the monotonic clock began again
        assert offsets(desk.claim(desk.join("carl", 3), 3)) == [(0, 2), (1, 2), (2, 1)]

    def test_what_retention_removed_is_done_and_counted(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 5)[0]
        assert desk.settle(claim, "skip", only=range(3)) == []
        found = desk.groups.describe("billing", "orders", desk.ends)
        assert (found.skipped, found.lag, found.held) == (3, 7, 2)

    def test_what_retention_removed_before_it_was_claimed_is_counted_too(self, desk: Desk) -> None:
        desk.firsts[SHARD] = 6
        assert offsets(desk.claim(desk.ann)) == [(offset, 1) for offset in range(6, 10)]
        found = desk.groups.describe("billing", "orders", desk.ends)
        assert (found.skipped, found.lag) == (6, 4)


class TestRanges:
    def test_part_of_a_lease_can_be_settled_in_any_order(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        for offset in (5, 0, 9, 4, 6, 1):
            assert desk.settle(claim, "ack", only=range(offset, offset + 1)) == []
        assert desk.counts() == (4, 4, 0)
        desk.groups.bury(lambda slot: True)
        assert offsets(desk.claim(desk.join("carl", 3))) == [(2, 2), (3, 2), (7, 2), (8, 2)]

    def test_settling_again_is_refused_only_for_what_is_settled(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        desk.settle(claim, "ack", only=range(3, 6))
        assert desk.settle(claim, "ack") == [3, 4, 5]
        assert desk.counts() == (0, 0, 0)

    def test_many_small_retries_are_claimed_in_bounded_portions(self, desk: Desk) -> None:
        desk.ends = {SHARD: 2 * MAX_CLAIMS + 20}
        claim = desk.claim(desk.ann, 1000)[0]
        for offset in range(0, claim.last + 1, 2):
            desk.settle(claim, "nack", only=range(offset, offset + 1))
        claims = desk.claim(desk.bob, 1000)
        assert len(claims) == MAX_CLAIMS
        assert len(desk.claim(desk.bob, 1000)) == 10

    def test_shards_that_a_consumer_does_not_read_stay_for_others(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1, OTHER: 1}
        for claim in desk.claim(desk.ann):
            desk.settle(claim, "release")
        half = Member(desk.group, desk.bob.consumer, json.dumps([OTHER]), LEASE)
        desk.ends = {OTHER: 1}
        assert [claim.shard for claim in desk.claim(half)] == [OTHER]


class TestGroups:
    def test_binding_keeps_the_places_that_there_are(self, desk: Desk) -> None:
        desk.claim(desk.ann, 4)
        assert desk.groups.bind("billing", ["orders", "bills/*"], {SHARD: 9, OTHER: 7}) == desk.group
        assert desk.groups.cursors(desk.group) == {SHARD: 4, OTHER: 7}
        assert desk.groups.bindings() == {"billing": ["bills/*", "orders"]}
        assert desk.groups.is_bound("billing", ["orders"])
        assert not desk.groups.is_bound("billing", ["orders", "other"])

    def test_groups_do_not_see_each_other(self, desk: Desk) -> None:
        audit = desk.groups.bind("audit", ["orders"], {SHARD: 8})
        who = Member(audit, desk.groups.join(audit, "eve", 3, 103), json.dumps([SHARD]), LEASE)
        desk.claim(desk.ann)
        assert offsets(desk.groups.claim(who, desk.spans(), 100, desk.now, 0)) == [(8, 1), (9, 1)]
        desk.groups.drop("audit")
        assert desk.counts() == (10, 10, 0)
        assert desk.groups.bindings() == {"billing": ["orders"]}

    @pytest.mark.parametrize("use", [Groups.find, Groups.drop, lambda groups, name: groups.seek(name, {})])
    def test_a_group_that_is_not_there(self, desk: Desk, use: Callable[[Groups, str], object]) -> None:
        with pytest.raises(GroupNotFound) as error:
            use(desk.groups, "nobody")
        assert error.value.group == "nobody"

    def test_consumers_are_shown_with_what_they_hold(self, desk: Desk) -> None:
        desk.claim(desk.ann, 3)
        found = desk.groups.describe("billing", "orders", desk.ends)
        assert [(each.consumer, each.pid, each.held) for each in found.consumers] == [("ann", 101, 3), ("bob", 102, 0)]


# -- any order of events


class State(NamedTuple):
    """Of one message: `attempt` deliveries so far; `lease` 0 is free; claimable when `due` has passed."""

    attempt: int
    due: float
    lease: int = 0
    consumer: int = 0


class AnyOrder(RuleBasedStateMachine):
    """`pending` maps (shard, offset) to its state; what is below the cursor and not in it is acked."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.desk.ends = {SHARD: 0, OTHER: 0}
        self.members = [self.desk.ann, self.desk.bob]
        self.cursors = {SHARD: 0, OTHER: 0}
        self.skipped = {SHARD: 0, OTHER: 0}
        self.pending: dict[tuple[int, int], State] = {}

    @rule(shard=st.sampled_from([SHARD, OTHER]), count=st.integers(1, 8))
    def publish(self, shard: int, count: int) -> None:
        self.desk.ends[shard] += count

    @rule(shard=st.sampled_from([SHARD, OTHER]), count=st.integers(1, 8))
    def retain(self, shard: int, count: int) -> None:
        """Retention removes the oldest messages of a shard."""
        self.desk.firsts[shard] = min(self.desk.ends[shard], self.desk.firsts[shard] + count)

    @rule(target=claims, who=st.integers(0, 1), limit=st.integers(1, 12))
    def claim(self, who: int, limit: int) -> list[Claim]:
        desk, member = self.desk, self.members[who]
        expected = sorted(place for place, state in self.pending.items() if state.due <= desk.now)[:limit]
        for shard, end in desk.ends.items():
            first = max(self.cursors[shard], desk.firsts[shard])
            new = range(first, min(end, first + limit - len(expected)))
            if new:
                self.skipped[shard] += first - self.cursors[shard]
                self.cursors[shard] = new[-1] + 1
            expected += [(shard, offset) for offset in new]
        claims = desk.claim(member, limit)
        found = {(claim.shard, at): claim for claim in claims for at in range(claim.first, claim.last + 1)}
        assert sorted(found) == sorted(expected)
        for place, claim in found.items():
            before = self.pending.get(place)
            assert claim.attempt == (before.attempt if before else 0) + 1
            self.pending[place] = State(claim.attempt, desk.now + LEASE, claim.lease, member.consumer)
        return claims

    @rule(
        claims=claims,
        action=st.sampled_from(["ack", "ack", "nack", "release", "extend", "skip"]),
        cut=st.tuples(st.integers(0, 7), st.integers(1, 8)),
        seconds=st.sampled_from([0.0, 10.0, 100.0]),
    )
    def settle(self, claims: list[Claim], action: str, cut: tuple[int, int], seconds: float) -> None:
        """Also long after the lease was lost, and again."""
        for claim in claims:
            part = range(claim.first, claim.last + 1)[cut[0] : cut[0] + cut[1]]
            if part:
                expected = [at for at in part if not self.apply(claim, at, action, seconds)]
                assert self.desk.settle(claim, action, seconds, only=part) == expected

    def apply(self, claim: Claim, offset: int, action: str, seconds: float) -> bool:
        """What settling does to one message; false when it is no longer under this lease."""
        place, now = (claim.shard, offset), self.desk.now
        state = self.pending.get(place)
        if state is None or state.lease != claim.lease:
            return False
        if action in ("ack", "skip"):
            del self.pending[place]
            self.skipped[claim.shard] += action == "skip"
        elif action == "extend":
            self.pending[place] = state._replace(due=now + seconds)
        elif action == "nack":
            self.pending[place] = State(state.attempt, now + seconds)
        else:
            self.pending[place] = State(state.attempt - 1, now + seconds if seconds else 0.0)
        return True

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.desk.now += seconds

    @rule(who=st.integers(0, 1))
    def renew(self, who: int) -> None:
        consumer, until = self.members[who].consumer, self.desk.now + LEASE
        self.desk.groups.renew(consumer, until, 0)
        for place, state in self.pending.items():
            if state.lease and state.consumer == consumer:
                self.pending[place] = state._replace(due=max(state.due, until))

    @rule(who=st.integers(0, 1), dies=st.booleans())
    def go(self, who: int, dies: bool) -> None:
        """A consumer dies or leaves; another one comes in its place."""
        gone, slot = self.members[who], who + 1
        if dies:
            assert self.desk.groups.bury(lambda other: other == slot)
        else:
            self.desk.groups.leave(gone.consumer)
        for place, state in self.pending.items():
            if state.lease and state.consumer == gone.consumer:
                self.pending[place] = State(state.attempt - (not dies), 0.0)
        self.members[who] = self.desk.join("next", slot)

    @rule(shard=st.sampled_from([SHARD, OTHER]), back=st.integers(0, 10))
    def seek(self, shard: int, back: int) -> None:
        self.cursors[shard] = max(0, self.desk.ends[shard] - back)
        self.desk.groups.seek("billing", {shard: self.cursors[shard]})
        self.pending = {place: state for place, state in self.pending.items() if place[0] != shard}

    @invariant()
    def counts_agree(self) -> None:
        held = sum(state.lease != 0 for state in self.pending.values())
        ahead = sum(end - self.cursors[shard] for shard, end in self.desk.ends.items())
        assert self.desk.counts() == (ahead + len(self.pending), held, len(self.pending) - held)
        found = self.desk.groups.describe("billing", "orders", self.desk.ends)
        assert found.skipped == sum(self.skipped.values())
        due = min((state.due for state in self.pending.values()), default=None)
        assert self.desk.groups.next_due(self.desk.group) == due

    def teardown(self) -> None:
        self.desk.control.close()


AnyOrder.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
