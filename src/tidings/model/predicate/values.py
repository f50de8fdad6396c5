"""The values of the language: those of JSON, compared by SQL's rules. NULL is None; nothing here raises."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

NUMBERS = (int, float)

KINDS: dict[type, str] = {bool: "bool", int: "number", float: "number", str: "text", list: "list", dict: "object"}
"""By exact type: True is no number, and what is none of these is NULL."""


def truth(value: Any) -> bool | None:
    """Return what a value means as a condition: NULL is NULL, false and 0 are false, everything else is true."""
    kind = KINDS.get(type(value))
    return None if kind is None else bool(value) if kind in ("bool", "number") else True


def equal(left: Any, right: Any) -> bool | None:
    """Return whether two values are the same, NULL when they are of different kinds."""
    kind = KINDS.get(type(left))
    if kind is None or kind != KINDS.get(type(right)):
        return None
    return same(left, right) if kind in ("list", "object") else bool(left == right)


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same all the way down: 1 and 1.0 are, 1 and true are not. However deep they are."""
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        kind = KINDS.get(type(one))
        if kind != KINDS.get(type(other)):
            return False
        if kind == "list":
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif kind == "object":
            if one.keys() != other.keys():
                return False
            pairs.extend((value, other[name]) for name, value in one.items())
        elif one != other:
            return False
    return True


def unequal(left: Any, right: Any) -> bool | None:
    """Return the opposite of `equal`; NULL stays NULL."""
    found = equal(left, right)
    return None if found is None else not found


def ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    """Return a comparison of numbers with numbers and texts with texts; all else is NULL."""

    def ordered(left: Any, right: Any) -> bool | None:
        kind = KINDS.get(type(left))
        if kind not in ("number", "text") or kind != KINDS.get(type(right)):
            return None
        return compare(left, right)

    return ordered


COMPARISONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "=": equal,
    "<>": unequal,
    "<": ordering(operator.lt),
    "<=": ordering(operator.le),
    ">": ordering(operator.gt),
    ">=": ordering(operator.ge),
}


def step_into(value: Any, step: str | int) -> Any:
    """Return what is at a name of an object or an index of a list (from the end, if negative); NULL if nothing is."""
    if type(value) is dict:
        return value.get(step) if type(step) is str else None
    if type(value) is list and type(step) is int and -len(value) <= step < len(value):
        return value[step]
    return None
