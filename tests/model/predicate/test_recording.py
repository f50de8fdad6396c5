"""Functions recorded: what each operator and method writes down, and what helps who does what cannot be recorded."""

from __future__ import annotations

import asyncio
import enum
import functools
import math
import operator
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.predicate.predicate_cases import call, field, message
from tidings.errors import InvalidFilter
from tidings.model.predicate import Call, Node, Path, Value, record
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.recording import Expression

A, B, C = field("a"), field("b"), field("c")


class Color(enum.Enum):
    RED = "red"


class Size(enum.StrEnum):
    BIG = "big"


class Point(msgspec.Struct):
    x: int


NOON = datetime(1970, 1, 1, 12, tzinfo=UTC)
LOCAL = datetime(2026, 1, 1, 12)  # noqa: DTZ001  # a time without a zone is that of this machine, as everywhere in Python

MANY = call("or", *(call("=", A, number) for number in range(500)))

RECORDED: list[tuple[Callable[[Any], Any], Node]] = [
    # places
    (lambda m: m["a"], A),
    (lambda m: m["a"]["b"][0][-1], field("a", "b", 0, -1)),
    (lambda m: m[0], field(0)),
    (lambda m: m, field()),
    (lambda m: m.data, field()),
    (lambda m: m.data["a"], A),
    (lambda m: m["data"], field("data")),
    (lambda m: m.headers["content-language"], Path("headers", ("content-language",))),
    *((lambda m, name=name: getattr(m, name[1:]), Path(name)) for name in FIELDS),
    (lambda m: m.routing_key["tags"][0], Path("_routing_key", ("tags", 0))),
    (lambda m: m["a"].lower()[0], call("item", call("lower", A), 0)),
    (lambda m: m["a"].default({})["b"], call("item", call("coalesce", A, {}), "b")),
    # comparisons
    (lambda m: m["a"] == 1, call("=", A, 1)),
    (lambda m: m["a"] != 1, call("<>", A, 1)),
    (lambda m: m["a"] < 1, call("<", A, 1)),
    (lambda m: m["a"] <= 1, call("<=", A, 1)),
    (lambda m: m["a"] > 1, call(">", A, 1)),
    (lambda m: m["a"] >= m["b"], call(">=", A, B)),
    (lambda m: 1 < m["a"], call(">", A, 1)),  # noqa: SIM300
    (lambda m: "x" == m["a"], call("=", A, "x")),  # noqa: SIM300
    (lambda m: m["a"] == None, call("is null", A)),  # noqa: E711
    (lambda m: m["a"] != None, call("not", call("is null", A))),  # noqa: E711
    (lambda m: None == m["a"], call("is null", A)),  # noqa: E711, SIM300
    (lambda m: m["a"] == True, call("=", A, True)),  # noqa: E712
    (lambda m: m["a"].is_null(), call("is null", A)),
    (lambda m: m["a"].is_not_null(), call("not", call("is null", A))),
    (lambda m: m["a"].is_in([1, "x", None]), call("in", A, 1, "x", None)),
    (lambda m: m["a"].is_in({"x"}), call("in", A, "x")),
    (lambda m: m["a"].is_in(n for n in (1, m["b"])), call("in", A, 1, B)),
    (lambda m: m["a"].between(1, m["b"]), call("between", A, 1, B)),
    (lambda m: m["a"].match("^x"), call("match", A, "^x")),
    (lambda m: m["a"].match("^x", ignore_case=True), call("imatch", A, "^x")),
    (lambda m: m["a"].like("x%"), call("like", A, "x%")),
    (lambda m: m["a"].ilike("x%"), call("ilike", A, "x%")),
    (lambda m: m["a"].contains("x"), call("contains", A, "x")),
    (lambda m: m["a"].contains("x", m["b"]), call("contains", A, "x", B)),
    (lambda m: m["a"].contains_any("x", 1), call("contains_any", A, "x", 1)),
    (lambda m: m["a"].startswith("x"), call("starts_with", A, "x")),
    (lambda m: m["a"].endswith(m["b"]), call("ends_with", A, B)),
    # logic
    (lambda m: m["a"] & m["b"], call("and", A, B)),
    (lambda m: m["a"] | m["b"], call("or", A, B)),
    (lambda m: ~m["a"], call("not", A)),
    (lambda m: m["a"] & m["b"] & m["c"], call("and", A, B, C)),
    (lambda m: m["a"] & (m["b"] & m["c"]), call("and", A, B, C)),
    (lambda m: m["a"] | m["b"] | m["c"], call("or", A, B, C)),
    (lambda m: m["a"] & m["b"] | m["c"], call("or", call("and", A, B), C)),
    (lambda m: m["a"] & (m["b"] | m["c"]), call("and", A, call("or", B, C))),
    (lambda m: functools.reduce(operator.or_, [m["a"] == n for n in range(500)]), MANY),  # flat, so not too deep
    # arithmetic
    (lambda m: m["a"] + 1, call("+", A, 1)),
    (lambda m: 1 + m["a"], call("+", 1, A)),
    (lambda m: "x" + m["a"], call("+", "x", A)),
    (lambda m: m["a"] - 1, call("-", A, 1)),
    (lambda m: 1 - m["a"], call("-", 1, A)),
    (lambda m: m["a"] * 2, call("*", A, 2)),
    (lambda m: 2 * m["a"], call("*", 2, A)),
    (lambda m: m["a"] / 2, call("/", A, 2)),
    (lambda m: 2 / m["a"], call("/", 2, A)),
    (lambda m: m["a"] % 2, call("%", A, 2)),
    (lambda m: 2 % m["a"], call("%", 2, A)),
    (lambda m: -m["a"], call("negate", A)),
    (lambda m: abs(m["a"]), call("abs", A)),
    (lambda m: m["a"].abs(), call("abs", A)),
    (lambda m: round(m["a"]), call("round", A)),
    (lambda m: round(m["a"], 2), call("round", A, 2)),
    (lambda m: m["a"].round(2), call("round", A, 2)),
    # functions
    (lambda m: m["a"].lower(), call("lower", A)),
    (lambda m: m["a"].upper(), call("upper", A)),
    (lambda m: m["a"].trim(), call("trim", A)),
    (lambda m: m["a"].length(), call("length", A)),
    (lambda m: m["a"].substr(2), call("substr", A, 2)),
    (lambda m: m["a"].substr(2, 0), call("substr", A, 2, 0)),
    (lambda m: m["a"].replace("x", m["b"]), call("replace", A, "x", B)),
    (lambda m: m["a"].default(0), call("coalesce", A, 0)),
    # constants are what a publisher's values become
    (lambda m: m.published_at > NOON, call(">", Path("_published_at"), 43200.0)),
    (
        lambda m: m.published_at > NOON.astimezone(timezone(timedelta(hours=5))),
        call(">", Path("_published_at"), 43200.0),
    ),
    (lambda m: m.published_at > LOCAL, call(">", Path("_published_at"), LOCAL.timestamp())),
    (lambda m: m.published_at > "1970-01-01", call(">", Path("_published_at"), "1970-01-01")),
    (lambda m: m.expires_at < date(1970, 1, 2), call("<", Path("_expires_at"), "1970-01-02")),
    (lambda m: m.priority == "high", call("=", Path("_priority"), "high")),
    (lambda m: m["a"] == [1, (2, "x"), {"k": None}], call("=", A, [1, [2, "x"], {"k": None}])),
    (lambda m: m["a"] == Color.RED, call("=", A, "red")),
    (lambda m: m["a"] == Size.BIG, call("=", A, "big")),
    (lambda m: m["a"] == Point(1), call("=", A, {"x": 1})),
    (lambda m: m["a"] == uuid.UUID(int=1), call("=", A, "00000000-0000-0000-0000-000000000001")),
    (lambda m: m["a"] == Decimal("1.50"), call("=", A, "1.50")),
]


