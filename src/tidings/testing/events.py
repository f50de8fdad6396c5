"""Responsible for one thing: a written record of what programs did to a bus, that survives their death.

Every process of an experiment appends what it is about to do and what came of it, one JSON line per event, to
a file of its own that lies outside the faulted storage. `tidings.testing.history` merges the files;
`tidings.testing.properties` judges the result. All times are nanoseconds of `CLOCK_MONOTONIC`, which every
process of one machine shares, so the order of events in different processes is real and not inferred.

A publish with an invocation and no outcome, or with `Unknown`, may or may not have happened; both are legal
later. The same holds for an ack, a reject, a commit and a cancellation.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

NO_PLACE: Final = -1  # the partition and offset of a receipt or delivery that names none


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event"):
    """Something that happened at `at` nanoseconds of the machine's monotonic clock."""

    at: int


# -- publishing


class Declared(Event, frozen=True, gc=False, kw_only=True, tag="topic"):
    """What a topic promises beyond the ordinary.

    `buries`: messages that a group gives up on go to a dead-letter topic, where the experiment looks at its end; so do
    those that expire if it `buries_expired`. `retries`: None when nobody is to judge the attempts of dead letters.
    """

    topic: str
    buries: bool = False
    buries_expired: bool = False
    retries: int | None = None


class Invoked(Event, frozen=True, gc=False, kw_only=True, tag="publish"):
    """A publish is about to be called. Repeated with the same id when a publish is retried.

    `due` and `expires`: it is not to be delivered before, or asked for after, these times; 0 when it may always be.
    `transaction`: the one that it is an output of. `redriven`: the id of the dead letter that it is sent back for.
    `matches`: the filters of readers that let it through, by the publisher's own reckoning and not the bus's.
    """

    id: str
    topic: str
    hash: str
    key: str | None = None
    priority: str = ""
    due: int = 0
    expires: int = 0
    transaction: str = ""
    redriven: str = ""
    matches: tuple[str, ...] = ()


class Receipt(Event, frozen=True, gc=False, kw_only=True, tag="published"):
    """The publish returned, with the place and the durability level that its receipt names.

    The place is `NO_PLACE` for a message that is stored and has not been moved into its log yet.
    """

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


class CancelInvoked(Event, frozen=True, gc=False, kw_only=True, tag="cancel"):
    """A scheduled message is about to be taken back."""

    id: str


class CancelOk(Event, frozen=True, gc=False, kw_only=True, tag="cancelled"):
    """The bus said that it was taken back (`done`), or that it was too late."""

    id: str
    done: bool


# -- consuming


class Opened(Event, frozen=True, gc=False, kw_only=True, tag="opened"):
    """A group or subscription exists from here on. Without `topics` it is responsible for every topic, and without a
    `filter` for every message.

    A subscription that is not `durable` is bound to be given everything up to its last delivery, or to its `Drained`.
    """

    group: str
    durable: bool
    ordered: bool = False
    from_beginning: bool = False
    topics: tuple[str, ...] = ()
    filter: str = ""


class Delivered(Event, frozen=True, gc=False, kw_only=True, tag="delivered"):
    """A consumer of `group` (or the temporary subscription of that name) was handed a message.

    `asked`: when it had asked for one, 0 when nobody wrote that down; `expires`: when the message does, as the bus
    says. `single`: this consumer is not handed another one of the same key before it has settled this one.
    """

    group: str
    consumer: str
    topic: str
    partition: int
    offset: int
    id: str
    attempt: int
    hash: str
    priority: str = ""
    asked: int = 0
    expires: int = 0
    single: bool = False


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
    """The ack, nack or reject raised because the lease was lost."""

    group: str
    consumer: str
    id: str


class Nacked(Event, frozen=True, gc=False, kw_only=True, tag="nacked"):
    """A nack (`requeue`) or reject is about to be called, or a message is released unhandled."""

    group: str
    consumer: str
    id: str
    requeue: bool = True


class Rejected(Event, frozen=True, gc=False, kw_only=True, tag="rejected"):
    """The reject returned: the message must never come again, and is a dead letter."""

    group: str
    consumer: str
    id: str


class CommitInvoked(Event, frozen=True, gc=False, kw_only=True, tag="commit"):
    """A transaction is about to be committed. It acks `inputs`; its outputs are the `Invoked` that name it."""

    group: str
    consumer: str
    transaction: str
    inputs: tuple[str, ...]


class CommitOk(Event, frozen=True, gc=False, kw_only=True, tag="committed"):
    """The commit returned: all of it has taken effect."""

    group: str
    consumer: str
    transaction: str


class CommitRefused(Event, frozen=True, gc=False, kw_only=True, tag="aborted"):
    """The commit raised because a lease was lost: nothing of it has taken effect."""

    group: str
    consumer: str
    transaction: str


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


# -- the end


class Healed(Event, frozen=True, gc=False, kw_only=True, tag="healed"):
    """No fault is injected from here on; every durable group must be drained within `limit` nanoseconds."""

    limit: int


class Drained(Event, frozen=True, gc=False, kw_only=True, tag="drained"):
    """No more came to the group within the harness's patience; `pending` is what the bus itself reports."""

    group: str
    pending: int = 0


class Buried(Event, frozen=True, gc=False, kw_only=True, tag="buried"):
    """A dead letter of `group` was found at the end. The place is the one that the message died at."""

    group: str
    topic: str
    partition: int
    offset: int
    id: str
    hash: str
    reason: str
    attempts: int


class Counted(Event, frozen=True, gc=False, kw_only=True, tag="counted"):
    """What the bus says at the end of a group on a topic: totals, and the messages that the topic ever had. `filtered`
    are those that its filter passed over.
    """

    group: str
    topic: str
    published: int
    acked: int
    dead: int
    expired: int
    skipped: int
    filtered: int
    pending: int


class Waiting(Event, frozen=True, gc=False, kw_only=True, tag="waiting"):
    """How many messages the bus says to keep for later on a topic, at the end."""

    topic: str
    scheduled: int


AnyEvent = (
    Declared
    | Invoked
    | Receipt
    | Failed
    | Unknown
    | CancelInvoked
    | CancelOk
    | Opened
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
    | Healed
    | Drained
    | Buried
    | Counted
    | Waiting
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
