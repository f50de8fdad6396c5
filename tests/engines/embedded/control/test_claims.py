"""What consumers hold: each cell of the state table and each count, and any order of events against a plain model."""

from __future__ import annotations

import json
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.engines.embedded.control.desk import LEASE, OTHER, SHARD, Desk, entry, offsets
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import MAX_CLAIMS, Claim, Lost, Range, Span, Work
from tidings.engines.embedded.control.members import Members
from tidings.errors import Closed

GONE = {"ack": "acked", "skip": "skipped", "expire": "expired", "reject": "dead", "exhaust": "dead"}
"""After which action a message is gone, and as what it counts."""


class TestStateTable:
    def test_claiming_what_is_new_is_the_first_attempt(self, desk: Desk) -> None:
        assert offsets(desk.claim(desk.ann, 3)) == [(0, 1), (1, 1), (2, 1)]
        assert offsets(desk.claim(desk.bob, 3)) == [(3, 1), (4, 1), (5, 1)]
        assert desk.counts() == (10, 6, 0)

    def test_what_is_leased_goes_to_nobody_else(self, desk: Desk) -> None:
        desk.claim(desk.ann)
        assert desk.claim(desk.bob) == desk.claim(desk.ann) == []

    @pytest.mark.parametrize("action", GONE)
    def test_what_is_gone_never_comes_back_and_counts_once(self, desk: Desk, action: str) -> None:
        (claim,) = desk.claim(desk.ann)
        assert desk.settle(claim, action) == []
        assert desk.settle(claim, action) == list(range(10)), "it was settled before"
        desk.now += 10 * LEASE
        assert desk.claim(desk.bob) == []
        assert desk.counts() == (0, 0, 0)
        assert Counter(desk.standing().counts) == Counter({GONE[action]: 10}) + Counter(
            {"failed": 10 if action == "reject" else 0}
        )

    def test_a_nack_brings_it_back_after_its_delay_as_the_next_attempt(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1}
        for attempt in range(1, 4):
            claim = desk.one(desk.ann)
            assert claim.attempt == attempt
            assert desk.counted("redelivered", "failed") == (attempt - 1, attempt - 1)
            assert desk.settle(claim, "nack", 5.0) == []
            assert desk.counts() == (1, 0, 1)
            desk.now += 4.9
            assert desk.claim(desk.bob) == []
            assert desk.next_due() == pytest.approx(desk.now + 0.1)
            desk.now += 0.2

    def test_a_nack_without_a_delay_is_due_now_and_not_before(self, desk: Desk) -> None:
        desk.settle(desk.one(desk.ann), "nack", 0.0)
        assert desk.next_due() == desk.now

    def test_a_release_brings_it_back_at_once_and_does_not_count(self, desk: Desk) -> None:
        for _ in range(3):
            claim = desk.one(desk.ann)
            assert (claim.first, claim.attempt) == (0, 1)
            desk.settle(claim, "release")
            assert desk.next_due() == 0.0
        assert desk.counted("redelivered", "failed", "acked") == (0, 0, 0)

    def test_a_release_for_later_waits(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1}
        desk.settle(desk.one(desk.ann), "release", 5.0)
        assert (desk.claim(desk.bob), desk.next_due()) == ([], desk.now + 5)
        desk.now += 5
        assert offsets(desk.claim(desk.bob)) == [(0, 1)]

    def test_a_lease_that_ended_is_the_next_attempt_of_whoever_comes(self, desk: Desk) -> None:
        old = desk.one(desk.ann)
        desk.now += LEASE - 0.1
        assert offsets(desk.claim(desk.bob, 1)) == [(1, 1)]
        desk.now += 0.2
        assert offsets(desk.claim(desk.bob, 1)) == [(0, 2)]
        assert desk.settle(old, "ack") == [0], "an old lease was honoured"
        assert desk.counted("redelivered", "acked") == (1, 0)

    def test_extending_keeps_it_as_long_as_told(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1}
        claim = desk.one(desk.ann)
        assert desk.settle(claim, "extend", 100.0) == []
        desk.now += 99
        assert desk.claim(desk.bob) == []
        assert desk.settle(claim, "extend", 5.0) == [], "also for less"
        desk.now += 6
        assert offsets(desk.claim(desk.bob)) == [(0, 2)]
        assert desk.settle(claim, "extend", 5.0) == [0]

    def test_a_consumer_that_died_is_a_lease_that_ended(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 3)[0]
        assert desk.members.bury(lambda slot: slot == 1)
        assert offsets(desk.claim(desk.bob, 4)) == [(0, 2), (1, 2), (2, 2), (3, 1)]
        assert desk.settle(claim, "ack") == [0, 1, 2]

    def test_a_consumer_that_leaves_gives_back_and_the_attempt_does_not_count(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 3)[0]
        desk.members.leave(desk.ann.consumer)
        assert offsets(desk.claim(desk.bob, 4)) == [(0, 1), (1, 1), (2, 1), (3, 1)]
        assert desk.settle(claim, "ack") == [0, 1, 2]

    def test_renewing_keeps_and_never_shortens(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 2)[0]
        desk.settle(claim, "extend", 100.0, only=range(1, 2))
        desk.now += 20
        desk.claims.renew(desk.ann.consumer, desk.now + LEASE, 0)
        desk.now += 29
        assert offsets(desk.claim(desk.bob, 1)) == [(2, 1)]
        desk.now += 2
        assert offsets(desk.claim(desk.bob, 2)) == [(0, 2), (3, 1)]
        desk.now += 60
        assert (1, 2) in offsets(desk.claim(desk.bob))

    def test_a_start_of_the_machine_frees_everything(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 2)[0]
        with desk.control.write() as run:
            Members.forget(run)
        assert desk.settle(claim, "ack") == [0, 1]
        assert desk.members.consumers(desk.group) == ()
        desk.now = 1.0  # the monotonic clock began again
        assert offsets(desk.claim(desk.join("carl", 3), 3)) == [(0, 2), (1, 2), (2, 1)]

    def test_what_retention_removed_before_it_was_claimed_is_counted(self, desk: Desk) -> None:
        desk.firsts[SHARD] = 6
        claims = desk.claim(desk.ann)
        assert offsets(claims) == [(offset, 1) for offset in range(6, 10)]
        assert [claim.skipped for claim in claims] == [6]
        assert (desk.counted("skipped"), desk.counts()) == ((6,), (4, 4, 0))

    def test_a_group_that_was_dropped_has_no_consumers(self, desk: Desk) -> None:
        desk.groups.drop("billing")
        with pytest.raises(Closed, match="dropped"):
            desk.claim(desk.ann)
        assert desk.control.read("SELECT count(*) FROM cursors") == [(0,)]