@pytest.mark.parametrize(("function", "expected"), RECORDED, ids=range(len(RECORDED)))
def test_recorded(function: Callable[[Any], Any], expected: Node) -> None:
    assert record(function).root == expected


def test_constants_are_of_the_types_of_json() -> None:
    def constant(value: Any) -> Any:
        found = record(lambda m: m["a"] == value).root
        assert isinstance(found, Call)
        assert isinstance(found.arguments[1], Value)
        return found.arguments[1].value

    assert type(constant(Size.BIG)) is str
    assert type(constant(True)) is bool
    assert type(constant(1)) is int
    items = [1]
    kept = constant(items)
    items.append(2)
    assert kept == [1]


def by_method(m: Any) -> Any:
    return m["a"] == 1


class Callable1:
    def __call__(self, m: Any) -> Any:
        return by_method(m)

    def method(self, m: Any) -> Any:
        return by_method(m)


@pytest.mark.parametrize(
    "function",
    [
        by_method,
        Callable1(),
        Callable1().method,
        functools.partial(lambda n, m: m["a"] == n, 1),
        lambda m, n=1: m["a"] == n,
        lambda *m: m[0]["a"] == 1,
        operator.itemgetter("a"),
    ],
)
def test_any_function_of_one_parameter(function: Any) -> None:
    assert record(function).root in (call("=", A, 1), A)


