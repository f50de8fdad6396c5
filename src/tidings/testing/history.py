"""Responsible for one thing: a written record of what programs did to a bus, that survives their death.

Every process of an experiment appends what it is about to do and what came of it, one JSON line per event, to
a file of its own that lies outside the faulted storage. `History` merges the files;
`tidings.testing.properties` judges the result. All times are nanoseconds of `CLOCK_MONOTONIC`, which every
process of one machine shares, so the order of events in different processes is real and not inferred.

A publish with an invocation and no outcome, or with `Unknown`, may or may not have happened; both are legal
later.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import msgspec

EVERY_LEVEL: Final = frozenset({"memory", "os", "disk", "quorum"})
DEAD_LETTERS: Final = "dead-letters/"


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event"):
    """Something that happened at `at` nanoseconds of the machine's monotonic clock."""

    at: int


class Invoked(Event, frozen=True, gc=False, kw_only=True, tag="publish"):
    """A publish is about to be called. Repeated with the same id when a publish is retried."""

    id: str
    topic: str
    hash: str
    key: str | None = None


class Receipt(Event, frozen=True, gc=False, kw_only=True, tag="published"):
    """The publish returned, with the place and the durability level that its receipt names."""

    id: str
    topic: str
    partition: int
    offset: int
    durability: str
    priority: str = ""


class Failed(Event, frozen=True, gc=False, kw_only=True, tag="failed"):
    """The publish raised the definite error: it must never be delivered."""

    id: str
    reason: str


class Unknown(Event, frozen=True, gc=False, kw_only=True, tag="unknown"):
    """The publish raised the indefinite error: it may be delivered."""

    id: str
    reason: str


class Opened(Event, frozen=True, gc=False, kw_only=True, tag="opened"):
    """A group or subscription exists from here on. Without `topics` it is responsible for every topic."""

    group: str
    durable: bool
    ordered: bool = False
    from_beginning: bool = False
    topics: tuple[str, ...] = ()


class Delivered(Event, frozen=True, gc=False, kw_only=True, tag="delivered"):
    """A consumer of `group` (or the temporary subscription of that name) was handed a message."""

    group: str
    consumer: str
    topic: str
    partition: int
    offset: int
    id: str
    attempt: int
    hash: str
    priority: str = ""


class AckInvoked(Event, frozen=True, gc=False, kw_only=True, tag="ack"):
    """An ack is about to be called."""

    group: str
    consumer: str
    id: str


class AckOk(Event, frozen=True, gc=False, kw_only=True, tag="acked"):
    """The ack returned: the message must never come again."""

    group: str
    consumer: str
    id: str


class AckRefused(Event, frozen=True, gc=False, kw_only=True, tag="refused"):
    """The ack raised because the lease was lost."""

    group: str
    consumer: str
    id: str


class Nacked(Event, frozen=True, gc=False, kw_only=True, tag="nacked"):
    """A nack (`requeue`) or reject is about to be called, or a message is released unhandled."""

    group: str
    consumer: str
    id: str
    requeue: bool = True


class ConsumerEnded(Event, frozen=True, gc=False, kw_only=True, tag="ended"):
    """A consumer is about to be killed or closed, or was stopped for longer than its lease.

    Written before the deed, so that no consequence can precede its cause.
    """

    group: str
    consumer: str
    reason: Literal["died", "expired", "closed"]


class Skipped(Event, frozen=True, gc=False, kw_only=True, tag="skipped"):
    """The bus itself reports that a group was denied `count` messages (retention, expiry, dead letter)."""

    group: str
    reason: str
    count: int


class Healed(Event, frozen=True, gc=False, kw_only=True, tag="healed"):
    """No fault is injected from here on; every durable group must be drained within `limit` nanoseconds."""

    limit: int


class Drained(Event, frozen=True, gc=False, kw_only=True, tag="drained"):
    """No more came to the group within the harness's patience; `pending` is what the bus itself reports."""

    group: str
    pending: int = 0


AnyEvent = (
    Invoked
    | Receipt
    | Failed
    | Unknown
    | Opened
    | Delivered
    | AckInvoked
    | AckOk
    | AckRefused
    | Nacked
    | ConsumerEnded
    | Skipped
    | Healed
    | Drained
)


class HistoryDamaged(ValueError):
    """A complete line of a history file cannot be read; `path` and `line` (from 1) say where."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.path, self.line = path, line


def now() -> int:
    """The machine's monotonic time in nanoseconds, the same in every process."""
    return time.monotonic_ns()


