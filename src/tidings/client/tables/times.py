"""Times in tables: one text that sorts as it is, compared with whatever else ISO 8601 can write."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from tidings.model.predicate.fields import read_time

COLLATION = "TIME"
"""The name of `compare` in SQL."""

_REMEMBERED = 1024
"""Texts whose times are remembered: a query compares millions of rows with few constants."""


def text_of(seconds: float | None) -> str | None:
    """Return seconds since the epoch as `YYYY-MM-DD HH:MM:SS.ffffff`, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


@lru_cache(_REMEMBERED)
def seconds_of(text: str) -> float | None:
    """Return the seconds since the epoch of an ISO 8601 time, which is UTC when it names no zone; None for others."""
    try:
        return read_time(text)
    except ValueError:
        return None


def compare(left: str, right: str) -> int:
    """Say whether a time comes before (-1), at the same moment as (0) or after another one (1), however both are
    written. What is no time comes last, as text."""
    if not (_is_canonical(left) and _is_canonical(right)):
        one, other = _order(left), _order(right)
        return (one > other) - (one < other)
    return (left > right) - (left < right)


def _is_canonical(text: str) -> bool:
    """Whether `text_of` may have made it: then its order is that of texts, and nothing has to be taken apart."""
    return len(text) == 26 and text[10] == " " and text[19] == "." and text[20:].isdigit()


def _order(text: str) -> tuple[bool, float, str]:
    seconds = seconds_of(text)
    return (True, 0.0, text) if seconds is None else (False, seconds, "")
