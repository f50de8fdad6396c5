"""What a program gives as a filter, made into a predicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tidings.errors import InvalidFilter

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate

Filter: TypeAlias = "str | Callable[[Any], Any] | Predicate"
"""What `filter=` takes."""


def read_filter(filter: Any, root: str | None = None) -> Predicate | None:
    """Return the predicate of a filter: SQL, a function of an expression that stands for the message, or a predicate.
    With `root`, a function gets that part of the message, such as "_routing_key".

    Raises `InvalidFilter`.
    """
    if filter is None:
        return None
    if isinstance(filter, str):
        from tidings.lang import parse_filter  # slow to load, and most subscriptions have none

        return parse_filter(filter)
    from tidings.model.predicate import Predicate, record

    if isinstance(filter, Predicate):
        return filter
    if callable(filter):
        return record(filter, root)
    raise InvalidFilter(filter, "give a condition in SQL, or a function such as lambda m: m['total'] > 40")