class TestAtMostOnce:
    """A shard without leases: what is claimed is settled."""

    @pytest.fixture(autouse=True)
    def without_leases(self, desk: Desk) -> None:
        desk.unleased = frozenset({SHARD})

    def test_it_is_acked_at_the_claim(self, desk: Desk) -> None:
        (claim,) = desk.claim(desk.ann, 4)
        assert (claim.lease, claim.attempt, len(claim)) == (0, 1, 4)
        assert (desk.counted("acked"), desk.counts()) == ((4,), (6, 0, 0))
        desk.members.bury(lambda slot: slot == 1)
        desk.now += 10 * LEASE
        assert offsets(desk.claim(desk.bob)) == [(offset, 1) for offset in range(4, 10)]

    def test_what_a_consumer_says_has_no_effect(self, desk: Desk) -> None:
        (claim,) = desk.claim(desk.ann, 4)
        for action in ("ack", "nack", "reject", "expire", "release", "extend", "skip", "exhaust"):
            assert desk.settle(claim, action) == []
        assert (desk.counts(), desk.standing().counts["acked"]) == ((6, 0, 0), 4)
        assert sum(desk.standing().counts.values()) == 4

    def test_what_was_not_handed_out_is_restored_and_is_new_again(self, desk: Desk) -> None:
        (claim,) = desk.claim(desk.ann, 4)
        assert desk.settle(claim, "restore", only=range(1, 3)) == []
        assert (desk.counted("acked", "redelivered"), desk.counts()) == ((2, 0), (8, 0, 2))
        assert offsets(desk.claim(desk.bob, 3)) == [(1, 1), (2, 1), (4, 1)]
        assert (desk.counted("acked", "redelivered"), desk.counts()) == ((5, 0), (5, 0, 0))

    def test_part_of_what_was_restored_can_be_claimed(self, desk: Desk) -> None:
        desk.settle(desk.claim(desk.ann, 10)[0], "restore")
        assert offsets(desk.claim(desk.bob, 3)) == [(0, 1), (1, 1), (2, 1)]
        assert (desk.counted("acked"), desk.counts()) == ((3,), (7, 0, 7))

    def test_what_had_expired_counts_as_that_and_not_as_acked(self, desk: Desk) -> None:
        (claim,) = desk.claim(desk.ann, 4)
        desk.settle(claim, "lapse", only=range(3))
        assert (desk.counted("acked", "expired"), desk.counts()) == ((1, 3), (6, 0, 0))

    def test_what_was_leased_before_is_delivered_once_more_at_most(self, desk: Desk) -> None:
        """The topic was altered while something was held."""
        desk.unleased = frozenset()
        held = desk.claim(desk.ann, 2)[0]
        desk.unleased = frozenset({SHARD})
        desk.now += LEASE + 1
        assert offsets(desk.claim(desk.bob, 2)) == [(0, 2), (1, 2)]
        assert desk.settle(held, "ack") == [0, 1]
        desk.now += LEASE + 1
        assert offsets(desk.claim(desk.bob, 1)) == [(2, 1)]
        assert desk.counted("acked", "redelivered") == (3, 2)

    def test_only_these_shards_are(self, desk: Desk) -> None:
        desk.ends = {SHARD: 2, OTHER: 2}
        leases = {claim.shard: claim.lease for claim in desk.claim(desk.ann)}
        assert (leases[SHARD], bool(leases[OTHER])) == (0, True)
        assert desk.counts() == (2, 2, 0)


