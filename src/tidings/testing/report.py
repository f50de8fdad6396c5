"""Responsible for one thing: the verdict on a history, with the figures a person wants to see beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from tidings.testing.history import History, Reader
from tidings.testing.properties import Lost, Violation, missing_from, place_of, violations

SHOWN_VIOLATIONS: Final = 20  # a screenful; the report holds them all


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
    publishes, readers = history.publishes.values(), history.readers.values()
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
        refused=sum(reader.refused.total() for reader in readers),
        nacked=sum(len(nacks) for reader in readers for nacks in reader.nacks.values()),
        deaths=ends["died"],
        expiries=ends["expired"],
        skipped=sum(reader.skipped for reader in readers),
        phantoms=sum(violation.property == "P2" for violation in found),
        lost=_lost(history),
        redelivery_delays=tuple(delay for reader in readers for delay in _delays(reader)),
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
    return (
        "published {published}: acked {acked}, failed {failed}, unknown {unknown}"
        " (of which {unknown_appeared} appeared)\n"
        "delivered {delivered}: redelivered {redelivered}, duplicates {duplicates}, phantoms {phantoms}\n"
        "settled {settled}, refused {refused}, nacked {nacked}, skipped {skipped};"
        " consumers died {deaths}, expired {expiries}\n".format(**counts)
        + f"lost: prefix {lost.prefix}, middle {lost.middle}, postfix {lost.postfix}"
    )


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
