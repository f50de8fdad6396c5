"""Responsible for one thing: the merged record of all processes, and the views of it that properties are written on.

`tidings.testing.events` says what is written down; `tidings.testing.properties` judges.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final

from tidings.testing.events import (
    NO_PLACE,
    AckInvoked,
    AckOk,
    AckRefused,
    AnyEvent,
    Buried,
    CancelInvoked,
    CancelOk,
    CommitInvoked,
    CommitOk,
    CommitRefused,
    ConsumerEnded,
    Counted,
    Declared,
    Delivered,
    Drained,
    Failed,
    Healed,
    Invoked,
    Nacked,
    Opened,
    Receipt,
    Rejected,
    Skipped,
    Waiting,
    read_events,
)

EVERY_LEVEL: Final = frozenset({"memory", "os", "disk", "quorum"})

Shard = tuple[str, int, str]
Position = tuple[str, int, str, int]
Call = AckInvoked | Nacked | CommitInvoked


def shard_of(event: Receipt | Delivered) -> Shard:
    """The log that the event is about: topic, partition, priority."""
    return (event.topic, event.partition, event.priority)


def position_of(event: Receipt | Delivered) -> Position:
    """The place in that log."""
    return (event.topic, event.partition, event.priority, event.offset)


class Publish:
    """Everything known about one message id, over all its retries.

    It may be delivered from `due` on, and surely is to be from `overdue` on: which of its publishes is stored is not
    known. `expires` is the latest time.
    """

    __slots__ = (
        "attempts",
        "cancelled",
        "cancelling",
        "due",
        "expires",
        "failures",
        "first",
        "overdue",
        "receipt",
        "receipts",
    )

    def __init__(self, first: Invoked) -> None:
        self.first = first
        self.receipt: Receipt | None = None
        self.receipts: list[Receipt] = []
        self.attempts = self.failures = self.expires = self.overdue = 0
        self.due = first.due
        self.cancelling = self.cancelled = False

    @property
    def failed(self) -> bool:
        """Whether every attempt was definitely refused."""
        return self.receipt is None and self.failures == self.attempts

    @property
    def unknown(self) -> bool:
        """Whether it may or may not be stored."""
        return self.receipt is None and self.failures < self.attempts

    @property
    def scheduled(self) -> bool:
        """Whether it is stored and was not in its log when the publish returned."""
        return self.receipt is not None and self.receipt.offset == NO_PLACE

    def note(self, event: Invoked | Receipt | Failed | CancelInvoked | CancelOk) -> None:
        """Take in one more event about this id."""
        match event:
            case Invoked():
                self.attempts += 1
                self.expires = max(self.expires, event.expires)
                self.due, self.overdue = min(self.due, event.due), max(self.overdue, event.due)
            case Receipt():
                self.receipt = self.receipt or event
                self.receipts.append(event)
            case Failed():
                self.failures += 1
            case CancelInvoked():
                self.cancelling = True
            case CancelOk():
                self.cancelled = self.cancelled or event.done


class Reader:
    """Everything known about one group or temporary subscription; events are in time order.

    `calls` are the acks, nacks, rejects and commits of a message that were not refused; `acks` the first answer to an
    ack or commit of a message, and `acked_alone` those that an ack was answered for.
    """

    __slots__ = (
        "acked_alone",
        "acks",
        "by_id",
        "calls",
        "commits",
        "counted",
        "dead",
        "deliveries",
        "drained",
        "ends",
        "nacked",
        "opened",
        "reach",
        "refused",
        "rejects",
        "skipped",
        "voided",
    )

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.drained: Drained | None = None
        self.deliveries: list[Delivered] = []
        self.by_id: dict[str, list[Delivered]] = {}
        self.calls: dict[str, list[Call]] = {}
        self.acks: dict[str, AckOk | CommitOk] = {}
        self.acked_alone: set[str] = set()
        self.rejects: dict[str, Rejected] = {}
        self.commits: dict[str, CommitInvoked] = {}
        self.ends: dict[str, list[ConsumerEnded]] = {}
        self.dead: dict[str, list[Buried]] = {}
        self.counted: dict[str, Counted] = {}
        self.reach: dict[Shard, tuple[int, int]] = {}
        self.voided: dict[tuple[str, str], int] = {}
        self.skipped = self.refused = self.nacked = 0

    def settled(self, message_id: str) -> bool:
        """Whether it was given up, or somebody rejected or acked it: confirmed, or not refused (the answer may be
        unknown).
        """
        calls = self.last_calls(message_id)
        return message_id in self.dead or any(not isinstance(call, Nacked) or not call.requeue for call in calls)

    def last_calls(self, message_id: str) -> list[Call]:
        """The calls since the last attempt: that it was given again shows that those before had no effect."""
        given = self.by_id.get(message_id)
        since = max(given, key=lambda each: (each.attempt, each.at)).at if given else 0
        return [call for call in self.calls.get(message_id, ()) if call.at > since]

    def nacks(self, message_id: str) -> list[Nacked]:
        """The nacks and rejects of a message that were not refused."""
        return [call for call in self.calls.get(message_id, ()) if isinstance(call, Nacked)]

    @property
    def durable(self) -> bool:
        """Whether it keeps its place when nobody is attached."""
        return self.opened is not None and self.opened.durable

    def covers(self, topic: str) -> bool:
        """Whether it is bound to be given what is published on this topic."""
        return self.opened is not None and (not self.opened.topics or topic in self.opened.topics)

    def wants(self, publish: Publish) -> bool:
        """Whether its filter lets the message through, if it has one."""
        return self.opened is None or not self.opened.filter or self.opened.filter in publish.first.matches

    def owes(self, publish: Publish) -> bool:
        """Whether this reader is bound to be given the message, if the message is stored and the reader gets so far."""
        opened = self.opened
        if opened is None or not self.covers(publish.first.topic) or not self.wants(publish):
            return False
        return opened.from_beginning or publish.first.at > opened.at


class Transaction:
    """What is known of one transaction."""

    __slots__ = ("commit", "group", "ok", "outputs", "refused")

    def __init__(self) -> None:
        self.group = ""
        self.outputs: list[Invoked] = []
        self.commit: CommitInvoked | None = None
        self.ok: CommitOk | None = None
        self.refused = False

    @property
    def dropped(self) -> bool:
        """Whether nothing of it may have taken effect."""
        return self.commit is None or self.refused


class History:
    """The merged events of all processes, in time order, and the views the properties are written on.

    `surviving` names the durability levels that the injected faults must not break: after a power cut only
    what was acknowledged at `disk` (or `quorum`) is promised, and weaker receipts count as unknown.
    """

    def __init__(self, events: Iterable[AnyEvent], surviving: frozenset[str] = EVERY_LEVEL) -> None:
        self.events = sorted(events, key=lambda event: event.at)
        self.surviving = surviving

    @classmethod
    def merge(cls, paths: Iterable[Path], surviving: frozenset[str] = EVERY_LEVEL) -> History:
        """Read and merge history files; raises `HistoryDamaged` for anything but a torn last line."""
        return cls((event for path in paths for event in read_events(path)), surviving)

    @cached_property
    def publishes(self) -> dict[str, Publish]:
        """What was published, by message id, in the order first attempted."""
        found: dict[str, Publish] = {}
        for event in self.events:
            if isinstance(event, Invoked):
                found.setdefault(event.id, Publish(event)).note(event)
            elif isinstance(event, Receipt) and event.durability not in self.surviving:
                continue
            elif isinstance(event, Receipt | Failed | CancelInvoked | CancelOk) and event.id in found:
                found[event.id].note(event)
        return found

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """Who read, by group or subscription name."""
        found: dict[str, Reader] = {}
        for event in self.events:
            if not isinstance(event, _READER_EVENTS):
                continue
            reader = found.get(event.group)
            if reader is None:
                reader = found[event.group] = Reader()
            _note(reader, event)
        return found

    @cached_property
    def transactions(self) -> dict[str, Transaction]:
        """The transactions that published or were committed, by name."""
        found: dict[str, Transaction] = {}
        for event in self.events:
            match event:
                case Invoked() if event.transaction:
                    found.setdefault(event.transaction, Transaction()).outputs.append(event)
                case CommitInvoked():
                    known = found.setdefault(event.transaction, Transaction())
                    known.commit, known.group = event, event.group
                case CommitOk():
                    found.setdefault(event.transaction, Transaction()).ok = event
                case CommitRefused():
                    found.setdefault(event.transaction, Transaction()).refused = True
                case _:
                    pass
        return found

    @cached_property
    def declared(self) -> dict[str, Declared]:
        """What topics promise, by name."""
        return {event.topic: event for event in self.events if isinstance(event, Declared)}

    @cached_property
    def waiting(self) -> dict[str, Waiting]:
        """What the bus kept for later at the end, by topic."""
        return {event.topic: event for event in self.events if isinstance(event, Waiting)}

    @cached_property
    def seen(self) -> set[str]:
        """The ids that somebody was given, or that died: they are stored for certain."""
        readers = self.readers.values()
        return {message_id for reader in readers for message_id in (*reader.by_id, *reader.dead)}

    def stays(self, message_id: str) -> bool:
        """Whether a message that somebody was given must be there for good.

        A power cut may take back what was read before it was durable, as long as nobody had a receipt for it.
        """
        publish = self.publishes.get(message_id)
        acknowledged = publish is not None and publish.receipt is not None
        return acknowledged or self.surviving >= EVERY_LEVEL

    @cached_property
    def healed(self) -> Healed | None:
        """The last announcement that no more faults come."""
        return next((event for event in reversed(self.events) if isinstance(event, Healed)), None)


ReaderEvent = (
    Opened
    | Delivered
    | AckInvoked
    | AckOk
    | AckRefused
    | Nacked
    | Rejected
    | CommitInvoked
    | CommitOk
    | CommitRefused
    | ConsumerEnded
    | Skipped
    | Drained
    | Buried
    | Counted
)
_READER_EVENTS = ReaderEvent


def _note(reader: Reader, event: ReaderEvent) -> None:
    match event:
        case Delivered():
            _note_delivery(reader, event)
        case AckInvoked() | Nacked() | AckRefused() | CommitInvoked() | CommitRefused():
            _note_call(reader, event)
        case AckOk():
            reader.acks.setdefault(event.id, event)
            reader.acked_alone.add(event.id)
        case CommitOk():
            commit = reader.commits.get(event.transaction)
            for message_id in commit.inputs if commit is not None else ():
                reader.acks.setdefault(message_id, event)
        case Rejected():
            reader.rejects.setdefault(event.id, event)
        case ConsumerEnded():
            reader.ends.setdefault(event.consumer, []).append(event)
        case Buried():
            reader.dead.setdefault(event.id, []).append(event)
        case Counted():
            reader.counted[event.topic] = event
        case Skipped():
            reader.skipped += event.count
        case Opened():
            reader.opened = reader.opened or event
        case Drained():
            reader.drained = event


def _note_delivery(reader: Reader, event: Delivered) -> None:
    reader.deliveries.append(event)
    reader.by_id.setdefault(event.id, []).append(event)
    shard, offset = shard_of(event), event.offset
    low, high = reader.reach.get(shard, (offset, offset))
    reader.reach[shard] = (min(low, offset), max(high, offset))


def _note_call(reader: Reader, event: AckInvoked | Nacked | AckRefused | CommitInvoked | CommitRefused) -> None:
    match event:
        case CommitInvoked():
            reader.commits[event.transaction] = event
            for message_id in event.inputs:
                reader.calls.setdefault(message_id, []).append(event)
        case CommitRefused():
            commit = reader.commits.get(event.transaction)
            for message_id in commit.inputs if commit is not None else ():
                _refuse(reader, message_id, event)
        case AckRefused():
            _refuse(reader, event.id, event)
        case _:
            reader.nacked += isinstance(event, Nacked)
            reader.calls.setdefault(event.id, []).append(event)


def _refuse(reader: Reader, message_id: str, refusal: AckRefused | CommitRefused) -> None:
    """Take back the last call of this consumer about this message, which the refusal answers."""
    reader.refused += 1
    reader.voided[message_id, refusal.consumer] = refusal.at
    calls = reader.calls.get(message_id, [])
    for index in range(len(calls) - 1, -1, -1):
        if calls[index].consumer == refusal.consumer:
            del calls[index]
            return
