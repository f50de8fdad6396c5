"""Every text is read or refused by the one typed error, at once; what was read is the same after printing."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lang.checking import VOCABULARY, check_filter, check_statements
from tidings.errors import InvalidFilter, InvalidStatement
from tidings.lang import parse_filter, parse_statements
from tidings.lang.parser import MAX_STATEMENTS_BYTES
from tidings.model.predicate import Predicate
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.tree import MAX_FILTER_BYTES, Call, Node, Path, Value

GOOD = (
    "priority = 'high' AND details.total > 100",
    "NOT (a IN (1, 2.5, 'x') OR b[0].\"c d\" NOT LIKE '%x\\_' ESCAPE '\\') AND headers['x'] !~* '^(a|b)+$'",
    "_published_at BETWEEN '2026-01-01' AND timestamp(a) + 60 AND tags CONTAINS JSON '{\"a\": [1]}'",
    "-a * (b - -1) / 2 % 3 <> coalesce(c.d, json(e)[1].f, 0) OR a IS NOT NULL",
    "CREATE TOPIC IF NOT EXISTS a/b SCHEMA (x MAP<STRING, ANY> NOT NULL) WITH OPTIONS (max_retries: 3, delivery = 'x')",
    'ALTER TOPIC "a b" WITHOUT SCHEMA WITH DELIVERY exactly_once FORCE; DROP TOPIC IF EXISTS a',
    "CREATE GROUP g ON a, b/** FROM BEGINNING WHERE x > 1; SUBSCRIBE TO a GROUP g WHERE y;",
    "SHOW TOPICS LIKE 'a*'; DESCRIBE GROUP g -- and\n; SELECT \"a;\" FROM [b;] /* ; */ WHERE c = ';'",
)

# --- trees whose text is read back

names = st.sampled_from(
    ["a", "b1", "_c", "and", "headers", "Select", "odd name", 'q"q', "", "ö", "json", "_key"]
) | st.text(max_size=5)
steps = names | st.integers(-3, 3)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
constants = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
).map(Value)
paths = (
    st.builds(lambda rest: Path("data", tuple(rest)), st.lists(steps, max_size=3))
    | st.builds(lambda name: Path("headers", (name,)), names)
    | st.sampled_from(sorted(FIELDS)).map(Path)
)
patterns = st.sampled_from(["", "a%", "_x", "(a|b)+", "it's", "\\\\"]).map(Value)


def calls(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Call]:
    def of(operation: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
        return st.tuples(*arguments).map(lambda found: Call(operation, found))

    def many(operation: str, least: int) -> st.SearchStrategy[Call]:
        return st.lists(inner, min_size=least, max_size=4).map(lambda found: Call(operation, tuple(found)))

    comparisons = ("=", "<>", "<", "<=", ">", ">=")
    known = inner.filter(lambda node: node != Value(None))  # text that compares with NULL is refused
    pairs = ("+", "-", "*", "/", "%", "||", "starts_with")
    singles = ("not", "is null", "negate", "lower", "length", "abs", "json", "timestamp")
    return st.one_of(
        *(of(operation, known, known) for operation in comparisons),
        *(of(operation, inner, inner) for operation in pairs),
        *(of(operation, inner) for operation in singles),
        *(many(operation, 2) for operation in ("and", "or", "in", "contains", "contains_any")),
        many("coalesce", 1),
        of("between", inner, inner, inner),
        of("substr", inner, inner, inner),
        *(of(operation, inner, patterns) for operation in ("like", "ilike", "match", "imatch")),
        of("like", inner, patterns, st.sampled_from("!\\'").map(Value)),
        of("item", inner, steps.map(Value)),
    )


nodes: st.SearchStrategy[Node] = st.recursive(constants | paths, calls, max_leaves=12)


@settings(max_examples=400)
@given(nodes)
def test_what_is_printed_is_read_back(node: Node) -> None:
    try:
        predicate = Predicate(node)
    except InvalidFilter:  # a time that is none, a pattern that RE2 refuses: not what is asked here
        return
    text = str(predicate)
    assert parse_filter(text) == predicate, text
    (subscribe,) = parse_statements(f"SUBSCRIBE TO a WHERE {text}")
    assert getattr(subscribe, "filter", None) == predicate


# --- texts of any kind


@settings(max_examples=300)
@given(st.text(max_size=200) | st.text(alphabet="'\"`[]();,.-/*%~ aN\n", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    check_filter(text)
    check_statements(text)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(VOCABULARY), max_size=25).map(" ".join))
def test_any_words_are_read_or_refused(text: str) -> None:
    check_filter(text)
    check_statements(text)


@settings(max_examples=300)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(VOCABULARY)), min_size=1, max_size=3),
)
def test_changed_texts_are_read_or_refused(text: str, changes: list[tuple[int, int, str]]) -> None:
    for place, length, word in changes:
        place %= len(text) + 1
        text = text[:place] + word + text[place + length :]
    check_filter(text)
    check_statements(text)


@pytest.mark.parametrize("text", ["a = '\ud800'", "\udfff"])
def test_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilter, match="half of a character") as caught:
        parse_filter(text)
    assert (caught.value.line, caught.value.column) == (1, text.index(next(c for c in text if c >= "\ud800")) + 1)
    with pytest.raises(InvalidStatement, match="half of a character"):
        parse_statements(text)


# --- bounds

SIZE = MAX_FILTER_BYTES - 100


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "(" * SIZE,
        "(" * (SIZE // 2) + ")" * (SIZE // 2),
        "(" * (SIZE // 2 - 1) + "a" + ")" * (SIZE // 2 - 1) + "!",
        "NOT " * (SIZE // 4),
        "NOT " * (SIZE // 4 - 1) + "a",
        "-" + " -" * (SIZE // 2 - 1) + "a",
        "a" + "+a" * (SIZE // 2 - 1),
        "a" + "||a" * (SIZE // 3 - 1),
        "lower(" * (SIZE // 6),
        "lower(" * (SIZE // 7 - 1) + "a" + ")" * (SIZE // 7 - 1),
        "a IN (" * (SIZE // 6),
        "(a AND b) OR (" * (SIZE // 14),
        "(a)" + "[0]" * (SIZE // 3 - 1),
        "a OR " * (SIZE // 5) + "b c",
        "a=1 OR " * (SIZE // 7) + "_x",
        "a BETWEEN " * (SIZE // 10),
        "'" * SIZE + "'",
        "/*" * (SIZE // 2),
        "a = JSON '" + "[" * (SIZE - 50) + "'",
        "a ~ '" + "(a*)*" * (SIZE // 5 - 5) + "'",
        "a LIKE '" + "%_" * (SIZE // 2 - 10) + "' = 1",
        "a IN (" + "1," * (SIZE // 2 - 10) + "1)",
    ],
    ids=lambda text: text[:12],
)
def test_bombs_end_in_the_typed_error(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(text)
    with pytest.raises(InvalidStatement):
        parse_statements(f"SUBSCRIBE TO a WHERE {text}")


@pytest.mark.parametrize(
    "text", ["(" * 1_000_000, "a OR " * 200_000 + "a", "'" + "x" * 1_000_000 + "'", "\n" * 1_000_000]
)
def test_huge_filters_are_not_even_read(text: str) -> None:
    with pytest.raises(InvalidFilter, match=rf"the limit is {MAX_FILTER_BYTES}") as caught:
        parse_filter(text)
    assert len(str(caught.value)) < 500
    with pytest.raises(InvalidStatement, match=rf"the limit is {MAX_STATEMENTS_BYTES}"):
        parse_statements(f"SUBSCRIBE TO a WHERE {text}")


MANY = MAX_STATEMENTS_BYTES - 100


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        ";" * MANY,
        "SELECT " + "'a''" * (MANY // 4 - 10),
        "SELECT " + "[" * (MANY // 2),
        "SELECT " + "/*" * (MANY // 2 - 10),
        "SELECT " + "`" * (MANY - 11) + "`" * (MANY % 2),
        "CREATE TOPIC a SCHEMA (x " + "LIST<" * (MANY // 5 - 20),
        "CREATE TOPIC a SCHEMA (x " + "LIST<" * (MANY // 7) + "INT" + ">" * (MANY // 7) + ")",
        "CREATE TOPIC a SCHEMA (x STRUCT<" + "x INT, " * (MANY // 7 - 20) + "x INT>)",
        "CREATE TOPIC " + "a" * (MANY - 20),
        "CREATE TOPIC a WITH OPTIONS (" + "max_retries: 1," * (MANY // 15 - 10),
        "SUBSCRIBE TO " + "a," * (MANY // 2 - 20),
        "SHOW TOPICS " * (MANY // 12),
        "SHOW TOPICS;" * (MANY // 12) + "SHOW",
    ],
    ids=lambda text: text[:30],
)
def test_long_statements_end_in_the_typed_error(text: str) -> None:
    with pytest.raises(InvalidStatement):
        parse_statements(text)


def test_a_filter_of_the_longest_size_is_read() -> None:
    text = "a = '" + "x" * (MAX_FILTER_BYTES - 6) + "'"
    assert len(text) == MAX_FILTER_BYTES
    assert str(parse_filter(text)) == text
    assert str(parse_filter("a IN (" + ", ".join(map(str, range(1000))) + ")")).endswith(", 999)")


# --- loading


def test_the_grammar_is_loaded_when_first_needed_and_once() -> None:
    program = (
        "import sys, tidings, tidings.lang\n"
        "assert 'lark' not in sys.modules\n"
        "from tidings.lang import parser\n"
        "parser.parse_filter('a = 1')\n"
        "import lark\n"
        "lark.Lark = None\n"
        "parser.parse_filter('a = 2'); parser.parse_statements('SHOW TOPICS')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_may_parse_at_the_same_time() -> None:
    wrong: list[str] = []

    def parse(number: int) -> None:
        for each in range(100):
            text = f"a{number} = {each}"
            if str(parse_filter(text)) != text:
                wrong.append(text)

    threads = [threading.Thread(target=parse, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_errors_can_be_pickled_or_at_least_shown() -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter("a = ")
    assert "line 1, column 4" in str(caught.value)
    assert pickle.loads(pickle.dumps(parse_filter("a = 1"))) == parse_filter("a = 1")
