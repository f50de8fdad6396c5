"""Responsible for one thing: what a broken promise looks like in a report."""

from __future__ import annotations

import msgspec

from tidings.testing.events import Event


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One broken promise: the property's number, what happened, and the events that prove it."""

    property: str
    text: str
    evidence: tuple[Event, ...] = ()


def known(*events: Event | None) -> tuple[Event, ...]:
    """Those events that there are, as evidence."""
    return tuple(event for event in events if event is not None)
