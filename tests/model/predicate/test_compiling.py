"""What runs for each message is what the tree says, in three-valued logic, whatever the data is."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.predicate.predicate_cases import (
    COMPARISONS,
    LAZY,
    STRICT,
    call,
    datas,
    evaluate,
    field,
    marked,
    message,
    scalars,
    trees,
    true,
    values,
)
from tidings.errors import InvalidFilter
from tidings.model.predicate import Node, Path, Predicate, Value
from tidings.model.predicate.compiling import compile_condition, compile_truth, compile_value
from tidings.model.predicate.operations import OPERATIONS

A, B, C = field("a"), field("b"), field("c")


def test_the_other_way_knows_every_operation() -> None:
    assert OPERATIONS.keys() == LAZY.keys() | STRICT.keys()


@given(trees, datas)
def test_a_value_is_what_the_naive_way_says(tree: Node, data: Any) -> None:
    sent = message(data)
    expected = evaluate(tree, sent)
    assert marked(compile_value(tree)(data, sent)) == marked(expected)
    assert compile_truth(tree)(data, sent) is true(expected)
    assert bool(compile_condition(tree)(data, sent)) is (true(expected) is True)
    assert Predicate(tree).matches(sent) is (true(expected) is True)


shapes = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "in", "contains", "contains_any"])
spots = st.sampled_from([field("x"), field("y", "x"), field("y", 0), field()])
mostly = {"x": values, "y": st.dictionaries(st.just("x"), values) | st.lists(values)}


@settings(max_examples=300)
@given(
    shapes, spots, scalars.filter(lambda value: value is not None), st.fixed_dictionaries({}, optional=mostly) | values
)
def test_the_usual_shapes_are_no_other_conditions(operation: str, spot: Path, constant: Any, data: Any) -> None:
    """A constant has a closure of its own; the same value in the message has the general one."""
    tree, sent = call(operation, spot, constant), message(data)
    general = compile_value(call(operation, spot, call("coalesce", constant)))
    assert compile_value(tree)(data, sent) is general(data, sent)
    assert compile_value(tree)(data, sent) is evaluate(tree, sent)


@given(trees, trees, datas)
def test_the_laws_of_kleene(left: Node, right: Node, data: Any) -> None:
    sent = message(data)

    def value(node: Node) -> bool | None:
        found: bool | None = compile_truth(node)(data, sent)
        return found

    p, q = value(left), value(right)
    nothing = call("and", left, left)
    assert value(call("not", call("not", left))) is p
    assert value(call("not", call("and", left, right))) is value(call("or", call("not", left), call("not", right)))
    assert value(call("not", call("or", left, right))) is value(call("and", call("not", left), call("not", right)))
    assert value(call("and", left, right)) is value(call("and", right, left)) is min_of(p, q)
    assert value(call("or", left, right)) is value(call("or", right, left))
    assert value(nothing) is value(call("or", left, left)) is p
    assert value(call("and", left, call("or", left, right))) is p


def min_of(left: bool | None, right: bool | None) -> bool | None:
    """Kleene's AND is the smaller of the two, where false < NULL < true."""
    order = [False, None, True]
    return order[min(order.index(left), order.index(right))]


SHAPES = [  # what the field holds, then whether = <> < <= > >= holds with the constant
    ("text", "b", "a", [False, True, True, True, False, False]),
    ("text", "b", "b", [True, False, False, True, False, True]),
    ("text", "b", "c", [False, True, False, False, True, True]),
    ("number", 2, 1.5, [False, True, True, True, False, False]),
    ("number", 2, 2.0, [True, False, False, True, False, True]),
    ("number", 2.0, 2**70, [False, True, False, False, True, True]),
    ("another kind", 2, "2", [None] * 6),
    ("another kind", "2", 2, [None] * 6),
    ("a bool", 1, True, [None] * 6),
    ("nothing", "b", None, [None] * 6),
]


@pytest.mark.parametrize(("kind", "constant", "value", "expected"), SHAPES)
def test_a_field_and_a_constant(kind: str, constant: Any, value: Any, expected: list[bool | None]) -> None:
    for spot, data in ((A, {"a": value}), (field("a", 0), {"a": [value]}), (field(), value)):
        found = [compile_value(call(sign, spot, constant))(data, message(data)) for sign in COMPARISONS]
        assert found == expected


@pytest.mark.parametrize(("root", "step", "constant"), [("headers", "x", "1"), ("_routing_key", "n", 1)])
def test_a_field_of_the_same_name_is_another(root: str, step: str, constant: Any) -> None:
    for sign, expected in (("=", True), ("in", True), (">=", True), ("<>", False)):
        found = compile_value(call(sign, Path(root, (step,)), constant))({step: "other"}, message())
        assert found is expected


T, F, N = call("=", 1, 1), call("=", 1, 2), call("<", True, True)
LOGIC = [  # left, right, and, or
    (T, T, True, True),
    (T, F, False, True),
    (T, N, None, True),
    (F, F, False, False),
    (F, N, False, None),
    (N, N, None, None),
]


