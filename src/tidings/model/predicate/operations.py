"""The table of all operations: how many operands each takes, what it makes of their values, and what the page says.

Every operation takes values and returns one, and none raises: what does not fit is NULL.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.model.predicate.fields import read_time
from tidings.model.predicate.patterns import like, regex
from tidings.model.predicate.values import COMPARISONS, NUMBERS, equal, step_into, truth

MAX_TEXT = 1 << 20
"""Characters of a text that an operation makes: joined a few hundred times, the longest message would fill the memory.
A longer one is NULL."""

MAX_DIGITS = 15
"""Digits that `round` keeps: a float has no more."""

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class Operation(Struct, frozen=True):
    """How to compute an operation on values. `strict`: NULL when an operand is; `boolean`: its results are true, false
    and NULL only; `most` None: any number. `bind`, instead of `compute`, gets the operands after the first, which have
    to be constant texts, and returns what computes the rest."""

    compute: Callable[..., Any] | None
    least: int
    most: int | None
    strict: bool = True
    boolean: bool = False
    bind: Callable[..., Callable[[str], bool]] | None = None


class Function(Struct, frozen=True):
    """What the page of the language says of a function: how it is called, what it does, an example and its value."""

    call: str
    description: str
    example: str
    result: str


# -- logic


def all_of(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def any_of(values: Sequence[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _not(value: Any) -> bool | None:
    found = truth(value)
    return None if found is None else not found


def _in(item: Any, *options: Any) -> bool | None:
    return any_of([equal(item, option) for option in options])


def _between(item: Any, low: Any, high: Any) -> bool | None:
    return all_of([COMPARISONS[">="](item, low), COMPARISONS["<="](item, high)])


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


# -- numbers


def _number(value: int | float) -> int | float | None:
    """Return a result as a number of JSON: a whole one has 64 bits, and there is no infinity."""
    if type(value) is int and not _SMALLEST <= value <= _LARGEST:
        value = float(value)
    return value if type(value) is int or math.isfinite(value) else None


def _arithmetic(compute: Callable[..., int | float]) -> Callable[..., int | float | None]:
    def computed(*values: Any) -> int | float | None:
        if any(type(value) not in NUMBERS for value in values):
            return None
        try:
            return _number(compute(*values))
        except (ArithmeticError, ValueError):
            return None

    return computed


def _remainder(left: int | float, right: int | float) -> int | float:
    """With the sign of the dividend, as in SQL."""
    if type(left) is int and type(right) is int:
        return abs(left) % abs(right) * (1 if left >= 0 else -1)
    return math.fmod(left, right)


def _whole(value: Any) -> int | None:
    """Return a whole number, which may be written 1.0; NULL for all else."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _add(left: Any, right: Any) -> Any:
    return _join(left, right) if type(left) is str else _sum(left, right)


_sum = _arithmetic(operator.add)


def _round(value: int | float, digits: int | float = 0) -> int | float:
    """To so many digits, halves away from zero, as in SQL."""
    if not 0 <= digits <= MAX_DIGITS or digits % 1:
        raise ValueError
    if type(value) is int or abs(value) >= 2**53:
        return value
    factor = 10 ** int(digits)
    rounded = math.floor(abs(value) * factor + 0.5) / factor
    return math.copysign(rounded, value) if digits else int(math.copysign(rounded, value))


# -- texts and lists


def _join(left: Any, right: Any) -> str | None:
    if type(left) is not str or type(right) is not str or len(left) + len(right) > MAX_TEXT:
        return None
    return left + right


