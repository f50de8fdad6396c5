"""Responsible for one thing: what becomes of published messages: P1 to P4 and the log's half of P5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from tidings.testing.events import NO_PLACE, Delivered, Receipt
from tidings.testing.history import History, Position, Publish, Reader, Shard, position_of, shard_of
from tidings.testing.properties.violation import Violation, known

DEAD_LETTERS: Final = "dead-letters/"


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
    """P1: every drained group and every temporary subscription that came to its end was given every acknowledged
    message that it is responsible for: all that its filter lets through.

    What the bus itself counted as skipped for the group is allowed for, because it is no silent loss. Messages that
    may have expired, been taken back or died are left to P10.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        missing = missing_from(history, reader)
        for publish in missing[reader.skipped :]:
            place, receipt = place_of(reader, publish), publish.receipt
            text = f"{publish.first.id} was acknowledged and group {name} never got it ({place})"
            found.append(Violation(property="P1", text=text, evidence=known(publish.first, receipt)))
    return found


def missing_from(history: History, reader: Reader) -> list[Publish]:
    """The acknowledged messages that a drained reader was owed and never got."""
    if reader.drained is None:
        return []
    owed = (publish for publish in history.publishes.values() if publish.receipt is not None)
    return [publish for publish in owed if reader.owes(publish) and not _accounted(reader, publish)]


def _accounted(reader: Reader, publish: Publish) -> bool:
    assert reader.drained is not None
    came = publish.first.id in reader.by_id or publish.first.id in reader.dead
    later = max(publish.first.at, publish.overdue) > reader.drained.at
    return came or later or publish.expires > 0 or publish.cancelling


def place_of(reader: Reader, publish: Publish) -> str:
    """`prefix`, `middle` or `postfix`: where a lost message lies among the delivered ones of its log."""
    receipt = publish.receipt
    assert receipt is not None
    low, high = reader.reach.get(shard_of(receipt), (receipt.offset, receipt.offset))
    if receipt.offset < low:
        return "prefix"
    return "middle" if receipt.offset < high else "postfix"


def no_phantom(history: History) -> list[Violation]:
    """P2: everything delivered was published, on that topic, with exactly those bytes and that priority, and the
    reader's filter lets it through.
    """
    found: list[Violation] = []
    for delivered in deliveries(history):
        publish = history.publishes.get(delivered.id)
        wrong = _difference(publish, delivered, history.readers[delivered.group])
        if wrong:
            evidence = known(publish.first if publish else None, delivered)
            found.append(Violation(property="P2", text=f"{delivered.id} {wrong}", evidence=evidence))
    return found


def _difference(publish: Publish | None, delivered: Delivered, reader: Reader) -> str:
    if publish is None:
        return "was delivered and never published"
    if publish.first.hash != delivered.hash:
        return f"was delivered with other bytes ({delivered.hash}, not {publish.first.hash})"
    if publish.first.priority != delivered.priority:
        return f"was published with priority {publish.first.priority} and delivered with {delivered.priority}"
    if delivered.topic not in (publish.first.topic, DEAD_LETTERS + publish.first.topic):
        return f"was published on {publish.first.topic} and delivered on {delivered.topic}"
    if not reader.wants(publish) and reader.opened is not None:
        return f"was delivered to {delivered.group}, whose filter {reader.opened.filter!r} does not let it through"
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
        for delivered in deliveries(history)
        if delivered.id in publishes and publishes[delivered.id].failed
    ]


def one_id_one_offset(history: History) -> list[Violation]:
    """P4: on a topic one message id has one offset, and one offset has one message id, for everybody and
    ever. (An id that was published again is P8's.)
    """
    place_of_id: dict[tuple[str, str], Receipt | Delivered] = {}
    id_at: dict[Position, Receipt | Delivered] = {}
    found: list[Violation] = []
    for event in placed(history):
        position = position_of(event)
        first = place_of_id.setdefault((event.topic, event.id), event)
        if position_of(first) != position and not _repeated(history, event.id):
            text = f"{event.id} has the places {position_of(first)} and {position}"
            found.append(Violation(property="P4", text=text, evidence=(first, event)))
        holder = id_at.setdefault(position, event)
        if holder.id != event.id:
            text = f"{position} holds {holder.id} and {event.id}"
            found.append(Violation(property="P4", text=text, evidence=(holder, event)))
    return found


def _repeated(history: History, message_id: str) -> bool:
    publish = history.publishes.get(message_id)
    return publish is not None and publish.attempts > 1


def log_in_order(history: History) -> Iterator[Violation]:
    """The log follows the time of the publishes (a part of P5)."""
    shards: dict[Shard, list[tuple[int, Publish, Receipt]]] = defaultdict(list)
    for publish in history.publishes.values():
        if publish.receipt is not None and not publish.scheduled:
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


def deliveries(history: History) -> list[Delivered]:
    """All of them, whoever was given them."""
    return [delivered for reader in history.readers.values() for delivered in reader.deliveries]


def placed(history: History) -> Iterator[Receipt | Delivered]:
    """Every event that names the place of a message."""
    for publish in history.publishes.values():
        yield from (receipt for receipt in publish.receipts if receipt.offset != NO_PLACE)
    yield from (delivered for delivered in deliveries(history) if delivered.offset != NO_PLACE)
