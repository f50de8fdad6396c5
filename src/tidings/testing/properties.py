"""Responsible for one thing: the named promises about messages, each a function from a `History` to its
violations.

The numbers follow the reliability page of the documentation. A property says nothing about what it cannot
decide: loss and skips are judged for groups that were drained, liveness once the history says that the faults
are over. P8 (exactly-once effect) and P10 (conservation at rest) need the state of the bus besides the
history and are not here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from tidings.testing.history import (
    DEAD_LETTERS,
    Delivered,
    Event,
    History,
    Position,
    Publish,
    Reader,
    Receipt,
    Shard,
    position_of,
    shard_of,
)


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One broken promise: the property's number, what happened, and the events that prove it."""

    property: str
    text: str
    evidence: tuple[Event, ...] = ()


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledged messages that a drained group never got, by where they lie in what it did get of their
    log.

    A lost prefix says that a log began anew, a postfix that a tail was cut or a reader is slow, a middle is
    the worst.
    """

    prefix: int = 0
    middle: int = 0
    postfix: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.prefix + self.middle + self.postfix


def no_acked_publish_lost(history: History) -> list[Violation]:
    """P1: every drained durable group was given every acknowledged message that it is responsible for.

    What the bus itself counted as skipped for the group is allowed for, because it is no silent loss.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        missing = missing_from(history, reader)
        for publish in missing[reader.skipped :]:
            place, receipt = place_of(reader, publish), publish.receipt
            text = f"{publish.first.id} was acknowledged and group {name} never got it ({place})"
            found.append(Violation(property="P1", text=text, evidence=_known(publish.first, receipt)))
    return found


def missing_from(history: History, reader: Reader) -> list[Publish]:
    """The acknowledged messages that a drained reader was owed and never got."""
    if reader.drained is None:
        return []
    owed = (publish for publish in history.publishes.values() if publish.receipt is not None)
    return [publish for publish in owed if publish.first.id not in reader.by_id and reader.owes(publish)]


def place_of(reader: Reader, publish: Publish) -> str:
    """`prefix`, `middle` or `postfix`: where a lost message lies among the delivered ones of its log."""
    receipt = publish.receipt
    assert receipt is not None
    low, high = reader.reach.get(shard_of(receipt), (receipt.offset, receipt.offset))
    if receipt.offset < low:
        return "prefix"
    return "middle" if receipt.offset < high else "postfix"


def no_phantom(history: History) -> list[Violation]:
    """P2: everything delivered was published, on that topic, with exactly those bytes."""
    found: list[Violation] = []
    for delivered in _deliveries(history):
        publish = history.publishes.get(delivered.id)
        wrong = _difference(publish, delivered)
        if wrong:
            evidence = _known(publish.first if publish else None, delivered)
            found.append(Violation(property="P2", text=f"{delivered.id} {wrong}", evidence=evidence))
    return found


def _difference(publish: Publish | None, delivered: Delivered) -> str:
    if publish is None:
        return "was delivered and never published"
    if publish.first.hash != delivered.hash:
        return f"was delivered with other bytes ({delivered.hash}, not {publish.first.hash})"
    if delivered.topic not in (publish.first.topic, DEAD_LETTERS + publish.first.topic):
        return f"was published on {publish.first.topic} and delivered on {delivered.topic}"
    return ""


def no_aborted_read(history: History) -> list[Violation]:
    """P3: a message whose every publish raised the definite error is never delivered."""
    publishes = history.publishes
    return [
        Violation(
            property="P3",
            text=f"{delivered.id} failed definitely and was delivered to {delivered.group}",
            evidence=(publishes[delivered.id].first, delivered),
        )
        for delivered in _deliveries(history)
        if delivered.id in publishes and publishes[delivered.id].failed
    ]


def one_id_one_offset(history: History) -> list[Violation]:
    """P4: on a topic one message id has one offset, and one offset has one message id, for everybody and
    ever.
    """
    place_of_id: dict[tuple[str, str], Receipt | Delivered] = {}
    id_at: dict[Position, Receipt | Delivered] = {}
    found: list[Violation] = []
    for event in _placed(history):
        position = position_of(event)
        known = place_of_id.setdefault((event.topic, event.id), event)
        if known is not event and position_of(known) != position:
            text = f"{event.id} has the places {position_of(known)} and {position}"
            found.append(Violation(property="P4", text=text, evidence=(known, event)))
        holder = id_at.setdefault(position, event)
        if holder.id != event.id:
            text = f"{position} holds {holder.id} and {event.id}"
            found.append(Violation(property="P4", text=text, evidence=(holder, event)))
    return found