class TestRanges:
    def test_part_of_a_lease_can_be_settled_in_any_order(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        for offset in (5, 0, 9, 4, 6, 1):
            assert desk.settle(claim, "ack", only=range(offset, offset + 1)) == []
        assert desk.counts() == (4, 4, 0)
        desk.members.bury(lambda slot: True)
        assert offsets(desk.claim(desk.join("carl", 3))) == [(2, 2), (3, 2), (7, 2), (8, 2)]

    def test_settling_again_is_refused_only_for_what_is_settled(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        desk.settle(claim, "ack", only=range(3, 6))
        assert desk.settle(claim, "ack") == [3, 4, 5]
        assert (desk.counts(), desk.counted("acked")) == ((0, 0, 0), (10,))

    def test_many_small_retries_are_claimed_in_bounded_portions(self, desk: Desk) -> None:
        desk.ends = {SHARD: 2 * MAX_CLAIMS + 20}
        claim = desk.claim(desk.ann, 1000)[0]
        for offset in range(0, claim.last + 1, 2):
            desk.settle(claim, "nack", only=range(offset, offset + 1))
        claims = desk.claim(desk.bob, 1000)
        assert len(claims) == MAX_CLAIMS
        assert len(desk.claim(desk.bob, 1000)) == 10

    def test_what_is_due_comes_first_and_in_the_order_of_the_log(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 6)[0]
        for offset, seconds in ((4, 1.0), (2, 3.0), (0, 2.0)):
            desk.settle(claim, "nack", seconds, only=range(offset, offset + 1))
        desk.now += 5
        assert offsets(desk.claim(desk.bob, 4)) == [(0, 2), (2, 2), (4, 2), (6, 1)]

    def test_shards_that_a_consumer_does_not_read_stay_for_others(self, desk: Desk) -> None:
        desk.ends = {SHARD: 1, OTHER: 1}
        for claim in desk.claim(desk.ann):
            desk.settle(claim, "release")
        half = Member(desk.group, desk.bob.consumer, json.dumps([OTHER]), LEASE)
        assert (desk.next_due(half), desk.next_due()) == (0.0, 0.0)
        desk.ends = {OTHER: 1}
        assert [claim.shard for claim in desk.claim(half)] == [OTHER]
        assert (desk.next_due(half), desk.next_due()) == (desk.now + LEASE, 0.0)

    def test_new_messages_are_claimed_in_the_order_of_the_spans(self, desk: Desk) -> None:
        spans = {OTHER: Span(0, 4), SHARD: Span(0, 4)}
        claims = desk.claims.claim(desk.ann, spans, 6, desk.now, 0)
        assert [(claim.shard, len(claim)) for claim in claims] == [(OTHER, 4), (SHARD, 2)]


class TestLetters:
    """Dead letters are staged together with the end of their message."""

    def settle(self, desk: Desk, claim: Claim, offset: int) -> list[tuple[int, int]]:
        part = Range(claim.shard, offset, offset, claim.lease, "reject")
        letter = entry(f"letter {offset}", answers=(claim.lease, offset))
        return desk.claims.settle(desk.group, [part], desk.now, 0, [letter])

    def test_a_letter_is_staged_once(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        assert self.settle(desk, claim, 3) == []
        assert self.settle(desk, claim, 3) == [(claim.lease, 3)]
        assert desk.staged() == ["letter 3"]

    def test_only_the_letters_of_what_was_held_are_staged(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann)[0]
        desk.settle(claim, "ack", only=range(1))
        parts = [Range(SHARD, offset, offset, claim.lease, "reject") for offset in range(3)]
        letters = [entry(f"{offset}", answers=(claim.lease, offset)) for offset in range(3)]
        assert desk.claims.settle(desk.group, parts, desk.now, 0, letters) == [(claim.lease, 0)]
        assert desk.staged() == ["1", "2"]
        assert desk.counted("acked", "dead") == (1, 2)


class TestTransactions:
    def work(self, desk: Desk, claim: Claim, moved: tuple[int, ...] = ()) -> Work:
        part = Range(claim.shard, claim.first, claim.last, claim.lease, "ack")
        return Work(desk.group, [part], [entry("a"), entry("b")], moved, False)

    def test_acks_outputs_and_what_was_moved_commit_together(self, desk: Desk) -> None:
        old = desk.outbox.add([entry("old"), entry("kept")], 0, False)
        ids = desk.claims.commit(self.work(desk, desk.claim(desk.ann, 3)[0], (old[0],)), desk.now)
        assert desk.staged() == ["kept", "a", "b"]
        assert ids == sorted(set(ids))
        assert len(ids) == 2
        assert (desk.counted("acked"), desk.counts()) == ((3,), (7, 0, 0))

    def test_with_one_delivery_lost_nothing_happens(self, desk: Desk) -> None:
        (old,) = desk.outbox.add([entry("old")], 0, False)
        claim = desk.claim(desk.ann, 3)[0]
        desk.settle(claim, "release", only=range(1, 2))
        with pytest.raises(Lost) as error:
            desk.claims.commit(self.work(desk, claim, (old,)), desk.now)
        assert error.value.lost == [(claim.lease, 1)]
        assert desk.staged() == ["old"]
        assert (desk.counted("acked"), desk.counts()) == ((0,), (10, 2, 1))

    def test_it_can_say_anything_of_a_delivery(self, desk: Desk) -> None:
        claim = desk.claim(desk.ann, 3)[0]
        parts = [Range(SHARD, at, at, claim.lease, action, 9.0) for at, action in enumerate(("ack", "nack", "extend"))]
        desk.claims.commit(Work(desk.group, parts, (), (), True), desk.now)
        assert (desk.counted("acked", "failed"), desk.counts()) == ((1, 1), (9, 1, 1))


# -- any order of events


class State(NamedTuple):
    """Of one message: `attempt` deliveries so far; `lease` 0 is free; claimable when `due` has passed."""

    attempt: int
    due: float
    lease: int = 0
    consumer: int = 0


class AnyOrder(RuleBasedStateMachine):
    """`pending` maps (shard, offset) to its state; what is below the cursor and not in it is gone, and counted."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.desk.ends = {SHARD: 0, OTHER: 0}
        self.members = [self.desk.ann, self.desk.bob]
        self.cursors = {SHARD: 0, OTHER: 0}
        self.totals: Counter[str] = Counter()
        self.pending: dict[tuple[int, int], State] = {}

    @rule(shard=st.sampled_from([SHARD, OTHER]), count=st.integers(1, 8))
    def publish(self, shard: int, count: int) -> None:
        self.desk.ends[shard] += count

    @rule(shard=st.sampled_from([SHARD, OTHER]), count=st.integers(1, 8))
    def retain(self, shard: int, count: int) -> None:
        """Retention removes the oldest messages of a shard."""
        self.desk.firsts[shard] = min(self.desk.ends[shard], self.desk.firsts[shard] + count)

    @rule(shard=st.sampled_from([SHARD, OTHER]), count=st.integers(1, 8), back=st.integers(0, 4))
    def drop_oldest(self, shard: int, count: int, back: int) -> None:
        end = max(0, self.desk.ends[shard] - back)
        expected = max(0, min(count, end - self.cursors[shard]))
        assert self.desk.groups.drop_oldest(self.desk.group, shard, count, end, self.desk.now) == expected
        self.cursors[shard] += expected
        self.totals["skipped"] += expected

    @rule(leases=st.booleans())
    def alter(self, leases: bool) -> None:
        """The topic of one shard delivers at most once, or at least once again."""
        self.desk.unleased = frozenset() if leases else frozenset({OTHER})

    @rule(target=claims, who=st.integers(0, 1), limit=st.integers(1, 12))
    def claim(self, who: int, limit: int) -> list[Claim]:
        desk, member = self.desk, self.members[who]
        expected = sorted(place for place, state in self.pending.items() if state.due <= desk.now)[:limit]
        for shard, end in desk.ends.items():
            first = max(self.cursors[shard], desk.firsts[shard])
            new = range(first, min(end, first + limit - len(expected)))
            if new:
                self.totals["skipped"] += first - self.cursors[shard]
                self.cursors[shard] = new[-1] + 1
            expected += [(shard, offset) for offset in new]
        claims = desk.claim(member, limit)
        found = {(claim.shard, at): claim for claim in claims for at in range(claim.first, claim.last + 1)}
        assert sorted(found) == sorted(expected)
        for place, claim in found.items():
            self.take(place, claim, member.consumer)
        return claims

    def take(self, place: tuple[int, int], claim: Claim, consumer: int) -> None:
        before = self.pending.pop(place, None)
        assert claim.attempt == (before.attempt if before else 0) + 1
        assert bool(claim.lease) == (claim.shard not in self.desk.unleased)
        self.totals["redelivered"] += claim.attempt > 1
        if claim.lease:
            self.pending[place] = State(claim.attempt, self.desk.now + LEASE, claim.lease, consumer)
        else:
            self.totals["acked"] += 1

    @rule(
        claims=claims,
        action=st.sampled_from(["ack", "ack", "nack", "release", "extend", "skip", "reject", "expire", "exhaust"]),
        cut=st.tuples(st.integers(0, 7), st.integers(1, 8)),
        seconds=st.sampled_from([0.0, 10.0, 100.0]),
    )
    def settle(self, claims: list[Claim], action: str, cut: tuple[int, int], seconds: float) -> None:
        """Also long after the lease was lost, and again."""
        for claim in claims:
            part = range(claim.first, claim.last + 1)[cut[0] : cut[0] + cut[1]]
            if part:
                expected = [at for at in part if claim.lease and not self.apply(claim, at, action, seconds)]
                assert self.desk.settle(claim, action, seconds, only=part) == expected

    def apply(self, claim: Claim, offset: int, action: str, seconds: float) -> bool:
        """What settling does to one message; false when it is no longer under this lease."""
        place, now = (claim.shard, offset), self.desk.now
        state = self.pending.get(place)
        if state is None or state.lease != claim.lease:
            return False
        self.totals["failed"] += action in ("nack", "reject")
        if action in GONE:
            del self.pending[place]
            self.totals[GONE[action]] += 1
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
        self.desk.claims.renew(consumer, until, 0)
        for place, state in self.pending.items():
            if state.lease and state.consumer == consumer:
                self.pending[place] = state._replace(due=max(state.due, until))

    @rule(who=st.integers(0, 1), dies=st.booleans())
    def go(self, who: int, dies: bool) -> None:
        """A consumer dies or leaves; another one comes in its place."""
        gone, slot = self.members[who], who + 1
        if dies:
            assert self.desk.members.bury(lambda other: other == slot)
        else:
            self.desk.members.leave(gone.consumer)
        for place, state in self.pending.items():
            if state.lease and state.consumer == gone.consumer:
                self.pending[place] = State(state.attempt - (not dies), 0.0)
        self.members[who] = self.desk.join("next", slot)

    @rule(shard=st.sampled_from([SHARD, OTHER]), back=st.integers(0, 10))
    def seek(self, shard: int, back: int) -> None:
        self.cursors[shard] = max(0, self.desk.ends[shard] - back)
        self.desk.groups.seek("billing", {shard: self.cursors[shard]}, self.desk.now)
        self.pending = {place: state for place, state in self.pending.items() if place[0] != shard}

    @invariant()
    def counts_agree(self) -> None:
        held = sum(state.lease != 0 for state in self.pending.values())
        ahead = sum(end - self.cursors[shard] for shard, end in self.desk.ends.items())
        assert self.desk.counts() == (ahead + len(self.pending), held, len(self.pending) - held)
        assert +Counter(self.desk.standing().counts) == +self.totals
        assert self.desk.next_due() == min((state.due for state in self.pending.values()), default=None)

    def teardown(self) -> None:
        self.desk.control.close()


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
