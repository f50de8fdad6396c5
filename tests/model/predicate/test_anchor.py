"""The index of anchors: it may find too much, and never too little."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.model.codec import encode
from tidings.model.message import Message, StoredRecord
from tidings.model.predicate import Call, Node, Path, Predicate, Value, record
from tidings.model.predicate.anchor import Anchor, Index, anchor_of

FIELD = Path("data", ("x",))


def message(data: Any, **options: Any) -> Message:
    content_type, encoded = encode(data)
    return Message(StoredRecord("id", content_type, encoded), "orders", 0, 0, 1e9, 1, **options)


def found(filters: dict[str, Any], given: Message) -> set[str]:
    index: Index[str] = Index()
    for name, function in filters.items():
        index.add(record(function).root, name)
    return set(index.find(given))


FILTERS = {
    "equal": lambda m: m["x"] == "a",
    "number": lambda m: m["x"] == 1,
    "one of": lambda m: m["x"].is_in(["a", "b"]),
    "inside": lambda m: m["x"].contains("a", "c"),
    "any inside": lambda m: m["x"].contains_any("b", "c"),
    "with more": lambda m: (m["y"] > 1) & (m["x"] == "b"),
    "no anchor": lambda m: m["x"] != "a",
    "either": lambda m: (m["x"] == "a") | (m["x"] == "b"),
}


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("a", {"equal", "one of", "inside", "any inside"}),  # in a text anything may be contained
        ("b", {"one of", "with more", "inside", "any inside"}),
        (["a"], {"inside"}),
        (["c", "b", 1], {"any inside"}),
        ({"a": 0}, {"inside"}),
        (1, {"number"}),
        (1.0, {"number"}),
        (True, set()),
        (None, set()),
        ([["a"], {"a": 1}, True, None], set()),
    ],
)
def test_what_may_match_is_found(x: Any, expected: set[str]) -> None:
    assert found(FILTERS, message({"x": x})) == expected | {"no anchor", "either"}


def test_texts_that_stand_for_times_and_priorities_are_read() -> None:
    filters = {
        "at": lambda m: m.published_at == "2001-09-09T01:46:40Z",
        "high": lambda m: m.priority == "high",
        "other": lambda m: m.priority == "low",
    }
    assert found(filters, message(None, priority=8)) == {"at", "high"}


def test_what_was_removed_leaves_nothing() -> None:
    index: Index[str] = Index()
    roots = {name: record(function).root for name, function in FILTERS.items()}
    for name, root in roots.items():
        index.add(root, name)
    for name, root in roots.items():
        index.remove(root, name)
        index.remove(root, name)
        assert name not in index.find(message({"x": "a"})).keys() | index.find(message({"x": ["b", "c"]})).keys()
    assert (index._places, index._others) == ({}, {})


def test_the_first_part_of_an_and_that_says_something_is_the_anchor() -> None:
    root = record(lambda m: (m["y"] > 1) & (m["x"] == "b") & (m["z"] == "c")).root
    assert anchor_of(root) == Anchor(FIELD, ("b",), inside=False)
    assert anchor_of(Call("=", (Value("b"), FIELD))) is None
    assert anchor_of(Call("=", (FIELD, Value([1])))) is None
    assert anchor_of(Call("in", (FIELD, Value(1), Path("data", ("y",))))) is None


scalars = st.sampled_from(["a", "b", 0, 1, 2.5, True, False, None])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner)
)
constants = st.sampled_from(["a", "b", 0, 1, 2.5, True]).map(Value)
paths = st.sampled_from([FIELD, Path("data", ("y",)), Path("data", ("x", 0)), Path("data")])


def calls(operation: str, most: int) -> st.SearchStrategy[Node]:
    parts = st.lists(constants | paths, min_size=1, max_size=most)
    return st.tuples(paths, parts).map(lambda each: Call(operation, (each[0], *each[1])))


leaves = calls("=", 1) | calls("in", 3) | calls("contains", 3) | calls("contains_any", 3) | calls("<>", 1)
trees: st.SearchStrategy[Node] = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(lambda t: Call(t[0], t[1:]))
)


@given(trees, values, values)
def test_nothing_that_matches_is_missing(root: Node, x: Any, y: Any) -> None:
    index: Index[int] = Index()
    index.add(root, 1)
    given_message = message({"x": x, "y": y})
    if Predicate(root).matches(given_message):
        assert index.find(given_message) == {1: None}
