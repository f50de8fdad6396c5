"""The copy itself: fetched from a group of the source, stored on the target, and only then acked."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tidings import Capability, Client, Delivery, LeaseLost, Message, Subscription, TopicFull, UnsupportedFeature
from tidings.cli.interrupts import Interrupts
from tidings.cli.mirror.patience import Patience
from tidings.cli.mirror.places import WAY_OUT, Places, matches
from tidings.cli.mirror.progress import Progress
from tidings.model.topics import Pattern

BATCH_MESSAGES = 500
"""Most messages stored and acked together: a usual batch; so many may come twice after a crash."""

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of a batch beyond which the next one has fewer messages: two of the largest that engines take by default."""

QUIET_SECONDS = 1.0
"""How long nothing comes before a copy that is not to follow looks whether anything is left."""


class Copying:
    """Copies what the subscription brings, until nothing is left or for ever."""

    def __init__(self, source: Client, target: Client, places: Places, patience: Patience) -> None:
        self._source = source
        self._target = target
        self._places = places
        self._patience = patience
        self._limit = BATCH_MESSAGES

    def run(self, subscription: Subscription, rest: Rest, progress: Progress, interrupts: Interrupts) -> None:
        """Copy until the rest is nothing; Ctrl-C ends it between two batches."""

        def fetch() -> list[Delivery]:
            with interrupts.waiting():
                return subscription.fetch(self._limit, QUIET_SECONDS)

        while True:
            batch = self._patience.call("source", fetch)
            if batch:
                progress.add(len(batch), self._copy(batch))
                self._ack(subscription, batch)
            elif self._patience.call("source", rest.is_done):
                return

    def _copy(self, batch: Sequence[Delivery]) -> int:
        """Store a batch; return how many of it the target had already."""
        together: dict[tuple[str, int], list[Message]] = {}
        for message in batch:
            self._places.make(message.topic)
            fitting = self._places.fit(message)
            together.setdefault((message.topic, fitting.priority), []).append(fitting)
        repeated = sum(self._store(topic, messages) for (topic, _), messages in together.items())
        size = sum(len(message.record.data) for message in batch)
        self._limit = BATCH_MESSAGES if size <= BATCH_BYTES else max(1, len(batch) * BATCH_BYTES // size)
        return repeated

    def _store(self, topic: str, messages: Sequence[Message]) -> int:
        """Store messages of one topic and priority, in parts where there is no room for all of them at once."""
        half = len(messages) // 2
        try:
            unless = (TopicFull,) if half else ()
            receipts = self._patience.call("target", lambda: self._target.forward(topic, messages), unless)
        except TopicFull:
            if not half:
                raise
            return self._store(topic, messages[:half]) + self._store(topic, messages[half:])
        except UnsupportedFeature as error:
            error.add_note(f"There are such messages on topic {topic!r}; {WAY_OUT}.")
            raise
        return sum(receipt.duplicate for receipt in receipts)

    def _ack(self, subscription: Subscription, batch: Sequence[Delivery]) -> None:
        try:
            self._patience.call("source", lambda: subscription.ack(batch))
        except LeaseLost as lost:
            click.echo(f"Warning: {lost}; these are copied twice", err=True)


class Rest:
    """What a group of the source has not settled yet on the topics that are copied."""

    def __init__(self, source: Client, group: str, patterns: Sequence[Pattern], follow: bool) -> None:
        self._source = source
        self._group = group
        self._patterns = patterns
        self._follow = follow

    def count(self) -> int | None:
        """Return how many messages there are; None where the source cannot say."""
        if Capability.LAG not in self._source.capabilities:
            return None
        mine = [info for info in self._source.groups() if info.group == self._group]
        return sum(info.lag for info in mine if matches(self._patterns, info.topic))

    def is_done(self) -> bool:
        """Whether the copy is to end, now that nothing comes."""
        return not self._follow and not self.count()