def test_a_part_of_the_message_can_be_the_parameter() -> None:
    predicate = record(lambda key: key["tags"].contains("a"), root="_routing_key")
    assert predicate.root == call("contains", Path("_routing_key", ("tags",)), "a")
    assert predicate.matches(message())
    assert record(lambda key: key == "x", root="_routing_key").root == call("=", Path("_routing_key"), "x")


def test_the_filters_of_the_exchange() -> None:
    for function, key in (
        (lambda topic: topic.match(r".*ca.*"), "weather.ca.mountainview"),
        (lambda tags: tags.contains("fight", "superhero"), ["superhero", "fight", "supervillain"]),
        (lambda topic: topic["surprising"], {"surprising": True}),
        (lambda topic: topic["teamup"] | topic["fight"], {"fight": {}}),
        (lambda topic: topic["teamup"]["superheroes"].contains("Batman"), {"teamup": {"superheroes": ["Batman"]}}),
    ):
        predicate = record(function, root="_routing_key")
        sent = message()
        for routed, expected in ((key, True), ("other", False), ({}, False), ([], False), (None, False)):
            sent.record.headers = {"tidings-routing-key": msgspec.json.encode(routed).decode()}
            assert predicate.matches(sent) is expected


def set_item(m: Any) -> Any:
    m["a"] = 1
    return m


def set_attribute(m: Any) -> Any:
    m.total = 1
    return m


def add_to(m: Any) -> Any:
    m["a"] += 1
    return m


def loop(m: Any) -> Any:
    for each in m["a"]:
        return each == 1


def branch(m: Any) -> Any:
    if m["a"] == 1:
        return m["b"]
    return m["c"]


def generator(m: Any) -> Any:
    yield m["a"]


async def coroutine(m: Any) -> Any:
    return m["a"] == 1


async def asynchronous_generator(m: Any) -> Any:
    yield m["a"]


