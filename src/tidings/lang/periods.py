"""Periods and sizes as people write them: '7 days', '1 day 12 hours', '10 MB'."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECONDS: Mapping[str, float] = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}

_BYTES: Mapping[str, float] = {
    "b": 1,
    **dict.fromkeys(("byte", "bytes"), 1),
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}

_AMOUNT = re.compile(r"\s*(?P<number>[0-9]{1,15}(?:[.][0-9]{1,15})?)\s*(?P<unit>[a-z]+)\s*,?", re.IGNORECASE)


def read_period(text: str) -> float:
    """Return a period in seconds: numbers with units from ms to weeks, added up. Raises `ValueError` for other text."""
    return _total(text, _SECONDS, "a period such as '7 days', '1 day 12 hours', '90 s' or a number of seconds")


def read_size(text: str) -> int:
    """Return a size in bytes: '10 MB' is 10,000,000 and '10 MiB' 10,485,760. Raises `ValueError` for other text."""
    return round(_total(text, _BYTES, "a size such as '10 MB', '1 GiB' or a number of bytes"))


def _total(text: str, units: Mapping[str, float], wanted: str) -> float:
    total, position = 0.0, 0
    while position < len(text.rstrip()):
        found = _AMOUNT.match(text, position)
        if found is None or found["unit"].lower() not in units:
            raise ValueError(f"give {wanted}")
        total += float(found["number"]) * units[found["unit"].lower()]
        position = found.end()
    if not position:
        raise ValueError(f"give {wanted}")
    return total
