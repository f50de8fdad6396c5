"""The table of operations, row by row: what each gives, and when it is NULL."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.model.predicate.predicate_cases import call, field, message
from tidings.lang import parse_filter
from tidings.model.predicate import Call, Value
from tidings.model.predicate.compiling import compile_value
from tidings.model.predicate.operations import FUNCTIONS, MAX_DIGITS, MAX_TEXT, OPERATIONS

BIG = 10**4000
LONG = "x" * MAX_TEXT

ROWS: dict[str, list[tuple[Any, ...]]] = {  # the operands, and the result
    "and": [(1, "x", True), (1, 0, False), (None, 0, False), (None, 1, None), (1, 1, 1, False, False)],
    "or": [(0, "", True), (0, False, False), (None, 0, None), (None, 1, True), (0, 0, {}, True)],
    "not": [(True, False), (0, True), ("", False), ([], False), (None, None)],
    "=": [(1, 1.0, True), (1, 2, False), (1, True, None), ("a", None, None), ([1], [1], True)],
    "<>": [(1, 1.0, False), (1, 2, True), (1, "1", None), ([1], [True], True)],
    "<": [(1, 2, True), (2, 2, False), ("a", "b", True), (1, "b", None), (False, True, None), ([1], [2], None)],
    "<=": [(2, 2, True), (3, 2, False), ({}, {}, None)],
    ">": [(2, 1, True), (2, 2, False), (None, 1, None)],
    ">=": [(2, 2, True), (1, 2, False), ("b", "a", True), ("b", 1, None)],
    "in": [
        (1, 1, True),
        (1, 2, 3, False),
        (1, 2, None, None),
        (1, 1, None, True),
        (1, "1", None),
        (None, 1, None),
        (1, 2, "1", 1.0, True),
        ("a", "b", "a", True),
        (True, 1, None),
        (True, True, True),
        ([1], [1], True),
        ([1], [2], [True], False),
    ],
    "between": [
        (2, 1, 3, True),
        (1, 1, 1, True),
        (0, 1, 3, False),
        (4, 1, 3, False),
        (4, None, 3, False),
        (2, None, 3, None),
        (2, "1", 3, None),
        ("b", "a", "c", True),
        (None, 1, 2, None),
        (2, 3, 1, False),
    ],
    "is null": [(None, True), (0, False), ("", False), ([], False), (False, False)],
    "like": [("abc", "a%", True), ("abc", "b%", False), (5, "%", None), (None, "%", None), ("a%", "a!%", "!", True)],
    "ilike": [("ABC", "a%", True), ("abc", "b%", False), ([], "%", None)],
    "match": [("abc", "b", True), ("abc", "^b", False), (5, "5", None), (None, "", None)],
    "imatch": [("ABC", "b", True), ("abc", "x", False), ({}, "", None)],
    "+": [
        (1, 2, 3),
        (1, 0.5, 1.5),
        ("a", "b", "ab"),
        ("a", 1, None),
        (1, "a", None),
        (True, 1, None),
        ([1], [2], None),
        (2**63 - 1, 0, 2**63 - 1),
        (2**63 - 1, 1, float(2**63)),
        (1e308, 1e308, None),
        (BIG, 1, None),
        (LONG, "", LONG),
        (LONG, "x", None),
    ],
    "-": [(1, 2, -1), ("a", "b", None), (-(2**63), 1, -(2.0**63)), (-(2**63), 0, -(2**63)), (None, 1, None)],
    "*": [(3, 4, 12), ("a", 3, None), (2**62, 2, 2.0**63), (1e200, 1e200, None), (BIG, BIG, None), ([1], 2, None)],
    "/": [(7, 2, 3.5), (6, 2, 3.0), (1, 0, None), (1, 0.0, None), (0, 0, None), (BIG, 1, None), (BIG, BIG, 1.0)],
    "%": [
        (7, 3, 1),
        (-7, 3, -1),
        (7, -3, 1),
        (-7, -3, -1),
        (7.5, 2, 1.5),
        (-7.5, 2, -1.5),
        (7, 0, None),
        (7, 0.0, None),
        (2**63 - 1, 2, 1),
        (BIG, 7.5, None),
        ("a%s", "b", None),
    ],
    "negate": [(1, -1), (-0.5, 0.5), (-(2**63), 2.0**63), ("a", None), (True, None), (BIG, None)],
    "||": [("a", "b", "ab"), ("a", 1, None), (1, 2, None), (LONG, "x", None), (None, "a", None)],
    "item": [
        ([1, 2], -1, 2),
        ([1], 5, None),
        ({"a": 1}, "a", 1),
        ({"0": 1}, 0, None),
        ("abc", 0, None),
        (None, 0, None),
    ],
    "lower": [("AÉ", "aé"), (5, None), (None, None)],
    "upper": [("aß", "ASS"), ([], None)],
    "trim": [(" \t a b\n", "a b"), ("", ""), (5, None)],
    "length": [("é𝄞", 2), ([1, [2]], 2), ({"a": 1}, 1), (5, None), (True, None), (None, None), ("", 0)],
    "substr": [
        ("orders", 1, "orders"),
        ("orders", 2, 3, "rde"),
        ("orders", 2.0, 3.0, "rde"),
        ("orders", -2, "rs"),
        ("orders", -2, 1, "r"),
        ("orders", -20, 2, "or"),
        ("orders", 7, ""),
        ("orders", 1, 0, ""),
        ("orders", 0, None),
        ("orders", 0.0, None),
        ("orders", 1.5, None),
        ("orders", 1, -1, None),
        ("orders", True, None),
        ("orders", "1", None),
        ("orders", 1, BIG, "orders"),
        ("orders", BIG, ""),
        ("orders", 1e308, ""),
        (5, 1, None),
        (["a"], 1, None),
    ],
    "replace": [
        ("a-b-c", "-", "", "abc"),
        ("aaa", "aa", "b", "ba"),
        ("abc", "", "x", "abc"),
        ("abc", "x", "y", "abc"),
        ("ab", "a", 1, None),
        ("x" * 2000, "x", "y" * 1000, None),
        (LONG, "x", "y", "y" * MAX_TEXT),
        (LONG, "x", "yy", None),
    ],
    "starts_with": [("abc", "ab", True), ("abc", "b", False), ("abc", "", True), (["a"], "a", None), ("a", None, None)],
    "ends_with": [("abc", "bc", True), ("abc", "b", False), (1, "1", None)],
    "contains": [
        (["a", "b"], "a", True),
        (["a", "b"], "a", "b", True),
        (["a", "b"], "a", "c", False),
        ([1, 2], 1.0, True),
        ([True], 1, False),
        ([1], True, False),
        ([[1], {"a": 2}], [1], {"a": 2}, True),
        ([[True]], [1], False),
        ([None], None, None),
        (["a"], "a", None, None),
        ("text", "ex", "t", True),
        ("text", "x", "z", False),
        ("text", 1, None),
        ({"a": 1}, "a", True),
        ({"a": 1}, "b", False),
        ({"a": 1}, 1, None),
        (5, "5", None),
        (None, "a", None),
        ([], "a", False),
    ],
    "contains_any": [
        (["a"], "b", "a", True),
        (["a"], "b", "c", False),
        ("text", "z", "x", True),
        ({"a": 1}, "b", "a", True),
        ({"a": 1}, 1, "a", True),
        ({"a": 1}, 1, "b", None),
        ([True], 1, False),
        (["a"], "a", None, None),
        (5, "5", None),
    ],
    "abs": [(-3, 3), (-2.5, 2.5), (-(2**63), 2.0**63), ("a", None), (True, None), (-BIG, None)],
    "round": [
        (2.5, 3),
        (-2.5, -3),
        (2.4, 2),
        (1.25, 1, 1.3),
        (1.25, 1.0, 1.3),
        (-1.25, 1, -1.3),
        (7, 7),
        (7, 2, 7),
        (0.1, MAX_DIGITS, 0.1),
        (0.1, MAX_DIGITS + 1, None),
        (1.5, -1, None),
        (1.5, 0.5, None),
        (1.5, "1", None),
        (1e300, 2, 1e300),
        (BIG, None),
        (math.nan, None),
        (math.inf, None),
        ("a", None),
        (True, None),
    ],
    "coalesce": [(None, 1, 1), (0, 1, 0), (None, None, None), (False, 1, False), (None, [], [])],
    "timestamp": [("1970-01-02", 86400.0), (5, 5), (5.5, 5.5), ("soon", None), (True, None), ([], None)],
    "json": [
        ('{"a": [1]}', {"a": [1]}),
        ("null", None),
        ("{", None),
        ("", None),
        ("NaN", None),
        ("1e999", None),
        ("\ud800", None),
        ("[" * 100_000, None),
        ('"\\ud800"', None),
        (5, None),
    ],
}

CASES = [(name, row) for name, rows in ROWS.items() for row in rows]


def test_every_operation_has_rows() -> None:
    assert ROWS.keys() == OPERATIONS.keys()
    nulls = [name for name in ROWS.keys() - {"is null"} if not any(row[-1] is None for row in ROWS[name])]
    assert nulls == [], "what is NULL is part of the promise"


def spot(place: int, operation: str, operand: Any) -> Any:
    """Where the operand comes from: the message, or the filter itself where it has to."""
    constant = place > 0 and (operation == "item" or OPERATIONS[operation].bind is not None)
    return Value(operand) if constant else field(f"x{place}")


@pytest.mark.parametrize(("operation", "row"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_row(operation: str, row: tuple[Any, ...]) -> None:
    *operands, expected = row
    data = {f"x{place}": operand for place, operand in enumerate(operands)}
    tree = call(operation, *(spot(place, operation, each) for place, each in enumerate(operands)))
    found = compile_value(tree)(data, message(data))
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_who_says_boolean_is(name: str) -> None:
    """Compiled conditions rely on it: such a value is not asked for its truth again."""
    results = {type(row[-1]) for row in ROWS[name]}
    assert (results <= {bool, type(None)}) is OPERATIONS[name].boolean


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.strict])
def test_null_makes_null(name: str) -> None:
    operation = OPERATIONS[name]
    if operation.bind is not None or name == "item":
        return check_null(name, [None, "a"])
    operands = list(ROWS[name][0][: operation.least])
    for place in range(operation.least):
        check_null(name, [*operands[:place], None, *operands[place + 1 :]])
    return None


def check_null(name: str, operands: list[Any]) -> None:
    data = {f"x{place}": operand for place, operand in enumerate(operands)}
    tree = call(name, *(spot(place, name, each) for place, each in enumerate(operands)))
    assert compile_value(tree)(data, message(data)) is None


def test_texts_do_not_grow_without_bound() -> None:
    tree: Call = call("||", field("x"), field("x"))
    for _ in range(50):
        tree = call("||", tree, tree) if len(str(tree)) < 10_000 else call("replace", tree, "x", "xx")
    data = {"x": "x" * 1000}
    assert compile_value(tree)(data, message(data)) is None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_page_tells_the_truth_about(name: str) -> None:
    function = FUNCTIONS[name]
    assert function.call.startswith(f"{name}(")
    assert function.example.startswith(f"{name}(")
    assert parse_filter(f"{function.example} = {function.result}").matches(message())


COUNTS = {
    (1, 1): "not, is null, negate, lower, upper, trim, length, abs, timestamp, json",
    (2, 2): "=, <>, <, <=, >, >=, match, imatch, +, -, *, /, %, ||, item, starts_with, ends_with",
    (3, 3): "between, replace",
    (1, 2): "round",
    (2, 3): "like, ilike, substr",
    (1, None): "coalesce",
    (2, None): "and, or, in, contains, contains_any",
}


def test_how_many_operands_they_take() -> None:
    expected = {name: counts for counts, names in COUNTS.items() for name in names.split(", ")}
    assert {name: (each.least, each.most) for name, each in OPERATIONS.items()} == expected


def test_which_operations_are_called_by_name() -> None:
    signs = {name for name in OPERATIONS if not name.replace("_", "").isalpha()}
    words = {"and", "or", "not", "in", "between", "like", "ilike", "match", "imatch", "negate", "item"}
    assert OPERATIONS.keys() - FUNCTIONS.keys() == signs | words