def in_order(history: History) -> list[Violation]:
    """P5: first deliveries follow the log per partition and key, and the log follows the time of the
    publishes.

    Deliveries are compared within a consumer, in a group opened with `ordered` over all its consumers; what a
    consumer that ended gave back to a group without ordering may come late.
    """
    return [*_deliveries_against_log(history), *_log_against_time(history)]


def _deliveries_against_log(history: History) -> Iterator[Violation]:
    publishes = history.publishes
    for reader in history.readers.values():
        ordered = reader.opened is not None and reader.opened.ordered
        last: dict[tuple[str | None, Shard, str | None], Delivered] = {}
        for delivered in (deliveries[0] for deliveries in reader.by_id.values()):
            publish = publishes.get(delivered.id)
            if publish is None or delivered.attempt != 1:
                continue
            owner = None if ordered else delivered.consumer
            lane = (owner, shard_of(delivered), publish.first.key)
            previous = last.get(lane)
            if previous is None or previous.offset <= delivered.offset:
                last[lane] = delivered
            elif ordered or not _given_back(reader, delivered):
                text = f"{delivered.group}: {delivered.id} ({delivered.offset}) came after {previous.offset}"
                yield Violation(property="P5", text=text, evidence=(previous, delivered))


def _given_back(reader: Reader, delivered: Delivered) -> bool:
    """Whether another consumer ended before, so that this message may have been in its hands."""
    ends = (end for name, ended in reader.ends.items() if name != delivered.consumer for end in ended)
    return any(end.at < delivered.at for end in ends)


def _log_against_time(history: History) -> Iterator[Violation]:
    shards: dict[Shard, list[tuple[int, Publish, Receipt]]] = defaultdict(list)
    for publish in history.publishes.values():
        if publish.receipt is not None:
            shards[shard_of(publish.receipt)].append((publish.receipt.offset, publish, publish.receipt))
    for entries in shards.values():
        entries.sort(key=lambda entry: -entry[0])
        earliest: Receipt | None = None
        for offset, publish, receipt in entries:
            if earliest is not None and earliest.at < publish.first.at and offset < earliest.offset:
                first, then = earliest.id, publish.first.id
                text = f"{then} ({offset}) was published after {first} ({earliest.offset}) had returned"
                yield Violation(property="P5", text=text, evidence=(earliest, publish.first, receipt))
            if earliest is None or receipt.at < earliest.at:
                earliest = receipt


def no_skip(history: History) -> list[Violation]:
    """P6: a drained group has settled all it was given, and was given all that is stored below its highest
    delivery.

    Acknowledged messages that never came are counted by P1; here are those that only another reader shows to
    be stored, and those that came, were not settled by anybody and never came again (nor were taken back by a
    power cut, see `History.stays`).
    """
    found: list[Violation] = []
    stored = {delivered.id: delivered for delivered in reversed(_deliveries(history))}
    for name, reader in history.readers.items():
        if reader.drained is None or not reader.durable:
            continue
        unsettled = [(given[-1], "was given") for key, given in reader.by_id.items() if not reader.settled(key)]
        skipped = [(delivered, "skipped") for delivered in stored.values() if _passed_over(history, reader, delivered)]
        owed = [each for each in (*unsettled, *skipped) if history.stays(each[0].id)]
        for delivered, how in owed[reader.drained.pending + reader.skipped :]:
            text = f"{delivered.id}: group {name} {how} it, it was never settled and never came again"
            found.append(Violation(property="P6", text=text, evidence=(delivered,)))
    return found


def _passed_over(history: History, reader: Reader, delivered: Delivered) -> bool:
    publish = history.publishes.get(delivered.id)
    if publish is None or publish.receipt is not None or delivered.id in reader.by_id or not reader.owes(publish):
        return False
    _, high = reader.reach.get(shard_of(delivered), (0, -1))
    return delivered.offset < high


