"""A subscription as the client describes it to an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tidings.errors import GroupExists
from tidings.model.options import DEFAULT_PREFETCH, Start
from tidings.model.topics import Pattern

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate


class SubscriptionSpec(Struct, frozen=True, kw_only=True):
    """A subscription as the engine sees it: what to read, as whom, from where, in which order.

    `partitions`: only these, None for all. `key`: only messages with this partition key; in a group the others are
    acked. `filter`: only messages that it matches; it belongs to the group, in which it decides once per message.
    `ordering`: each partition belongs to one consumer of the group at a time, and a message that failed holds back
    those that follow it with the same key. `priority_order`: what has the highest priority comes first.
    """

    patterns: tuple[Pattern, ...]
    group: str | None = None
    consumer: str = ""
    start: Start = "end"
    prefetch: int = DEFAULT_PREFETCH
    partitions: tuple[int, ...] | None = None
    key: str | None = None
    filter: Predicate | None = None
    ordering: bool = False
    priority_order: bool = False


def check_filter(group: str, has: Predicate | None, wanted: Predicate | None) -> None:
    """Raise `GroupExists` when a group has another filter than the one that is asked for, if one is."""
    if wanted is not None and wanted != has:
        it_has = "it has no filter" if has is None else f"its filter is {str(has)!r}"
        raise GroupExists(group, f"{it_has}, not {str(wanted)!r}")
