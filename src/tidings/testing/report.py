"""Responsible for one thing: the verdict on a history, with the figures a person wants to see beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from tidings.testing.history import History, Reader
from tidings.testing.properties import Lost, Violation, missing_from, place_of, violations
from tidings.testing.properties.effects import has_effect
from tidings.testing.properties.keyorder import hand_overs, lanes

SHOWN_VIOLATIONS: Final = 20  # a screenful; the report holds them all


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What became of delivery policies, counted. A transaction that was `dropped` was given up before its commit or
    refused; one that was `unanswered` took effect or not.
    """

    committed: int
    dropped: int
    unanswered: int
    unanswered_effective: int
    outputs: int
    republished: int
    buried: int
    redriven: int
    expired: int
    scheduled: int
    cancelled: int
    ordered_keys: int
    hand_overs: int
    matched: int
    filtered: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, counted. Messages are counted once per id, deliveries once per reader and event."""

    published: int
    acked: int
    failed: int
    unknown: int
    unknown_appeared: int
    delivered: int
    redelivered: int
    duplicates: int
    settled: int
    refused: int
    nacked: int
    deaths: int
    expiries: int
    skipped: int
    phantoms: int
    lost: Lost
    redelivery_delays: tuple[int, ...]
    policies: Policies


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures and every violation; `str()` is readable, `ok` says whether there is none."""

    figures: Figures
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether no property is violated."""
        return not self.violations

    def __str__(self) -> str:
        return "\n".join((_figures_text(self.figures), *_violation_lines(self.violations)))


def check(history: History, more: Iterable[Violation] = ()) -> Report:
    """Judge a history by every property; `more` are the violations found by other means (P12, P13)."""
    found = (*violations(history), *more)
    return Report(figures=_count(history, found), violations=found)


def _count(history: History, found: tuple[Violation, ...]) -> Figures:
    publishes = [publish for publish in history.publishes.values() if not publish.first.transaction]
    readers = history.readers.values()
    delivered_ids = {message_id for reader in readers for message_id in reader.by_id}
    unknown = [publish.first.id for publish in publishes if publish.unknown]
    ends = Counter(end.reason for reader in readers for ended in reader.ends.values() for end in ended)
    deliveries = [delivered for reader in readers for delivered in reader.deliveries]
    return Figures(
        published=len(publishes),
        acked=sum(publish.receipt is not None for publish in publishes),
        failed=sum(publish.failed for publish in publishes),
        unknown=len(unknown),
        unknown_appeared=sum(message_id in delivered_ids for message_id in unknown),
        delivered=len(deliveries),
        redelivered=sum(delivered.attempt > 1 for delivered in deliveries),
        duplicates=len(deliveries) - sum(len(reader.by_id) for reader in readers),
        settled=sum(len(reader.acks) for reader in readers),
        refused=sum(reader.refused for reader in readers),
        nacked=sum(reader.nacked for reader in readers),
        deaths=ends["died"],
        expiries=ends["expired"],
        skipped=sum(reader.skipped for reader in readers),
        phantoms=sum(violation.property == "P2" for violation in found),
        lost=_lost(history),
        redelivery_delays=tuple(delay for reader in readers for delay in _delays(reader)),
        policies=_policies(history),
    )


def _policies(history: History) -> Policies:
    publishes, readers = history.publishes.values(), history.readers.values()
    transactions = history.transactions.values()
    unanswered = [each for each in transactions if each.ok is None and not each.dropped]
    return Policies(
        committed=sum(each.ok is not None for each in transactions),
        dropped=sum(each.dropped for each in transactions),
        unanswered=len(unanswered),
        unanswered_effective=sum(has_effect(history, each) for each in unanswered),
        outputs=sum(output.id in history.seen for each in transactions for output in each.outputs),
        republished=sum(publish.attempts > 1 and not publish.first.redriven for publish in publishes),
        buried=sum(len(letters) for reader in readers for letters in reader.dead.values()),
        redriven=sum(bool(publish.first.redriven) and publish.receipt is not None for publish in publishes),
        expired=sum(counted.expired for reader in readers for counted in reader.counted.values()),
        scheduled=sum(publish.scheduled and not publish.first.redriven for publish in publishes),
        cancelled=sum(publish.cancelled for publish in publishes),
        ordered_keys=sum(len(lanes(history, reader)) for reader in readers),
        hand_overs=sum(hand_overs(history, reader) for reader in readers),
        matched=sum(len(reader.by_id) for reader in readers if reader.opened is not None and reader.opened.filter),
        filtered=sum(counted.filtered for reader in readers for counted in reader.counted.values()),
    )


def _lost(history: History) -> Lost:
    places: Counter[str] = Counter()
    for reader in history.readers.values():
        places.update(place_of(reader, publish) for publish in missing_from(history, reader)[reader.skipped :])
    return Lost(prefix=places["prefix"], middle=places["middle"], postfix=places["postfix"])


def _delays(reader: Reader) -> Iterable[int]:
    """Nanoseconds from the end of the consumer that held a message to its next delivery."""
    for deliveries in reader.by_id.values():
        for before, after in pairwise(deliveries):
            ends = [end.at for end in reader.ends.get(before.consumer, ()) if before.at <= end.at < after.at]
            if ends:
                yield after.at - ends[-1]


def _figures_text(figures: Figures) -> str:
    counts = msgspec.structs.asdict(figures)
    lost = figures.lost
    lines = (
        "published {published}: acked {acked}, failed {failed}, unknown {unknown}"
        " (of which {unknown_appeared} appeared)\n"
        "delivered {delivered}: redelivered {redelivered}, duplicates {duplicates}, phantoms {phantoms}\n"
        "settled {settled}, refused {refused}, nacked {nacked}, skipped {skipped};"
        " consumers died {deaths}, expired {expiries}\n".format(**counts)
        + f"lost: prefix {lost.prefix}, middle {lost.middle}, postfix {lost.postfix}"
    )
    return "\n".join((lines, *policy_lines(figures.policies)))


def policy_lines(policies: Policies) -> list[str]:
    """The counts of the delivery policies that were used, a line each."""
    counts = msgspec.structs.asdict(policies)
    return [
        text.format(**counts) for text, names in _POLICY_TEXTS.items() if any(counts[name] for name in names.split())
    ]


_POLICY_TEXTS: Final = {
    "transactions committed {committed}, dropped {dropped}, without an answer {unanswered}"
    " (of which {unanswered_effective} took effect), outputs {outputs}": "committed dropped unanswered",
    "published again with the same id {republished}": "republished",
    "dead letters {buried}, redriven {redriven}, expired {expired}": "buried redriven expired",
    "scheduled {scheduled}, taken back {cancelled}": "scheduled cancelled",
    "ordered keys {ordered_keys}, partitions handed over {hand_overs}": "ordered_keys",
    "filters let through {matched}, groups passed over {filtered}": "matched filtered",
}
"""Lines of the report, and the counts of which one must not be zero for the line to be shown."""


def _violation_lines(found: tuple[Violation, ...]) -> Iterable[str]:
    if not found:
        yield "no property is violated"
        return
    counts = sorted(Counter(violation.property for violation in found).items())
    yield "VIOLATED: " + ", ".join(f"{name} {count} times" for name, count in counts)
    for violation in found[:SHOWN_VIOLATIONS]:
        yield f"  {violation.property}: {violation.text}"
        yield from (f"      {event}" for event in violation.evidence)
    if len(found) > SHOWN_VIOLATIONS:
        yield f"  and {len(found) - SHOWN_VIOLATIONS} more"
