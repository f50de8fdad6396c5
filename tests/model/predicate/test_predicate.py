"""A predicate: checked once, then equal, stored, printed, pickled and asked."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.predicate.predicate_cases import call, datas, field, message, trees
from tidings.errors import InvalidFilter
from tidings.model.predicate import Call, Node, Path, Predicate, Value
from tidings.model.predicate.operations import OPERATIONS
from tidings.model.predicate.tree import MAX_DEPTH, MAX_FILTER_BYTES, MAX_INDEX, MAX_NODES

A = field("a")
TREE = call("and", call("=", field("priority"), "high"), call(">", field("total"), 100))
STORED = (
    '["call","and",[["call","=",[["path","data",["priority"]],["value","high"]]],'
    '["call",">",[["path","data",["total"]],["value",100]]]]]'
)


def test_what_it_is() -> None:
    predicate = Predicate(TREE)
    assert predicate.root == TREE
    assert predicate.stored() == STORED
    assert str(predicate) == "priority = 'high' AND total > 100"
    assert repr(predicate) == "Predicate(\"priority = 'high' AND total > 100\")"
    assert Predicate.from_stored(STORED) == predicate


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"priority": "high", "total": 101}, True),
        ({"priority": "high", "total": 100.5}, True),
        ({"priority": "high", "total": 100}, False),
        ({"priority": "low", "total": 101}, False),
        ({"priority": "high", "total": "101"}, False),
        ({"priority": "high"}, False),
        ({"total": 101}, False),
        (["priority"], False),
        (b"bytes", False),
        (None, False),
    ],
)
def test_matching(data: Any, expected: bool) -> None:
    assert Predicate(TREE).matches(message(data)) is expected
    assert bool(Predicate(TREE).compiled(data, message(data))) is expected


def test_null_does_not_match_and_neither_does_its_opposite() -> None:
    sent = message({})
    assert not Predicate(call("=", A, 1)).matches(sent)
    assert not Predicate(call("not", call("=", A, 1))).matches(sent)


@pytest.mark.parametrize(
    ("tree", "reads"),
    [
        (TREE, True),
        (field(), True),
        (call("=", Path("_topic"), A), True),
        (call("not", call("in", Path("headers", ("x",)), "1")), False),
        (Path("_routing_key"), False),
        (Value(True), False),
    ],
)
def test_data_is_decoded_only_when_it_is_asked_for(tree: Node, reads: bool) -> None:
    predicate = Predicate(tree)
    sent = message()
    sent.record.value = msgspec.UNSET
    predicate.matches(sent)
    assert (sent.record.value is not msgspec.UNSET) is predicate.reads_data is reads


@given(trees, datas)
def test_it_survives_being_stored_and_pickled(tree: Node, data: Any) -> None:
    predicate = Predicate(tree)
    pickled = pickle.loads(pickle.dumps(predicate))
    for other in (Predicate.from_stored(predicate.stored()), pickled, copy.deepcopy(predicate)):
        assert other == predicate
        assert hash(other) == hash(predicate)
        assert other.stored() == predicate.stored()
        assert str(other) == str(predicate)
        assert other.matches(message(data)) is predicate.matches(message(data))


@given(trees, trees)
def test_equal_is_equal_as_stored(left: Node, right: Node) -> None:
    assert (Predicate(left) == Predicate(right)) is (Predicate(left).stored() == Predicate(right).stored())
    assert {Predicate(left), Predicate(left)} == {Predicate(left)}


def test_what_is_not_equal() -> None:
    assert Predicate(call("=", A, 1)) != Predicate(call("=", A, 1.0))
    assert Predicate(call("=", A, 1)) != Predicate(call("=", A, True))
    assert Predicate(A) != Predicate(Path("headers", ("a",)))
    assert Predicate(A) != str(Predicate(A))


@pytest.mark.parametrize("name", ["root", "compiled", "reads_data", "_stored", "other"])
def test_it_does_not_change(name: str) -> None:
    with pytest.raises(AttributeError, match="a predicate does not change"):
        setattr(Predicate(TREE), name, 1)


def nested(depth: int) -> Node:
    """A tree of this depth."""
    node: Node = A
    for _ in range(depth - 1):
        node = call("not", node)
    return node


def listed(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return value


def wide(count: int) -> Node:
    """A tree of this many nodes."""
    return call("in", A, *range(count - 2))


FITS = [
    nested(MAX_DEPTH),
    wide(MAX_NODES),
    Value(listed(MAX_DEPTH)),
    Value([0] * (MAX_NODES - 1)),
    field(*[0] * MAX_DEPTH),
    field("a", MAX_INDEX, -MAX_INDEX),
    call("=", A, 2**64 - 1),
    call("=", A, -(2**63)),
    call("=", A, "x" * (MAX_FILTER_BYTES - 100)),
    call("item", A, -MAX_INDEX),
    call("in", A, None),
]


@pytest.mark.parametrize("tree", FITS, ids=lambda tree: "")
def test_what_just_fits(tree: Node) -> None:
    predicate = Predicate(tree)
    assert Predicate.from_stored(predicate.stored()) == predicate
    assert predicate.matches(message({})) is predicate.matches(message({}))
    assert str(predicate)


NO_PREDICATES: list[tuple[Any, str]] = [
    (nested(MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}; make it shorter"),
    (nested(100_000), f"nested deeper than {MAX_DEPTH}"),
    (wide(MAX_NODES + 1), f"more than {MAX_NODES} parts"),
    (Value(listed(MAX_DEPTH + 1)), "nested deeper"),
    (Value(listed(100_000)), "nested deeper"),
    (Value([0] * MAX_NODES), "more than"),
    (call("=", A, "x" * MAX_FILTER_BYTES), f"the limit is {MAX_FILTER_BYTES}"),
    (Call("eval", (A,)), "there is no such operation"),
    (Call("__class__", (A,)), "there is no such operation"),
    (Call("and", (A,)), "and takes 2 or more arguments, not 1"),
    (Call("or", ()), "or takes 2 or more"),
    (Call("not", (A, A)), "not takes 1 arguments, not 2"),
    (Call("substr", (A,)), "substr takes 2 to 3 arguments"),
    (Call("substr", (A, A, A, A)), "substr takes 2 to 3 arguments"),
    (call("=", A, None), "write IS NULL or IS NOT NULL"),
    (call("<", None, A), "write IS NULL or IS NOT NULL"),
    (Path("message"), "a path begins with data, headers, _topic"),
    (Path("__class__"), "a path begins with"),
    (Path("headers"), "name one header"),
    (Path("headers", ("x", "y")), "name one header"),
    (Path("headers", (0,)), "name one header"),
    (field(*[0] * (MAX_DEPTH + 1)), f"at most {MAX_DEPTH} names"),
    (field(MAX_INDEX + 1), f"whole numbers up to {MAX_INDEX}"),
    (field("a", -MAX_INDEX - 1), "whole numbers"),
    (Path("data", (True,)), "whole numbers"),
    (Path("data", (1.0,)), "whole numbers"),  # type: ignore[arg-type]
    (call("item", A, field("b")), "its key is a constant"),
    (call("item", A, 1.5), "its key is a constant"),
    (call("item", A, True), "its key is a constant"),
    (call("item", A, MAX_INDEX + 1), "its key is a constant"),
    (Value(float("nan")), "filter 'float': a constant is None, a bool, a finite number"),
    (Value([float("inf")]), "a finite number of 64 bits"),
    (Value(2**64), "filter 'int': a constant"),
    (Value(10**5000), "filter 'int': a constant"),
    (Value({"a": -(2**63) - 1}), "a finite number of 64 bits"),
    (Value((1, 2)), "filter 'tuple'"),
    (Value({1: 2}), "a dict whose keys are texts"),
    (Value(b"x"), "filter 'bytes'"),
    (Value([object()]), "filter 'object'"),
    (Value("\ud800"), "it cannot be stored"),
    (field("\ud800"), "it cannot be stored"),
    (call("match", A, "("), "RE2 refuses it"),
    (call("like", A, A), "has to be a constant text"),
    (call("=", Path("_priority"), "urgent"), "it is no priority"),
    (call("and", A, call("=", Path("_published_at"), "soon")), "it is no time"),
    ("total > 100", "it is no Value, Path or Call"),
    (None, "it is no Value, Path or Call"),
    (Call("not", ("a",)), "it is no Value, Path or Call"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("tree", "reason"), NO_PREDICATES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_predicate(tree: Any, reason: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        Predicate(tree)
    assert reason in str(caught.value)


NOT_STORED = [
    *("", "x", "{}", "[]", "null", "1", '"a"', "[" * 100_000, "\ud800", "\0", '["value"', '["value"]'),
    *('["value",1e999]', '["other",1]', '["path"]', '["path",1]', '["path","data",[null]]', '["path","data",[1.5]]'),
    *('["path","data",[true]]', '["path","data",{}]', '["path","nowhere"]', '["call","=",[]]', '["call","="]'),
    *('["call","eval",[["value",1]]]', '["call","not",[1]]', '["call",["not"],[]]', '["value",1,2]]'),
    *(STORED + " x", STORED[:-1], '["value",' + "9" * 400 + "]", '["value",' + "[" * 5000 + "]" * 5000 + "]"),
]


@pytest.mark.parametrize("text", NOT_STORED, ids=lambda text: ascii(text[:30]))
def test_what_was_not_stored(text: str) -> None:
    with pytest.raises(InvalidFilter):
        Predicate.from_stored(text)


pieces = st.sampled_from(
    [*'[],:"\\', "value", "path", "call", '"data"', '["value",1]', '["path","data",["a"]]', '["call","=",', "1", "null"]
)


@given(st.text() | st.lists(pieces, max_size=12).map("".join))
def test_any_text_is_a_predicate_or_an_invalid_filter(text: str) -> None:
    try:
        predicate = Predicate.from_stored(text)
    except InvalidFilter:
        return
    assert Predicate.from_stored(predicate.stored()) == predicate


names = st.sampled_from([*OPERATIONS, "eval"])
wild: st.SearchStrategy[Any] = st.recursive(
    st.builds(Value, st.none() | st.integers() | st.floats() | st.text() | st.binary())
    | st.builds(
        Path, st.text(max_size=3) | st.just("data"), st.lists(st.text() | st.integers(), max_size=3).map(tuple)
    ),
    lambda inner: st.builds(Call, names, st.lists(inner, max_size=4).map(tuple)),
    max_leaves=8,
)


@given(wild, datas)
def test_any_tree_is_a_predicate_or_an_invalid_filter(tree: Any, data: Any) -> None:
    try:
        predicate = Predicate(tree)
    except InvalidFilter:
        return
    assert predicate.matches(message(data)) in (True, False)
    assert Predicate.from_stored(predicate.stored()) == predicate


def test_importing_it_is_left_to_who_has_a_filter() -> None:
    code = (
        "import sys, tidings; assert not [m for m in sys.modules if m.startswith('tidings.model.predicate')]\n"
        "import tidings.model.predicate; assert 're2' not in sys.modules and 'lark' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
