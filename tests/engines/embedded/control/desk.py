"""A group with two consumers and a time that the test says, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import Claim, Claims, Range, Span
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.control.groups import Groups, Standing
from tidings.engines.embedded.control.members import Applicant, Members
from tidings.engines.embedded.control.outbox import Entry, Outbox
from tidings.model.message import Record

LEASE = 30.0
SHARD, OTHER = 4, 9


def applicant(group: int | None, name: str, slot: int, *, ordering: bool = False, topic: str = "orders") -> Applicant:
    return Applicant(
        group=group,
        name=name,
        slot=slot,
        pid=100 + slot,
        patterns=(topic,),
        ordering=ordering,
        since=5.0,
        until=1000.0 + LEASE,
    )


class Desk:
    """A group named "billing", its consumers `ann` and `bob`, the ends of two logs, and what is staged."""

    def __init__(self) -> None:
        self.control = Control(None, None)
        self.groups = Groups(self.control)
        self.claims = Claims(self.control)
        self.members = Members(self.control)
        self.outbox = Outbox(self.control)
        self.now = 1000.0
        self.group = self.groups.bind("billing", ["orders"], {}, self.now)
        self.ends = {SHARD: 10}
        self.firsts = {SHARD: 0, OTHER: 0}
        self.unleased: frozenset[int] = frozenset()
        self.ann, self.bob = self.join("ann", 1), self.join("bob", 2)

    def join(self, name: str, slot: int, group: int | None = None) -> Member:
        group = group or self.group
        number = self.members.join(applicant(group, name, slot), {})
        return Member(group, number, json.dumps([SHARD, OTHER]), LEASE)

    def claim(self, who: Member, limit: int = 100) -> list[Claim]:
        who.unleased = self.unleased
        return self.claims.claim(who, self.spans(), limit, self.now, 0)

    def spans(self) -> dict[int, Span]:
        """What the log of each shard holds."""
        return {shard: Span(self.firsts[shard], end) for shard, end in self.ends.items()}

    def one(self, who: Member) -> Claim:
        (claim,) = self.claim(who, 1)
        return claim

    def settle(self, claim: Claim, action: str, seconds: float = 0.0, *, only: range | None = None) -> list[int]:
        """Settle a claim, or some offsets of it; return the offsets that were lost."""
        places = only or range(claim.first, claim.last + 1)
        part = Range(claim.shard, places[0], places[-1], claim.lease, action, seconds)
        return [offset for _, offset in self.claims.settle(self.group, [part], self.now, 0)]

    def standing(self) -> Standing:
        return self.groups.standing(self.group, {SHARD: 0, OTHER: 0, **self.ends}, self.now)

    def counts(self) -> tuple[int, int, int]:
        """Lag, held and retrying."""
        found = self.standing()
        return found.lag, found.held, found.retrying

    def counted(self, *names: str) -> tuple[int, ...]:
        """Some of the totals."""
        totals = self.standing().counts
        return tuple(totals[name] for name in names)

    def next_due(self, who: Member | None = None) -> float | None:
        return self.claims.next_due(who or self.ann, self.now)

    def staged(self) -> list[str]:
        """The data of what is staged."""
        return [row.record.data.decode() for row in self.outbox.due(1e18, 1000)]


def offsets(claims: Sequence[Claim]) -> list[tuple[int, int]]:
    """What was claimed, and for which attempt."""
    return [(offset, claim.attempt) for claim in claims for offset in range(claim.first, claim.last + 1)]


def entry(data: str, topic: str = "out", **options: object) -> Entry:
    record = Record(f"id-{data}", "t", data.encode())
    return Entry(topic=topic, record=record, priority=5, **options)  # type: ignore[arg-type]