@pytest.mark.parametrize(("left", "right", "both", "either"), LOGIC)
def test_and_or_not(left: Node, right: Node, both: bool | None, either: bool | None) -> None:
    for one, other in ((left, right), (right, left)):
        for count in (1, 2, 7):  # two parts have a closure of their own
            for name, expected in (("and", both), ("or", either)):
                tree = call(name, one, *([other] * count))
                assert compile_truth(tree)(None, message()) is expected
                assert bool(compile_condition(tree)(None, message())) is (expected is True)
                assert compile_truth(call("not", tree))(None, message()) is (None if expected is None else not expected)


@pytest.mark.parametrize("operation", ["and", "or"])
def test_what_decides_ends_it(operation: str) -> None:
    """A part behind the one that decides is not asked: what comes first may be what is cheap."""
    condition = compile_condition(call(operation, call("=", A, operation == "or"), call("=", Path("_routing_key"), 1)))
    nothing_to_ask: Any = None  # it has no routing key, not even the attribute
    assert bool(condition({"a": True}, nothing_to_ask)) is (operation == "or")
    with pytest.raises(AttributeError):
        condition({"a": False}, nothing_to_ask)


PLACES: list[tuple[Path, Any]] = [
    (field("a"), {"b": [1, {"c": "deep"}]}),
    (field("a", "b"), [1, {"c": "deep"}]),
    (field("a", "b", 0), 1),
    (field("a", "b", 1, "c"), "deep"),
    (field("a", "b", -1, "c"), "deep"),
    (field("a", "b", -2), 1),
    (field("a", "b", 2), None),
    (field("a", "b", -3), None),
    (field("a", "b", "c"), None),
    (field("a", "b", 1, 0), None),
    (field("a", 0), None),
    (field("t", 0), None),
    (field("t", "upper"), None),
    (field("zero"), None),
    (field(0), None),
    (field(""), "empty"),
    (Path("headers", ("x",)), "1"),
    (Path("headers", ("X",)), None),
    (Path("_topic"), "orders"),
    (Path("_topic", ("a",)), None),
    (Path("_routing_key", ("tags", 1)), "b"),
    (Path("_routing_key", ("tags", 1, "x")), None),
]


@pytest.mark.parametrize(("path", "expected"), PLACES)
def test_paths(path: Path, expected: Any) -> None:
    data = {"a": {"b": [1, {"c": "deep"}]}, "t": "text", "": "empty"}
    assert compile_value(path)(data, message(data)) == expected


@pytest.mark.parametrize("data", [None, True, 5, "text", b"bytes", [], [{"a": 1}], (1,), object()])
def test_data_that_is_no_object_has_no_fields(data: Any) -> None:
    assert compile_value(A)(data, message(data)) is None
    assert compile_value(call("=", A, 1))(data, message(data)) is None
    assert compile_value(call("is null", A))(data, message(data)) is True


@pytest.mark.parametrize(
    ("data", "expected"), [("text", "text"), ([1], [1]), (5, 5), ({}, {}), (None, None), (b"bytes", None), ({1}, None)]
)
def test_all_of_the_data(data: Any, expected: Any) -> None:
    assert compile_value(field())(data, message(data)) == expected


