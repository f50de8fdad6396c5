"""What becomes of the deliveries of a group, by the options of their topics: expiry, retries, dead letters, order.

Order: when a message fails, those behind it with the same key wait for its next delivery. Nobody remembers them: they
are given back, to come due together with it, and whatever is due is claimed in the order of the log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic

from msgspec.structs import replace

from tidings.engines.embedded.control.outbox import Entry
from tidings.engines.embedded.reading.feed import BaseFeed
from tidings.errors import LeaseLost
from tidings.model.message import Message
from tidings.model.retry import is_exhausted, retry_delay
from tidings.spi import M, Settlement

NEVER_SETTLED = "its consumers died, or held it for longer than their lease"
"""The error of a dead letter that no consumer has said anything about."""

_DEADLY = {"reject", "exhaust", "expire", "lapse"}

JUST_BEFORE_SECONDS = 1e-6
"""What waits for another message comes due this much earlier, so that it is never claimed later than that one: sums of
floats differ in their last digits. Should it come before, it is given back once more."""

Record = Callable[[Sequence[Settlement], Sequence[Entry], float], None]
Lane = tuple[str, int, int, str | None]


class Policy(Generic[M]):
    """Decides for one consumer. `record` writes down what was decided."""

    def __init__(self, feed: BaseFeed[M], key: str | None, ordering: bool, record: Record) -> None:
        self._feed = feed
        self._key = key
        self._ordering = ordering
        self._record = record
        self._blocked: dict[Lane, tuple[int, float]] = {}

    # -- what was claimed

    def is_needed(self, extra: bool, retried: bool) -> bool:
        """Whether messages have to be looked at one by one: those with something extra, those that were tried before,
        and all of a subscription that asks for a key, or while something fails in order."""
        return extra or retried or self._key is not None or bool(self._blocked)

    def admit(self, found: list[M], now: float) -> list[M]:
        """Return the messages that are to be delivered; the others are settled."""
        kept: list[M] = []
        aside: list[Settlement] = []
        if self._blocked:
            self._blocked = {lane: block for lane, block in self._blocked.items() if block[1] > now}
        wall = self._feed.clock.now()
        for message in found:
            settlement = self._refuse(message, now, wall)
            if settlement is None:
                kept.append(message)
            elif settlement.action:
                aside.append(settlement)
        if aside:
            letters = [letter for each in aside if (letter := self._letter(each, each.action)) is not None]
            try:
                self._record(aside, letters, now)
            except LeaseLost:  # somebody else has them by now, and will refuse them likewise
                return kept
        return kept

    def _refuse(self, message: M, now: float, wall: float) -> Settlement | None:
        """Return what is to become of a message that is not delivered (without an action: nothing)."""
        terms = self._feed.terms(message)
        if message.attempt > 1 and is_exhausted(terms, message.attempt - 1):
            message.attempt = terms.max_retries + 1  # whoever claimed it only to bury it has not delivered it
            return Settlement(message, "exhaust", error=NEVER_SETTLED)
        if message.expires_at is not None and message.expires_at <= wall:
            return Settlement(message, "expire" if message.lease else "lapse")
        if self._key is not None and message.key != self._key:
            return Settlement(message, "ack" if message.lease else "")
        return self._hold_back(message, now) if self._blocked else None

    def _hold_back(self, message: M, now: float) -> Settlement | None:
        offset, until = self._blocked.get(_lane(message), (message.offset, 0.0))
        if message.offset > offset:
            return Settlement(message, "release", max(until - now - JUST_BEFORE_SECONDS, 0.0))
        return None

    # -- what a consumer says

    def decide(self, settlements: Sequence[Settlement], now: float) -> tuple[list[Settlement], list[Entry]]:
        """Return what is to be recorded, and the dead letters that come of it."""
        if self._ordering:
            settlements = sorted(settlements, key=lambda settlement: settlement.message.offset)
        decided, letters = [], []
        for settlement in settlements:
            if not settlement.message.lease:
                decided += [replace(settlement, action="restore")] if settlement.action == "release" else []
                continue
            found, cause = self._decide(settlement, now)
            letter = self._letter(settlement, cause)
            decided.append(found)
            letters += [letter] if letter is not None else []
        return decided, letters

    def _decide(self, settlement: Settlement, now: float) -> tuple[Settlement, str]:
        """Return the settlement as it is to be recorded, and the cause of death, if it is one."""
        message, action, terms = settlement.message, settlement.action, self._feed.terms(settlement.message)
        if action == "nack" and is_exhausted(terms, message.attempt):
            return replace(settlement, action="reject"), "exhaust"
        if action in ("nack", "release"):
            seconds = settlement.seconds or 0.0
            if action == "nack" and settlement.seconds is None:
                seconds = retry_delay(terms, message.attempt, random.random())
            return replace(settlement, seconds=self._in_order(message, action, seconds, now)), ""
        return settlement, action

    def _in_order(self, message: Message, action: str, seconds: float, now: float) -> float:
        """Return after how many seconds a message may come again, in order: not before the one that it waits for. Those
        behind it wait for the latest of all that failed before them."""
        if not self._ordering:
            return seconds
        lane = _lane(message)
        offset, until = self._blocked.get(lane, (message.offset, 0.0))
        if offset < message.offset:
            seconds = max(seconds, until - now - JUST_BEFORE_SECONDS)
        if action == "nack":
            self._blocked[lane] = (min(offset, message.offset), max(until, now + seconds))
        return seconds

    def _letter(self, settlement: Settlement, cause: str) -> Entry | None:
        return self._feed.letter(settlement, cause) if cause in _DEADLY else None


def _lane(message: Message) -> Lane:
    return message.topic, message.partition, message.priority, message.key