def payload_hash(data: bytes) -> str:
    """A short digest of a payload: 64 bits, enough to tell any damaged payload from the one that was sent."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class HistoryWriter:
    """Appends events to a file of its own; safe to share between threads.

    Each event is one `write` to a file opened for appending, so a killed process leaves at most its last line
    torn. The file must be new: a line after a torn one could not be read. Raises `FileExistsError` otherwise.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._encoder = msgspec.json.Encoder()

    def append(self, event: AnyEvent) -> None:
        """Write one event now; when this returns it survives the death of this process."""
        os.write(self._fd, self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_decoder = msgspec.json.Decoder(AnyEvent)


def read_events(path: Path) -> list[AnyEvent]:
    """The events of one file in the order written; one torn last line is dropped, other damage raises."""
    data = path.read_bytes()
    complete = data[: data.rfind(b"\n") + 1]
    try:
        return _decoder.decode_lines(complete)
    except msgspec.DecodeError:
        return list(_decode_singly(path, complete))


def _decode_singly(path: Path, data: bytes) -> Iterator[AnyEvent]:
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise HistoryDamaged(path, number, str(error)) from error


Shard = tuple[str, int, str]
Position = tuple[str, int, str, int]


def shard_of(event: Receipt | Delivered) -> Shard:
    """The log that the event is about: topic, partition, priority."""
    return (event.topic, event.partition, event.priority)


def position_of(event: Receipt | Delivered) -> Position:
    """The place in that log."""
    return (event.topic, event.partition, event.priority, event.offset)


class Publish:
    """Everything known about one message id, over all its retries."""

    __slots__ = ("attempts", "failures", "first", "receipt")

    def __init__(self, first: Invoked) -> None:
        self.first = first
        self.receipt: Receipt | None = None
        self.attempts = self.failures = 0

    @property
    def failed(self) -> bool:
        """Whether every attempt was definitely refused."""
        return self.receipt is None and self.failures == self.attempts

    @property
    def unknown(self) -> bool:
        """Whether it may or may not be stored."""
        return self.receipt is None and self.failures < self.attempts


class Reader:
    """Everything known about one group or temporary subscription; events are in time order."""

    __slots__ = (
        "acks",
        "attempted",
        "by_id",
        "deliveries",
        "drained",
        "ends",
        "nacks",
        "opened",
        "reach",
        "refused",
        "skipped",
    )

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.drained: Drained | None = None
        self.deliveries: list[Delivered] = []
        self.by_id: dict[str, list[Delivered]] = {}
        self.acks: dict[str, AckOk] = {}
        self.attempted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.nacks: dict[str, list[Nacked]] = {}
        self.ends: dict[str, list[ConsumerEnded]] = {}
        self.reach: dict[Shard, tuple[int, int]] = {}
        self.skipped = 0

    def settled(self, message_id: str) -> bool:
        """Whether somebody rejected it, or acked it: confirmed, or not refused (the answer may be unknown)."""
        rejected = any(not nack.requeue for nack in self.nacks.get(message_id, ()))
        acked = message_id in self.acks or self.attempted[message_id] > self.refused[message_id]
        return rejected or acked

    @property
    def durable(self) -> bool:
        """Whether it keeps its place when nobody is attached."""
        return self.opened is not None and self.opened.durable

    def owes(self, publish: Publish) -> bool:
        """Whether this reader is bound to be given the message, if the message is stored."""
        opened = self.opened
        if opened is None or not opened.durable:
            return False
        covered = not opened.topics or publish.first.topic in opened.topics
        return covered and (opened.from_beginning or publish.first.at > opened.at)


class History:
    """The merged events of all processes, in time order, and the two views the properties are written on.

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
            match event:
                case Invoked():
                    found.setdefault(event.id, Publish(event)).attempts += 1
                case Receipt() if event.id in found:
                    self._resolve(found[event.id], event)
                case Failed() if event.id in found:
                    found[event.id].failures += 1
                case _:
                    pass
        return found

    def _resolve(self, publish: Publish, receipt: Receipt) -> None:
        if receipt.durability in self.surviving:
            publish.receipt = publish.receipt or receipt

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """Who read, by group or subscription name."""
        found: dict[str, Reader] = {}
        for event in self.events:
            if isinstance(event, Invoked | Receipt | Failed | Unknown | Healed):
                continue
            reader = found.get(event.group)
            if reader is None:
                reader = found[event.group] = Reader()
            _note(reader, event)
        return found

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


ReaderEvent = Opened | Delivered | AckInvoked | AckOk | AckRefused | Nacked | ConsumerEnded | Skipped | Drained


def _note(reader: Reader, event: ReaderEvent) -> None:
    match event:
        case Delivered():
            reader.deliveries.append(event)
            reader.by_id.setdefault(event.id, []).append(event)
            shard, offset = shard_of(event), event.offset
            low, high = reader.reach.get(shard, (offset, offset))
            reader.reach[shard] = (min(low, offset), max(high, offset))
        case AckInvoked():
            reader.attempted[event.id] += 1
        case AckOk():
            reader.acks.setdefault(event.id, event)
        case AckRefused():
            reader.refused[event.id] += 1
        case Nacked():
            reader.nacks.setdefault(event.id, []).append(event)
        case ConsumerEnded():
            reader.ends.setdefault(event.consumer, []).append(event)
        case Skipped():
            reader.skipped += event.count
        case Opened():
            reader.opened = reader.opened or event
        case Drained():
            reader.drained = event