class Trap(dict[str, Any]):
    """A dict whose every way in is a trap."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError("code of the data ran")

    def get(self, *arguments: Any) -> Any:
        raise AssertionError("code of the data ran")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("code of the data ran")

    def __bool__(self) -> bool:
        raise AssertionError("code of the data ran")

    def __len__(self) -> int:
        raise AssertionError("code of the data ran")

    __hash__ = None

    @property
    def a(self) -> Any:
        raise AssertionError("code of the data ran")


class Text(str):
    """A text with an attribute of its own."""

    __slots__ = ()
    a = 1


@pytest.mark.parametrize("trap", [Trap(a=1), Text("a"), type("Odd", (), {"a": 1})(), Trap, sys])
@pytest.mark.parametrize("operation", ["=", "<>", "<", "in", "contains", "+", "||", "lower", "length", "not", "like"])
def test_no_code_of_a_data_object_is_reached(operation: str, trap: Any) -> None:
    """Only the very types of JSON are values."""
    one = ["lower", "length", "not"]
    for spot, data in ((field(), trap), (A, {"a": trap}), (field("a", "a"), {"a": trap}), (field("a"), trap)):
        tree = call(operation, spot) if operation in one else call(operation, spot, "a")
        assert compile_truth(tree)(data, message(data)) is None


@pytest.mark.parametrize("name", ["__class__", "__dict__", "__len__", "upper", "keys", "__globals__"])
def test_names_of_python_are_names_of_fields(name: str) -> None:
    given_data: list[Any] = [{}, [], "text", 5, lambda: 1]
    for data in given_data:
        assert compile_value(field(name))(data, message(data)) is None
        assert compile_value(field("a", name))({"a": data}, message(data)) is None
        assert compile_value(call("item", call("coalesce", A), name))({"a": data}, message(data)) is None
    assert compile_value(field(name))({name: 1}, message()) == 1


def nested(depth: int, leaf: Any = 1) -> Any:
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"a": leaf}
    return leaf


DEEP = nested(20_000)
WILD = [
    *(10**5000, -(10**5000), 2**64, 1e308, -0.0, float("nan"), float("inf"), float("-inf")),
    *("\0", "\ud800", "a\udfff\0%_", "é" * 1000, "9" * 5000, "[" * 5000, "1e999", "0001-01-01T00:00:00+23:59"),
    *(DEEP, [DEEP], {"a": DEEP}, [[]] * 50, {"": {}}, [None], [True, 1, 1.0], b"\xff", (1,), {1: 2}, {1, 2}, object()),
    *(None, True, False, 0, "", [], {}),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_is_raised_whatever_the_data(operation: str) -> None:
    table = OPERATIONS[operation]
    count = table.least if table.bind is None and operation != "item" else 1
    constant = [1] if operation == "item" else ["a_%"] if table.bind is not None else []
    condition = compile_truth(call(operation, *[A, B, C][:count], *constant))
    for a in WILD:
        for b in WILD if count > 1 else [None]:
            for c in [1, "a", None, 10**5000, DEEP] if count > 2 else [None]:
                data = {"a": a, "b": b, "c": c}
                assert condition(data, message(data)) in (True, False, None)


COMPARED = ["text", 1, 2.5, "\0", -(2**63), "_%"]


@pytest.mark.parametrize("constant", COMPARED)
@pytest.mark.parametrize("operation", ["=", "<>", "<", "<=", ">", ">=", "in", "contains", "contains_any", "like"])
def test_nothing_is_raised_by_the_usual_shapes(operation: str, constant: Any) -> None:
    if operation == "like" and not isinstance(constant, str):
        constant = "%"
    for spot in (A, field(), field("a", 0), field("a", "a", "a")):
        condition = compile_truth(call(operation, spot, constant))
        for wild in WILD:
            assert condition({"a": wild}, message()) in (True, False, None)
            assert condition(wild, message()) in (True, False, None)


def test_deep_data_is_compared_to_its_bottom() -> None:
    equal = compile_value(call("=", A, B))
    assert equal({"a": DEEP, "b": nested(20_000)}, message()) is True
    assert equal({"a": DEEP, "b": nested(20_000, leaf=True)}, message()) is False
    among = compile_value(call("contains", A, B))
    assert among({"a": [1, DEEP], "b": nested(20_000)}, message()) is True


def test_threads_share_it() -> None:
    condition = compile_condition(call("and", call("=", A, "x"), call("like", B, "_%z"), call("in", C, 1, "y")))
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(500):
            good = (turn + number) % 2 == 0
            data = {"a": "x", "b": "yz" if good else "z", "c": 1}
            if bool(condition(data, message(data))) is not good:
                wrong.append(turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


READ = [
    (call("=", Path("_priority"), "high"), True),
    (call("<", "normal", Path("_priority")), True),
    (call("in", Path("_priority"), "low", "high"), True),
    (call("in", Path("_priority"), 7, "low"), False),
    (call("between", Path("_priority"), "normal", "high"), True),
    (call("=", Path("_published_at"), "1970-01-01T00:16:40.25"), True),
    (call(">", Path("_expires_at"), "1970-01-01T00:16:40.25Z"), True),
    (call("=", Path("_published_at"), 1000.25), True),
    (call("=", Path("_published_at"), True), None),
    (call("=", call("coalesce", Path("_priority")), "high"), None),  # only right beside it is a text read
]


@pytest.mark.parametrize(("tree", "expected"), READ)
def test_texts_beside_times_and_priorities_are_read(tree: Node, expected: bool | None) -> None:
    assert compile_value(tree)(None, message()) is expected


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (call("=", Path("_priority"), "urgent"), "write 'low', 'normal', 'high'"),
        (call("in", Path("_priority"), "low", ""), "write 'low', 'normal', 'high'"),
        (call("between", Path("_published_at"), "1970-01-01", "soon"), "it is no time; write it as"),
        (call("like", A, B), "has to be a constant text"),
        (call("match", A, 5), "has to be a constant text"),
        (call("like", A, "%", B), "has to be a constant text"),
        (call("match", A, "(?=a)"), "RE2 refuses it"),
        (call("like", A, "a\\"), "ends with its escape character"),
    ],
)
def test_what_has_no_value_is_refused(tree: Node, reason: str) -> None:
    with pytest.raises(InvalidFilter, match=reason):
        compile_value(tree)


def test_constants() -> None:
    assert compile_value(Value([1, {"a": None}]))(None, message()) == [1, {"a": None}]
