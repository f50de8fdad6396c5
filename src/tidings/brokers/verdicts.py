"""What becomes of a delivery, decided without I/O: by what the consumer said, and by the options of the topic."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tidings.model.dead_letter import bury
from tidings.model.message import Message, Record
from tidings.model.options import TopicOptions
from tidings.model.retry import is_exhausted, retry_delay
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import Settlement

NEVER_SETTLED = "its consumers died, or held it for longer than their lease"
"""The error of a dead letter that no consumer has said anything about."""


class Letter(Struct, frozen=True):
    """A dead letter, and the topic that it goes to."""

    topic: str
    record: Record
    priority: int


def _plain(message: Message) -> Message:
    """Return the message as one whose data is as it was published, whatever type the reader has it in."""
    fields = (message.record, message.topic, message.partition, message.offset, message.published_at, message.attempt)
    return Message(*fields, message.lease, message.priority)


class Act(Struct, frozen=True, kw_only=True, gc=False):
    """What an engine is to do with one delivery.

    `kind`: "ack" (done for good), "retry" (again in `seconds`, which counts as an attempt), "release" (again in
    `seconds`, mostly 0, which does not), "extend" (keep it for `seconds`). `letter` is stored before or with the ack.
    `count` says what it is counted as: acked, failed, dead, expired, filtered, or nothing.
    """

    message: Message
    handle: Any
    kind: str
    seconds: float = 0.0
    count: str = ""
    letter: Letter | None = None


class Judge:
    """Decides for one subscription. `terms` gives the options of a topic, `now` the time since the epoch."""

    def __init__(self, spec: SubscriptionSpec, terms: Callable[[str], TopicOptions], now: Callable[[], float]) -> None:
        self._spec = spec
        self._terms = terms
        self._now = now

    def refuse(self, message: Message, handle: Any) -> Act | None:
        """Return what is to be done with a message that is not delivered; None for one that is."""
        spec = self._spec
        if message.attempt > 1 and is_exhausted(self._terms(message.topic), message.attempt - 1):
            message.attempt -= 1  # whoever got it only to bury it has not delivered it
            return self._dead(message, handle, "retries exhausted", NEVER_SETTLED)
        if spec.filter is not None and not spec.filter.matches(_plain(message)):  # the group's, before the consumer's
            return Act(message=message, handle=handle, kind="ack", count="filtered")
        if (expired := self.refuse_expired(message, handle)) is not None:
            return expired
        if spec.key is not None and message.key != spec.key:
            return Act(message=message, handle=handle, kind="ack", count="acked")
        return None

    def refuse_expired(self, message: Message, handle: Any) -> Act | None:
        """Return the same of a message that was found worth delivering before."""
        if message.expires_at is not None and message.expires_at <= self._now():
            return self._expired(message, handle, message.attempt - 1)
        return None

    def decide(self, settlement: Settlement, handle: Any) -> Act:
        """Return what is to be done by what a consumer said."""
        message, action = settlement.message, settlement.action
        if action == "ack":
            return Act(message=message, handle=handle, kind="ack", count="acked")
        terms = self._terms(message.topic)
        if action == "reject":
            return self._dead(message, handle, settlement.reason or "rejected", settlement.error)
        if action == "nack" and is_exhausted(terms, message.attempt):
            return self._dead(message, handle, "retries exhausted", settlement.error or settlement.reason)
        if action == "expire":
            return self._expired(message, handle, message.attempt - 1)
        if action == "nack":
            seconds = settlement.seconds
            if seconds is None:
                seconds = retry_delay(terms, message.attempt, random.random())
            return Act(message=message, handle=handle, kind="retry", seconds=seconds, count="failed")
        return Act(message=message, handle=handle, kind=action, seconds=settlement.seconds or 0.0)

    def _dead(self, message: Message, handle: Any, reason: str, error: str) -> Act:
        letter = self._letter(message, reason, error, message.attempt)
        return Act(message=message, handle=handle, kind="ack", count="dead", letter=letter)

    def _expired(self, message: Message, handle: Any, attempts: int) -> Act:
        told = self._spec.group is not None and self._terms(message.topic).dead_letter_expired
        letter = self._letter(message, "expired", "", attempts) if told else None
        return Act(message=message, handle=handle, kind="ack", count="expired", letter=letter)

    def _letter(self, message: Message, reason: str, error: str, attempts: int) -> Letter | None:
        target = self._terms(message.topic).dead_letters_of(message.topic)
        if target is None:
            return None
        record = bury(message, self._spec.group, reason, error, attempts, self._now())
        return Letter(target, record, message.priority)