def acked_stays_acked(history: History) -> list[Violation]:
    """P7: once an ack returned, the group is never given the message again.

    A consumer that was stopped beyond its lease may still hold a copy that it was handed before.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        for message_id, ack in reader.acks.items():
            for delivered in reader.by_id.get(message_id, ()):
                if delivered.at > ack.at and not _held_copy(reader, delivered):
                    text = f"{message_id} was acked by {ack.consumer} and given again in group {name}"
                    found.append(Violation(property="P7", text=text, evidence=(ack, delivered)))
    return found


def _held_copy(reader: Reader, delivered: Delivered) -> bool:
    """Whether an expired consumer hands out what it claimed before it was stopped (an older attempt than the
    last).
    """
    ends = reader.ends.get(delivered.consumer, ())
    expired = any(end.reason == "expired" and end.at < delivered.at for end in ends)
    newest = max(other.attempt for other in reader.by_id[delivered.id])
    return expired and delivered.attempt < newest


def duplicates_have_causes(history: History) -> list[Violation]:
    """P9: a message comes again at most once for each nack of it and each end of a consumer that held it.

    So duplicates are bounded by what was in flight at deaths, expiries, closes and nacks.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        for message_id, deliveries in reader.by_id.items():
            for index in range(1, len(deliveries)):
                if index > _causes(reader, deliveries[: index + 1]):
                    text = f"{message_id} came again in {name} without a nack or the end of its consumer"
                    evidence = (deliveries[index - 1], deliveries[index])
                    found.append(Violation(property="P9", text=text, evidence=evidence))
    return found


def _causes(reader: Reader, deliveries: list[Delivered]) -> int:
    """How many nacks and ends of holders preceded the last of these deliveries.

    That its own consumer was stopped counts too: it may hand out what it claimed before.
    """
    last = deliveries[-1]
    nacks = sum(nack.at < last.at for nack in reader.nacks.get(last.id, ()))
    ends = (end for holder in {given.consumer for given in deliveries} for end in reader.ends.get(holder, ()))
    return nacks + sum(end.at < last.at for end in ends)


def drained_in_time(history: History) -> list[Violation]:
    """P11: once faults are over, every durable group is drained within the limit that the harness set."""
    healed = history.healed
    if healed is None:
        return []
    found: list[Violation] = []
    for name, reader in history.readers.items():
        if not reader.durable:
            continue
        drained = reader.drained
        if drained is None or drained.at - healed.at > healed.limit:
            took = "was never drained" if drained is None else f"was drained after {drained.at - healed.at} ns"
            text = f"group {name} {took}; the limit is {healed.limit} ns"
            found.append(Violation(property="P11", text=text, evidence=_known(healed, drained)))
    return found


def recovery_idempotent(first: Mapping[str, str], second: Mapping[str, str]) -> list[Violation]:
    """P12: recovering twice gives the same state; the arguments are fingerprints of its parts after each
    recovery.
    """
    return [
        Violation(property="P12", text=f"{part}: {first.get(part)} became {second.get(part)} on a second recovery")
        for part in sorted(first.keys() | second.keys())
        if first.get(part) != second.get(part)
    ]


def storage_clean(problems: Iterable[str]) -> list[Violation]:
    """P13: a check of the files finds nothing; each problem that it did find is a violation."""
    return [Violation(property="P13", text=problem) for problem in problems]


PROPERTIES: Final[tuple[Callable[[History], list[Violation]], ...]] = (
    no_acked_publish_lost,
    no_phantom,
    no_aborted_read,
    one_id_one_offset,
    in_order,
    no_skip,
    acked_stays_acked,
    duplicates_have_causes,
    drained_in_time,
)


def violations(history: History) -> list[Violation]:
    """Everything that the history alone proves to be wrong, in the order of the properties."""
    return [violation for judge in PROPERTIES for violation in judge(history)]


def _deliveries(history: History) -> list[Delivered]:
    return [delivered for reader in history.readers.values() for delivered in reader.deliveries]


def _placed(history: History) -> Iterator[Receipt | Delivered]:
    yield from (publish.receipt for publish in history.publishes.values() if publish.receipt is not None)
    yield from _deliveries(history)


def _known(*events: Event | None) -> tuple[Event, ...]:
    return tuple(event for event in events if event is not None)
