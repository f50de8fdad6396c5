"""What each form of a condition means: the nodes it becomes, and which operator binds closer."""

from __future__ import annotations

import pytest

from tidings.errors import InvalidFilter
from tidings.lang import parse_filter
from tidings.model.predicate.tree import Call, Node, Path, Value

A, B, C = (Path("data", (name,)) for name in "abc")
ONE, X = Value(1), Value("x")


def call(operation: str, *arguments: Node) -> Call:
    return Call(operation, arguments)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        # logic
        ("a", A),
        ("a AND b and c", call("and", A, B, C)),
        ("a OR b or c", call("or", A, B, C)),
        ("not NOT a", call("not", call("not", A))),
        ("(a AND b) AND c", call("and", call("and", A, B), C)),
        # comparisons
        *((f"a {sign} 1", call(sign, A, ONE)) for sign in ("=", "<>", "<", "<=", ">", ">=")),
        ("a == 1", call("=", A, ONE)),
        ("a != 1", call("<>", A, ONE)),
        ("a=-1", call("=", A, Value(-1))),
        ("a IN (1)", call("in", A, ONE)),
        ("a IN (1, b, 'x')", call("in", A, ONE, B, X)),
        ("a NOT IN (1)", call("not", call("in", A, ONE))),
        ("a IN b", call("contains", B, A)),
        ("'x' NOT IN b.c", call("not", call("contains", Path("data", ("b", "c")), X))),
        ("1 IN JSON '[1]'", call("contains", Value([1]), ONE)),
        ("1 IN json(a)", call("contains", call("json", A), ONE)),
        ("a CONTAINS 'x'", call("contains", A, X)),
        ("a NOT CONTAINS 'x'", call("not", call("contains", A, X))),
        ("a BETWEEN 1 AND b", call("between", A, ONE, B)),
        ("a NOT BETWEEN 1 AND b", call("not", call("between", A, ONE, B))),
        ("a LIKE 'x'", call("like", A, X)),
        ("a NOT ILIKE 'x' ESCAPE '!'", call("not", call("ilike", A, X, Value("!")))),
        ("a ~ 'x'", call("match", A, X)),
        ("a regexp 'x'", call("match", A, X)),
        ("a NOT REGEXP 'x'", call("not", call("match", A, X))),
        ("a ~* 'x'", call("imatch", A, X)),
        ("a !~ 'x'", call("not", call("match", A, X))),
        ("a !~* 'x'", call("not", call("imatch", A, X))),
        ("a NOT !~ 'x'", call("not", call("not", call("match", A, X)))),
        ("a IS NULL", call("is null", A)),
        ("a IS NOT NULL", call("not", call("is null", A))),
        # arithmetic
        *((f"a {sign} b", call(sign, A, B)) for sign in ("+", "-", "*", "/", "%", "||")),
        ("-a", call("negate", A)),
        ("-1", Value(-1)),
        ("-(1)", call("negate", ONE)),
        ("- -1", call("negate", Value(-1))),
        ("a - -1", call("-", A, Value(-1))),
        # constants
        ("'it''s'", Value("it's")),
        ("''", Value("")),
        ("'two\nlines'", Value("two\nlines")),
        ("TRUE", Value(True)),
        ("false", Value(False)),
        ("Null", Value(None)),
        ("12", Value(12)),
        ("1.5", Value(1.5)),
        (".5", Value(0.5)),
        ("1.", Value(1.0)),
        ("1e3", Value(1000.0)),
        ("2.5E-1", Value(0.25)),
        ("9223372036854775807", Value(2**63 - 1)),
        ("-9223372036854775808", Value(-(2**63))),
        ("9223372036854775808", Value(2**63)),
        ("18446744073709551615", Value(2**64 - 1)),
        ("18446744073709551616", Value(2.0**64)),
        ("000000000000000000000000012", Value(12.0)),
        ("JSON '{\"a\": [1, \"it''s\"]}'", Value({"a": [1, "it's"]})),
        ("json\n'[]'", Value([])),
        # names and paths
        ("a.b.c", Path("data", ("a", "b", "c"))),
        ("a . b [0] ['c d'] . \"e\"", Path("data", ("a", "b", 0, "c d", "e"))),
        ("a[-1]", Path("data", ("a", -1))),
        ("a.and.in", Path("data", ("a", "and", "in"))),
        ('"a ""b"""', Path("data", ('a "b"',))),
        ('"AND"', Path("data", ("AND",))),
        ('"_key"', Path("data", ("_key",))),
        ('"headers".x', Path("data", ("headers", "x"))),
        ("Headers", Path("data", ("Headers",))),
        ("größe", Path("data", ("größe",))),
        ("json", Path("data", ("json",))),
        ("json.a", Path("data", ("json", "a"))),
        ("timestamp", Path("data", ("timestamp",))),
        ("contains CONTAINS 1", call("contains", Path("data", ("contains",)), ONE)),
        ("escape", Path("data", ("escape",))),
        ("orders", Path("data", ("orders",))),
        ("headers.x", Path("headers", ("x",))),
        ("headers['content-language']", Path("headers", ("content-language",))),
        ("_topic", Path("_topic", ())),
        ("_routing_key[0].a", Path("_routing_key", (0, "a"))),
        ("_data", Path("data", ())),
        ("_data[0]", Path("data", (0,))),
        # calls, and steps into what they give
        ("lower(a)", call("lower", A)),
        ("LOWER ( a )", call("lower", A)),
        ("coalesce(a, b, 1)", call("coalesce", A, B, ONE)),
        ("contains(a, a = 1 OR b)", call("contains", A, call("or", call("=", A, ONE), B))),
        ("json(a)[0].b", call("item", call("item", call("json", A), Value(0)), Value("b"))),
        ("(a)['b']", call("item", A, Value("b"))),
        ("JSON '[1]'[0]", call("item", Value([1]), Value(0))),
        # blanks and comments
        (" \n\t a -- all of it\n= /* one */ 1 --", call("=", A, ONE)),
        ("a--1\n", A),
    ],
)
def test_meaning(text: str, node: Node) -> None:
    predicate = parse_filter(text)
    assert predicate.root == node
    assert repr(predicate.root) == repr(node), "1, 1.0 and TRUE are equal in Python"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a OR b AND c", "a OR (b AND c)"),
        ("NOT a AND b", "(NOT a) AND b"),
        ("NOT a = 1", "NOT (a = 1)"),
        ("NOT a IN (1) OR b", "(NOT (a IN (1))) OR b"),
        ("a = 1 AND b = 2", "(a = 1) AND (b = 2)"),
        ("a BETWEEN 1 AND 2 AND c", "(a BETWEEN 1 AND 2) AND c"),
        ("a BETWEEN b + 1 AND c * 2", "a BETWEEN (b + 1) AND (c * 2)"),
        ("a + b > c - 1", "(a + b) > (c - 1)"),
        ("a || b = c", "(a || b) = c"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a || b + c", "(a || b) + c"),
        ("a / b % c * 2", "((a / b) % c) * 2"),
        ("-a * b", "(-a) * b"),
        ("-a.b", "-(a.b)"),
        ("- json(a)[0]", "-(json(a)[0])"),
        ("a IS NULL = b", None),
        ("a = b = c", None),
        ("a = NOT b", None),
        ("a < b < c", None),
        ("a IS NULL AND b", "(a IS NULL) AND b"),
        ("a + 1 IS NULL", "(a + 1) IS NULL"),
        ("a || 'x' LIKE 'y'", "(a || 'x') LIKE 'y'"),
        ("1 IN b AND c", "(1 IN b) AND c"),
    ],
)
def test_precedence(text: str, same: str | None) -> None:
    if same is None:
        with pytest.raises(InvalidFilter, match="cannot stand here"):
            parse_filter(text)
    else:
        assert parse_filter(text).root == parse_filter(same).root


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a = NULL", 3, "write IS NULL or IS NOT NULL"),
        ("NULL <> a", 6, "write IS NULL or IS NOT NULL"),
        ("a AND b < null", 9, "write IS NULL or IS NOT NULL"),
        ("lenght(a) > 1", 1, "there is no function lenght; did you mean length?"),
        ("a = 1 AND foo(b)", 11, "there is no function foo"),
        ("__import__('os')", 1, "there is no function __import__"),
        ("_prioritee = 1", 1, "there is no _prioritee; did you mean _priority? (in double quotes"),
        ("a = _x", 5, "there is no _x (in double quotes it is a field of the data)"),
        ("_DATA", 1, "there is no _DATA; did you mean _data?"),
        ("__class__.__mro__", 1, "there is no __class__"),
        ("a = 1e999", 5, "this number is too large"),
        ("a = -1e999", 6, "this number is too large"),
        (f"a = {'9' * 5000}", 5, "this number is too large"),
        ("a[9999999999]", 3, "no list is as long as that"),
        ("a = JSON '[1'", 10, "this is no JSON"),
        ("a = JSON '1e999'", 10, "this is no JSON"),
        ("a = JSON 'NaN'", 10, "this is no JSON"),
        (f"a = JSON '{'[' * 5000}'", 10, "this is no JSON"),
        # what predicates refuse is told at the smallest part that is at fault
        ("a = 1 AND b ~ '('", 13, "RE2 refuses it"),
        ("a = 1 AND b LIKE c", 13, "constant"),
        ("NOT (a = 1 OR _priority = 'hihg')", 25, "priority"),
        ("b = 1 AND _published_at > 'yesterday'", 25, "time"),
        ("b = 1 AND lower(a, b)", 11, "lower"),
        ("b = 1 AND lower()", 11, "lower"),
        ("b = 1 AND headers", 11, "header"),
        ("b = 1 AND headers.a.b", 11, "header"),
    ],
)
def test_what_has_no_meaning(text: str, column: int, reason: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(text)
    error = caught.value
    assert reason in error.reason
    assert (error.filter, error.line, error.column) == (text, 1, column)


def test_too_deep_is_told_where_it_begins_to_be() -> None:
    text = "NOT " * 100 + "a"
    with pytest.raises(InvalidFilter, match="deep") as caught:
        parse_filter(text)
    assert 0 < caught.value.column < len(text)
