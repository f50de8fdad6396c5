# Generated from aio/linger.py by scripts/generate_blocking.py; do not edit.
"""Many small publishes at the same time share one append, and its sync, at the price of a short wait."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from tidings.client.blocking import runtime
from tidings.errors import Closed, PublishUnknown, TidingsError, UsageError
from tidings.model.message import Receipt, Record
from tidings.model.options import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, PublishOptions, check_range

MAX_LINGER_SECONDS = 1.0
"""A publisher waits this long for its receipt; one that can wait longer should call `publish_batch`."""


class Publish(Protocol):
    """The publish of an engine."""

    def __call__(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]: ...


def check_linger(seconds: Any) -> float:
    """Return how long to linger, or raise `InvalidOption`."""
    check_range("linger_seconds", seconds, 0, MAX_LINGER_SECONDS)
    return float(seconds)


class Batch:
    """The records that one append will store, and, when `done`, what became of each."""

    def __init__(self, topic: str, options: PublishOptions) -> None:
        self.topic = topic
        self.options = options
        self.records: list[Record] = []
        self.bytes = 0
        self.ready = runtime.Signal()
        self.done = runtime.Signal()
        self.outcomes: list[Receipt | BaseException] = []

    def has_room(self, record: Record) -> bool:
        """Whether it can take the record. A single one may be larger than a batch."""
        return not self.records or self.bytes + len(record.data) <= MAX_BATCH_BYTES

    def add(self, record: Record) -> int:
        """Take a record, and return its place."""
        self.records.append(record)
        self.bytes += len(record.data)
        return len(self.records) - 1

    def is_full(self) -> bool:
        return len(self.records) >= MAX_BATCH_MESSAGES or self.bytes >= MAX_BATCH_BYTES


class Linger:
    """Gathers what is published to one topic with equal options, and stores it together.

    A batch is stored when it has waited `seconds`, is full, or on `close()`. Batches do not wait for each other.
    """

    def __init__(self, seconds: float, publish: Publish) -> None:
        self._seconds = check_linger(seconds)
        self._publish = publish
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._guard = runtime.Guard()
        self._open: dict[tuple[str, PublishOptions], Batch] = {}
        self._under_way: set[Batch] = set()

    def _notice_fork(self) -> None:
        """Begin anew in a forked child: it has none of its parent's threads, which store what was gathered there."""
        if self._pid != os.getpid():
            self._begin()

    def publish(self, topic: str, record: Record, options: PublishOptions) -> Receipt:
        """Store the record with others, and return its receipt or raise what the engine raised.

        When the caller is cancelled, its record may or may not be stored; the others do not notice.
        """
        self._notice_fork()
        with self._guard:
            batch, leads = self._batch_for(topic, record, options)
            place = batch.add(record)
            if batch.is_full():
                self._send(batch)
        if leads:
            runtime.to_the_end(lambda: self._lead(batch))
        else:
            batch.done.wait(None)
        outcome = batch.outcomes[place]
        if isinstance(outcome, Receipt):
            return outcome
        raise for_one(outcome, record.id)

    def _batch_for(self, topic: str, record: Record, options: PublishOptions) -> tuple[Batch, bool]:
        """Return the batch that the record goes into, and whether it is new, so that the caller looks after it."""
        if self._closed:
            raise Closed("the client is closed")
        batch = self._open.get((topic, options))
        if batch is not None and batch.has_room(record):
            return batch, False
        if batch is not None:
            self._send(batch)
        batch = self._open[topic, options] = Batch(topic, options)
        self._under_way.add(batch)
        return batch, True

    def _send(self, batch: Batch) -> None:
        """Let nobody else into the batch, and have it stored now."""
        key = (batch.topic, batch.options)
        if self._open.get(key) is batch:
            del self._open[key]
        batch.ready.set()

    def _lead(self, batch: Batch) -> None:
        """Wait for company, then store the batch: the work of whoever was the first in it."""
        try:
            try:
                batch.ready.wait(self._seconds)
            finally:
                with self._guard:
                    self._send(batch)
                self._store(batch)
        finally:
            missing = len(batch.records) - len(batch.outcomes)
            batch.outcomes += [PublishUnknown("storing the batch was interrupted") for _ in range(missing)]
            with self._guard:
                self._under_way.discard(batch)
            batch.done.set()

    def _store(self, batch: Batch) -> None:
        """Store all at once; when the call was wrong, which stores nothing, one by one: not all may be at fault."""
        outcomes = self._attempt(batch, batch.records)
        if len(outcomes) > 1 and isinstance(outcomes[0], UsageError):
            for record in batch.records:
                batch.outcomes += self._attempt(batch, [record])
        else:
            batch.outcomes = outcomes

    def _attempt(self, batch: Batch, records: list[Record]) -> list[Receipt | BaseException]:
        try:
            return [*self._publish(batch.topic, records, batch.options)]
        except Exception as error:
            return [error] * len(records)

    def close(self) -> None:
        """Store what was gathered, and wait for all that is under way; afterwards `publish` raises `Closed`.

        Idempotent. One that was cancelled is finished by the next one.
        """
        self._notice_fork()
        with self._guard:
            self._closed = True
            under_way = list(self._under_way)
            for batch in under_way:
                self._send(batch)
        for batch in under_way:
            batch.done.wait(None)


def for_one(error: BaseException, message_id: str) -> BaseException:
    """Return an error of a batch for one of those who wait for it: an instance of its own, with its own message only.

    One instance, raised by many, would gather the tracebacks and notes of all.
    """
    if not isinstance(error, TidingsError):
        unknown = PublishUnknown(f"publishing failed unexpectedly: {error!r}", (message_id,))
        unknown.__cause__ = error
        return unknown
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = list(notes)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    if isinstance(copy, PublishUnknown):
        copy.message_ids = (message_id,)
    return copy.with_traceback(error.__traceback__)
