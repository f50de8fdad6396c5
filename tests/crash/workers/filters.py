"""Responsible for one thing: the filters that readers have, and what each lets through by our own reckoning.

The history is judged by what is said here, and not by what the bus makes of the SQL.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tidings.lang import parse_filter

Body = Mapping[str, Any]
Test = Callable[[Body, str | None, int], bool]

MOST_TOTAL: Final = 99
SHARE_WITHOUT: Final = 0.1  # of messages without a total: a comparison with NULL is not true, nor is its NOT
TAGS: Final = ("blue", "red")


def _total(body: Body, otherwise: int) -> int:
    total = body["details"]["total"]
    return otherwise if total is None else int(total)


WIDE: Final[dict[str, Test]] = {
    "details.total > 40": lambda body, key, priority: _total(body, 0) > 40,
    "NOT details.total > 60": lambda body, key, priority: _total(body, 99) <= 60,
    "_key = 'k1' OR _key IS NULL": lambda body, key, priority: key in ("k1", None),
    "details.tags CONTAINS 'red'": lambda body, key, priority: "red" in body["details"]["tags"],
    "id <> 'm1'": lambda body, key, priority: body["id"] != "m1",
}
"""Filters, each by its SQL text, that let through a third of all messages or more."""

NARROW: Final[dict[str, Test]] = {
    "details.total IN (7, 8)": lambda body, key, priority: _total(body, 0) in (7, 8),
    "id LIKE '%-_7' AND _key IS NOT NULL": (
        lambda body, key, priority: body["id"].endswith("7") and body["id"][-3] == "-" and key is not None
    ),
    "_priority > 5": lambda body, key, priority: priority > 5,
}
"""Filters that let through few messages, or none."""

FILTERS: Final = WIDE | NARROW

for _text in FILTERS:
    parse_filter(_text)  # to load the language takes a quarter of a second: once, before workers are forked


def details_of(rng: random.Random) -> dict[str, object]:
    """What there is to filter on in the data of a message."""
    total = rng.randint(0, MOST_TOTAL) if rng.random() >= SHARE_WITHOUT else None
    return {"total": total, "tags": rng.sample(TAGS, rng.randint(0, len(TAGS)))}


def matches_of(body: Body, key: str | None, priority: int) -> tuple[str, ...]:
    """The filters that let a message through."""
    return tuple(text for text, test in FILTERS.items() if test(body, key, priority))


def filters_of_groups(groups: Sequence[str], rng: random.Random) -> dict[str, str]:
    """One of the groups has a filter, or several have, the same one or different ones."""
    return {group: rng.choice(list(WIDE)) for group in rng.sample(groups, rng.randint(1, len(groups)))}
