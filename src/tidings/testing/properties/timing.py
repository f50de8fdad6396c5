"""Responsible for one thing: P15, messages that have their time: not before they are due, not after they expire."""

from __future__ import annotations

from typing import Final

from tidings.testing.events import Delivered
from tidings.testing.history import History, Publish
from tidings.testing.properties.publishing import deliveries
from tidings.testing.properties.violation import Violation, known

TOLERANCE: Final = 10_000_000  # ns; the bus may go by the clock on the wall, which is steered a little


def in_time(history: History) -> list[Violation]:
    """P15: no message is delivered before it is due, or to a consumer that asked for one after it had expired, or after
    it was taken back.
    """
    found: list[Violation] = []
    for delivered in deliveries(history):
        publish = history.publishes.get(delivered.id)
        wrong = _untimely(publish, delivered) if publish is not None else ""
        if wrong and publish is not None:
            text = f"{delivered.id} was delivered to {delivered.group} {wrong}"
            found.append(Violation(property="P15", text=text, evidence=known(publish.first, delivered)))
    return found


def _untimely(publish: Publish, delivered: Delivered) -> str:
    early = publish.due - delivered.at
    if early > TOLERANCE:
        return f"{early} ns before it was due"
    expires = delivered.expires or publish.expires
    late = delivered.asked - expires
    if expires and late > TOLERANCE:
        return f"though it had expired {late} ns before that was asked for"
    return "after it was taken back" if publish.cancelled else ""