def _of_text(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A function of texts; NULL for all else."""

    def computed(*values: Any) -> Any:
        return compute(*values) if all(type(value) is str for value in values) else None

    return computed


def _length(value: Any) -> int | None:
    return len(value) if type(value) in (str, list, dict) else None


def _substr(text: Any, start: Any, length: Any = MAX_TEXT) -> str | None:
    start, length = _whole(start), _whole(length)
    if type(text) is not str or not start or length is None or length < 0:
        return None
    first = start - 1 if start > 0 else max(len(text) + start, 0)
    return text[first : first + length]


def _replace(text: str, old: str, new: str) -> str | None:
    if not old:
        return text
    size = len(text) + text.count(old) * (len(new) - len(old))
    return text.replace(old, new) if size <= MAX_TEXT else None


def _has(container: Any, value: Any) -> bool | None:
    if type(value) is str and type(container) in (list, str, dict):
        return value in container
    if type(container) is list:
        return any(equal(each, value) for each in container)
    return None


def _contains(container: Any, *values: Any) -> bool | None:
    return all_of([_has(container, value) for value in values])


def _contains_any(container: Any, *values: Any) -> bool | None:
    return any_of([_has(container, value) for value in values])


def _timestamp(value: Any) -> int | float | None:
    if type(value) is str:
        try:
            return read_time(value)
        except ValueError:
            return None
    return value if type(value) in NUMBERS else None


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


OPERATIONS: dict[str, Operation] = {
    "and": Operation(lambda *values: all_of([truth(value) for value in values]), 2, None, strict=False, boolean=True),
    "or": Operation(lambda *values: any_of([truth(value) for value in values]), 2, None, strict=False, boolean=True),
    "not": Operation(_not, 1, 1, boolean=True),
    **{name: Operation(compare, 2, 2, boolean=True) for name, compare in COMPARISONS.items()},
    "in": Operation(_in, 2, None, strict=False, boolean=True),
    "between": Operation(_between, 3, 3, strict=False, boolean=True),
    "is null": Operation(lambda value: value is None, 1, 1, strict=False, boolean=True),
    "like": Operation(None, 2, 3, boolean=True, bind=like),
    "ilike": Operation(None, 2, 3, boolean=True, bind=lambda *texts: like(*texts, ignore_case=True)),
    "match": Operation(None, 2, 2, boolean=True, bind=regex),
    "imatch": Operation(None, 2, 2, boolean=True, bind=lambda text: regex(text, ignore_case=True)),
    "+": Operation(_add, 2, 2),
    "-": Operation(_arithmetic(operator.sub), 2, 2),
    "*": Operation(_arithmetic(operator.mul), 2, 2),
    "/": Operation(_arithmetic(operator.truediv), 2, 2),
    "%": Operation(_arithmetic(_remainder), 2, 2),
    "negate": Operation(_arithmetic(operator.neg), 1, 1),
    "||": Operation(_join, 2, 2),
    "item": Operation(step_into, 2, 2),
    "lower": Operation(_of_text(str.lower), 1, 1),
    "upper": Operation(_of_text(str.upper), 1, 1),
    "trim": Operation(_of_text(str.strip), 1, 1),
    "length": Operation(_length, 1, 1),
    "substr": Operation(_substr, 2, 3),
    "replace": Operation(_of_text(_replace), 3, 3),
    "starts_with": Operation(_of_text(str.startswith), 2, 2, boolean=True),
    "ends_with": Operation(_of_text(str.endswith), 2, 2, boolean=True),
    "contains": Operation(_contains, 2, None, boolean=True),
    "contains_any": Operation(_contains_any, 2, None, boolean=True),
    "abs": Operation(_arithmetic(abs), 1, 1),
    "round": Operation(_arithmetic(_round), 1, 2),
    "coalesce": Operation(_coalesce, 1, None, strict=False),
    "timestamp": Operation(_timestamp, 1, 1),
    "json": Operation(_of_text(_json), 1, 1),
}

FUNCTIONS: dict[str, Function] = {
    "lower": Function("lower(text)", "In lower case.", "lower('Paid')", "'paid'"),
    "upper": Function("upper(text)", "In upper case.", "upper('eu')", "'EU'"),
    "trim": Function("trim(text)", "Without white space at its ends.", "trim('  a ')", "'a'"),
    "length": Function(
        "length(x)", "The characters of a text, elements of a list, fields of an object.", "length('abc')", "3"
    ),
    "substr": Function(
        "substr(text, start[, length])",
        "A part of a text: `start` counts from 1, or from the end if negative.",
        "substr('orders', 1, 3)",
        "'ord'",
    ),
    "replace": Function(
        "replace(text, old, new)",
        "A text with all of one thing replaced by another.",
        "replace('a-b', '-', '/')",
        "'a/b'",
    ),
    "starts_with": Function(
        "starts_with(text, start)", "Whether a text begins so.", "starts_with('abc', 'ab')", "TRUE"
    ),
    "ends_with": Function("ends_with(text, end)", "Whether a text ends so.", "ends_with('abc', 'ab')", "FALSE"),
    "contains": Function(
        "contains(x, value, ...)",
        "Whether a list has all of the values, a text all of the parts, an object all of the keys.",
        "contains(JSON '[\"a\", \"b\"]', 'a', 'b')",
        "TRUE",
    ),
    "contains_any": Function(
        "contains_any(x, value, ...)", "The same for at least one of them.", "contains_any('abc', 'x', 'c')", "TRUE"
    ),
    "abs": Function("abs(number)", "Without its sign.", "abs(-3)", "3"),
    "round": Function("round(number[, digits])", "Rounded, halves away from zero.", "round(2.5)", "3"),
    "coalesce": Function("coalesce(x, ...)", "The first that is not NULL.", "coalesce(NULL, 'x')", "'x'"),
    "timestamp": Function(
        "timestamp(x)",
        "An ISO 8601 time as seconds since the epoch, in UTC when it names no zone.",
        "timestamp('1970-01-02')",
        "86400.0",
    ),
    "json": Function("json(text)", "The value that a text of JSON holds.", "json('[1, 2]')[1]", "2"),
}
"""The operations that are called by their name."""