LOGIC = "write & | ~, x.contains(y) and (1 < x) & (x < 5)"
REFUSED: list[tuple[Any, str]] = [
    (lambda m: m["a"] and m["b"], LOGIC),
    (lambda m: m["a"] or m["b"], LOGIC),
    (lambda m: not m["a"], LOGIC),
    (lambda m: m["b"] if m["a"] else m["c"], LOGIC),
    (lambda m: 1 < m["a"] < 3, LOGIC),
    (lambda m: "x" in m["a"], LOGIC),
    (lambda m: m["a"] in ["x", "y"], LOGIC),
    (lambda m: bool(m["a"]), LOGIC),
    (lambda m: min(m["a"], m["b"]), LOGIC),
    (lambda m: any([m["a"], m["b"]]), LOGIC),
    (branch, LOGIC),
    (loop, "a loop cannot be recorded; write .contains()"),
    (lambda m: any(each == 1 for each in m["a"]), "a loop cannot be recorded"),
    (lambda m: [*m["a"]], "a loop cannot be recorded"),
    (lambda m: sum(m["a"]) > 1, "a loop cannot be recorded"),
    (lambda m: len(m["a"]) > 1, "write .length()"),
    (lambda m: {m["a"]}, "write .is_in([...])"),
    (lambda m: {"x": 1}[m["a"]], "write .is_in([...])"),
    (lambda m: m["a"] in {"x"}, "write .is_in([...])"),
    (lambda m: str(m["a"]) == "x", "f-strings cannot be recorded; join texts with +"),
    (lambda m: f"{m['a']}!" == "x", "join texts with +"),
    (lambda m: f"{m['a']:>5}" == "x", "join texts with +"),
    (lambda m: "%s" % m["a"] == "x", "join texts with +"),  # noqa: UP031
    (lambda m: int(m["a"]) > 1, "compute with + - * / %"),
    (lambda m: float(m["a"]) > 1, "compute with + - * / %"),
    (lambda m: math.sqrt(m["a"]) > 1, "compute with + - * / %"),
    (lambda m: math.floor(m["a"]) > 1, "compute with + - * / %"),
    (lambda m: range(m["a"]), "compute with + - * / %"),
    (lambda m: [1, 2][m["a"]], "compute with + - * / %"),
    (lambda m: m["a"][1:2], "slices and computed keys cannot be recorded"),
    (lambda m: m["a"][m["b"]], "computed keys cannot be recorded"),
    (lambda m: m["a"][True], "is no name or index"),
    (lambda m: m["a"][1.5], "is no name or index"),
    (lambda m: m.total > 1, "there is no .total; a field of the data is ['total']"),
    (lambda m: m["a"].lowr() == "x", "there is no .lowr; did you mean .lower?"),
    (lambda m: m["a"].isin([1]), "did you mean .is_in?"),
    (lambda m: m["a"].starts_with("x"), "did you mean .startswith?"),
    (lambda m: m.prioriti, "did you mean .priority?"),
    (lambda m: m["a"].get("b"), 'write ["name"], with .default(value)'),
    (lambda m: m["a"].strip(), "write .trim()"),
    (lambda m: m["a"].topic, "there is no .topic"),  # only the message has one
    (lambda m: m["a"].b.c, "a field of the data is ['b']"),
    (lambda m: m["a"](1), "cannot be called"),
    (lambda m: m("a"), "cannot be called"),
    (set_item, "a filter changes nothing"),
    (set_attribute, "a filter changes nothing"),
    (add_to, "a filter changes nothing"),
    (lambda m: m["a"] is None, "it returned False, which is no expression of the message; `is`, `in`"),
    (lambda m: True, "it returned True"),
    (lambda m: None, "it returned None"),
    (lambda m: print, "it returned <built-in function print>"),
    (lambda m: (m["a"] == 1, m["b"] == 2), "it returned ("),
    (lambda m: isinstance(m["a"], str), "it returned False"),
    (lambda m: (m["a"] == 1) & (m["b"] is None), "one side of & or | is False"),
    (lambda m: (m["b"] is not None) | (m["a"] == 1), "one side of & or | is True"),
    (lambda m: m["a"] & 1, "one side of & or | is 1"),
    (lambda m: m["a"].lower == "x", "it returned False"),
    (lambda m: m["a"] == m["b"].lower, "a constant of type method is no JSON"),
    (lambda m: m["a"] == object(), "a constant of type object is no JSON; give a bool, a finite number"),
    (lambda m: m["a"] == math.nan, "a constant of type float is no JSON"),
    (lambda m: m["a"] == 2**64, "a finite number of 64 bits"),
    (lambda m: m["a"] == 10**5000, "a constant of type int is no JSON"),
    (lambda m: m["a"] == b"x", "filter in "),
    (lambda m: m["a"] == "\ud800", "a constant of type str is no JSON"),
    (lambda m: m["a"] < None, "== None or != None in Python"),
    (lambda m: m["a"].is_in("abc"), "is_in() takes a list of values"),
    (lambda m: m["a"].is_in(m["b"]), "write m['list'].contains(x)"),
    (lambda m: m["a"].is_in(5), "is_in() takes a list of values"),
    (lambda m: m["a"].is_in([]), "is_in() takes at least one value"),
    (lambda m: m["a"].contains(), "contains takes 2 or more arguments"),
    (lambda m: m["a"].match("("), "RE2 refuses it"),
    (lambda m: m["a"].match(m["b"]), "has to be a constant text"),
    (lambda m: m["a"].like(5), "has to be a constant text"),
    (lambda m: m.headers, "name one header"),
    (lambda m: m.headers["x"]["y"], "name one header"),
    (lambda m: m.priority == "urgent", "it is no priority"),
    (lambda m: m.published_at > "soon", "it is no time"),
    (lambda m: functools.reduce(lambda each, _: ~each, range(100), m["a"]), "nested deeper than"),
    (lambda m: m["a"].is_in(range(5000)), "parts; make it shorter"),
    (lambda m: m["a"] ** 2, "it raised TypeError: unsupported operand"),
    (lambda m: m["a"] // 2, "it raised TypeError: unsupported operand"),
    (lambda m: +m["a"], "it raised TypeError: bad operand"),
    (lambda m: 1 / 0, "it raised ZeroDivisionError: division by zero; it is called once, with an expression"),
    (lambda m: m["a"].lower(1), "it raised TypeError"),
    (lambda m: undefined_name, "it raised NameError"),  # type: ignore[name-defined]  # noqa: F821
    (lambda: True, "give a function of one parameter, the message"),
    (lambda m, n: m["a"] == n, "give a function of one parameter"),
    (lambda *, m: m["a"], "give a function of one parameter"),
    (coroutine, "it is asynchronous"),
    (asynchronous_generator, "it is asynchronous"),
    (generator, "it returned <generator object"),
    (5, "filter 5:"),
]


@pytest.mark.parametrize(("function", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(function: Any, reason: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        record(function)
    assert reason in str(caught.value)
    assert caught.value.filter is function


def test_the_error_of_the_function_is_its_cause() -> None:
    with pytest.raises(InvalidFilter) as caught:
        record(lambda m: 1 / 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_is_not_swallowed(stop: type[BaseException]) -> None:
    def function(m: Any) -> Any:
        raise stop

    with pytest.raises(stop):
        record(function)


def test_an_expression_can_be_looked_at() -> None:
    assert "Path(root='data', steps=('a',))" in repr(Expression(A))


def test_everything_public_is_explained() -> None:
    names = [name for name in dir(Expression) if not name.startswith("_")]
    assert [name for name in names if not getattr(Expression, name).__doc__] == []


# -- random functions

INFIX: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "and": operator.and_,
    "or": operator.or_,
}
PREFIX: dict[str, Callable[[Any], Any]] = {"not": operator.invert, "negate": operator.neg, "abs": abs, "round": round}
METHODS = {"in": "is_in", "coalesce": "default", "starts_with": "startswith", "ends_with": "endswith"}

plain = st.sampled_from([1, 2.5, "x", True, [1], {"k": None}])
spots = st.sampled_from([A, field("b", "c", 0), Path("headers", ("x",)), Path("_key"), Path("_routing_key", ("t",))])


def _random_calls(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    right = inner | plain.map(Value)
    signs = [name for name in INFIX if name not in ("and", "or")]
    return st.one_of(
        st.builds(call, st.sampled_from(signs), inner, right),
        st.builds(call, st.sampled_from(["+", "-", "*", "/"]), st.sampled_from([1, 2.5]), inner),
        st.builds(call, st.sampled_from(["and", "or"]), inner, inner),
        st.builds(call, st.sampled_from([*PREFIX, "lower", "upper", "trim", "length", "is null"]), inner),
        st.builds(call, st.sampled_from(["in", "contains", "contains_any"]), inner, right, right),
        st.builds(call, st.sampled_from(["starts_with", "ends_with", "coalesce", "substr"]), inner, right),
        st.builds(call, st.sampled_from(["between", "replace", "substr"]), inner, right, right),
        st.builds(call, st.sampled_from(["like", "ilike", "match"]), inner, st.sampled_from(["a%", "x"])),
        st.builds(call, st.just("item"), inner.filter(lambda node: isinstance(node, Call)), st.sampled_from(["k", 0])),
    )


def performed(node: Node, m: Any) -> Any:
    """Do with the message in Python what the node says."""
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Path):
        start = m if node.root == "data" else getattr(m, node.root.removeprefix("_"))
        return functools.reduce(operator.getitem, node.steps, start)
    first, *rest = (performed(part, m) for part in node.arguments)
    if node.operation in INFIX:
        return INFIX[node.operation](first, *rest)
    if node.operation in PREFIX:
        return PREFIX[node.operation](first)
    if node.operation == "item":
        return first[rest[0]]
    method = getattr(first, METHODS.get(node.operation, node.operation.replace(" ", "_")))
    return method(rest) if node.operation == "in" else method(*rest)


def flat(node: Node) -> Node:
    """AND in AND is one AND, and so is OR."""
    if not isinstance(node, Call):
        return node
    parts: list[Node] = []
    for part in map(flat, node.arguments):
        same = isinstance(part, Call) and part.operation == node.operation and node.operation in ("and", "or")
        parts.extend(part.arguments if same and isinstance(part, Call) else [part])
    return Call(node.operation, tuple(parts))


@given(st.recursive(spots, _random_calls, max_leaves=10))
def test_a_function_is_what_it_does(tree: Node) -> None:
    assert record(lambda m: performed(tree, m)).root == flat(tree)
