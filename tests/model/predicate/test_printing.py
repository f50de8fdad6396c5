"""Each tree has one text, with as few parentheses and quotes as it takes to read it back."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.model.predicate.predicate_cases import call, field, trees
from tidings.lang import parse_filter
from tidings.model.predicate import Node, Path, Predicate, Value
from tidings.model.predicate.operations import OPERATIONS
from tidings.model.predicate.printing import RESERVED, constant, printed

A, B, C = field("a"), field("b"), field("c")
IS_ONE = call("=", A, 1)

TREES: list[tuple[Node, str]] = [
    # constants
    (Value(None), "NULL"),
    (Value(True), "TRUE"),
    (Value(False), "FALSE"),
    (Value(5), "5"),
    (Value(-5), "-5"),
    (Value(1.0), "1.0"),
    (Value(-0.0), "-0.0"),
    (Value(1e300), "1e+300"),
    (Value("it's"), "'it''s'"),
    (Value('"\n\0é'), "'\"\n\0é'"),
    (Value([1, "it's", None, {"a": True}]), """JSON '[1,"it''s",null,{"a":true}]'"""),
    (Value({}), "JSON '{}'"),
    # paths
    (field(), "_data"),
    (field(0), "_data[0]"),
    (field(0, "a"), "_data[0].a"),
    (A, "a"),
    (field("a", "b", -1, "c d", 0), 'a.b[-1]."c d"[0]'),
    (field("odd name"), '"odd name"'),
    (field('say "x"'), '"say ""x"""'),
    (field(""), '""'),
    (field("a", ""), 'a.""'),
    (field("_key"), '"_key"'),
    (field("a", "_key"), 'a."_key"'),
    (field("headers"), '"headers"'),
    (field("a", "headers"), "a.headers"),
    (field("select"), "select"),
    (field("Order"), "Order"),
    (field("And"), '"And"'),
    (field("a", "and"), 'a."and"'),
    (field("json"), '"json"'),
    (field("1a"), '"1a"'),
    (field("é"), '"é"'),
    (Path("headers", ("x",)), "headers.x"),
    (Path("headers", ("content-language",)), 'headers."content-language"'),
    (Path("_topic"), "_topic"),
    (Path("_routing_key", ("tags", 0)), "_routing_key.tags[0]"),
    # comparisons
    (IS_ONE, "a = 1"),
    (call("<>", A, B), "a <> b"),
    (call("=", IS_ONE, True), "(a = 1) = TRUE"),
    (call("=", True, IS_ONE), "TRUE = (a = 1)"),
    (call("in", A, 1, "x", None), "a IN (1, 'x', NULL)"),
    (call("between", A, 1, call("+", B, 1)), "a BETWEEN 1 AND b + 1"),
    (call("between", A, call("and", B, C), 2), "a BETWEEN (b AND c) AND 2"),
    (call("like", A, "x%"), "a LIKE 'x%'"),
    (call("like", A, "x!%", "!"), "a LIKE 'x!%' ESCAPE '!'"),
    (call("ilike", A, "x%"), "a ILIKE 'x%'"),
    (call("match", A, "^x"), "a ~ '^x'"),
    (call("imatch", A, "^x"), "a ~* '^x'"),
    (call("is null", A), "a IS NULL"),
    (call("is null", IS_ONE), "(a = 1) IS NULL"),
    (call("contains", A, "x"), "contains(a, 'x')"),
    (call("contains", A, "x", B), "contains(a, 'x', b)"),
    # logic
    (call("and", IS_ONE, B, C), "a = 1 AND b AND c"),
    (call("or", call("and", A, B), C), "a AND b OR c"),
    (call("and", call("or", A, B), C), "(a OR b) AND c"),
    (call("and", call("and", A, B), C), "(a AND b) AND c"),
    (call("or", A, call("or", B, C)), "a OR (b OR c)"),
    (call("not", A), "NOT a"),
    (call("not", IS_ONE), "NOT a = 1"),
    (call("not", call("not", A)), "NOT NOT a"),
    (call("not", call("and", A, B)), "NOT (a AND b)"),
    (call("and", call("not", A), B), "NOT a AND b"),
    (call("=", call("not", A), B), "(NOT a) = b"),
    (call("not", call("in", A, 1)), "a NOT IN (1)"),
    (call("not", call("between", A, 1, 2)), "a NOT BETWEEN 1 AND 2"),
    (call("not", call("like", A, "x")), "a NOT LIKE 'x'"),
    (call("not", call("ilike", A, "x")), "a NOT ILIKE 'x'"),
    (call("not", call("match", A, "x")), "a !~ 'x'"),
    (call("not", call("imatch", A, "x")), "a !~* 'x'"),
    (call("not", call("is null", A)), "a IS NOT NULL"),
    (call("not", call("not", call("is null", A))), "NOT a IS NOT NULL"),
    (call("not", call("contains", A, "x")), "NOT contains(a, 'x')"),
    # arithmetic
    (call("+", call("*", A, B), C), "a * b + c"),
    (call("*", call("+", A, B), C), "(a + b) * c"),
    (call("-", call("-", A, B), C), "a - b - c"),
    (call("-", A, call("-", B, C)), "a - (b - c)"),
    (call("/", A, call("*", B, C)), "a / (b * c)"),
    (call("||", call("+", A, B), C), "a + b || c"),
    (call("||", A, call("||", B, C)), "a || (b || c)"),
    (call("-", A, -5), "a - -5"),
    (call("negate", A), "-a"),
    (call("negate", 5), "-(5)"),
    (call("negate", -5), "-(-5)"),
    (call("negate", call("negate", A)), "-(-a)"),
    (call("negate", call("+", A, B)), "-(a + b)"),
    (call("+", call("negate", A), B), "-a + b"),
    (call("*", A, call("negate", B)), "a * -b"),
    # functions and what is inside of their results
    (call("lower", A), "lower(a)"),
    (call("substr", A, 1, call("+", B, 2)), "substr(a, 1, b + 2)"),
    (call("coalesce", call("=", A, B), None), "coalesce((a = b), NULL)"),
    (call("item", call("json", A), "x"), "json(a)['x']"),
    (call("item", call("item", call("json", A), -1), "it's"), "(json(a)[-1])['it''s']"),
    (call("item", A, "x"), "(a)['x']"),
    (call("item", Value([1]), 0), "(JSON '[1]')[0]"),
    (call("item", call("+", A, B), 0), "(a + b)[0]"),
]


@pytest.mark.parametrize(("tree", "text"), TREES, ids=lambda value: value if isinstance(value, str) else "")
def test_text(tree: Node, text: str) -> None:
    assert printed(tree) == text
    assert parse_filter(printed(tree)).root == tree


def test_every_operation_is_printed() -> None:
    shown = {tree.operation for tree, _ in TREES if not isinstance(tree, (Value, Path))}
    alike = {"<", "<=", ">", ">=", "%"}  # printed as others of their kind are
    functions = {name for name in OPERATIONS if name.replace("_", "").isalpha()}
    assert OPERATIONS.keys() - shown - alike <= functions


@given(trees)
def test_texts_read_back(tree: Node) -> None:
    predicate = Predicate(tree)
    assert parse_filter(str(predicate)) == predicate


@pytest.mark.parametrize("word", sorted(RESERVED))
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_words_of_the_language_are_quoted(word: str, change: type[str]) -> None:
    for path in (field(change(word)), field("a", change(word)), Path("headers", (change(word),))):
        assert f'"{change(word)}"' in printed(path)
        assert parse_filter(printed(path)).root == path


def test_a_constant() -> None:
    assert constant([True]) == "JSON '[true]'"
