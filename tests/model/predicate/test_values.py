"""The rules of values: what is true, what is equal, what comes first, and what is NULL."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from tests.model.predicate.predicate_cases import marked, scalars, values
from tidings.model.predicate.values import COMPARISONS, equal, same, step_into, truth


class Mapping(dict[str, Any]):
    """No JSON decodes to it."""


TRUTH: list[tuple[Any, bool | None]] = [
    (None, None),
    (True, True),
    (False, False),
    (0, False),
    (-0.0, False),
    (0.1, True),
    (-1, True),
    (10**4000, True),
    ("", True),
    ("false", True),
    ([], True),
    ({}, True),
    (b"", None),
    ((), None),
    (Mapping(a=1), None),
]


@pytest.mark.parametrize(("value", "expected"), TRUTH)
def test_truth(value: Any, expected: bool | None) -> None:
    assert truth(value) is expected


# left, right, =, <; the rest follows
COMPARED = [
    (1, 2, False, True),
    (2, 2.0, True, False),
    (2**53 + 1, float(2**53), False, False),  # exact: a float does not hold the odd one
    (10**4000, 1e308, False, False),
    (0.0, -0.0, True, False),
    ("a", "b", False, True),
    ("B", "a", False, True),
    ("", "a", False, True),
    ("é", "z", False, False),
    ("a\0", "a", False, False),
    ("\ud800", "\ud800", True, False),
    (True, True, True, None),
    (True, False, False, None),
    (True, 1, None, None),
    (False, 0, None, None),
    ("1", 1, None, None),
    (None, 1, None, None),
    (None, None, None, None),
    ([], [], True, None),
    ([1, "a", None], [1.0, "a", None], True, None),
    ([1], [True], False, None),
    ([0], [False], False, None),
    ([None], [0], False, None),
    ([1, 2], [2, 1], False, None),
    ([1], [1, 1], False, None),
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True, None),
    ({"a": 1}, {"a": True}, False, None),
    ({"a": 1}, {"b": 1}, False, None),
    ({"a": None}, {}, False, None),
    ([], {}, None, None),
    ("a", ["a"], None, None),
    (b"a", b"a", None, None),
    (Mapping(), Mapping(), None, None),
    ([b"a"], [b"b"], False, None),
]


@pytest.mark.parametrize(("left", "right", "same", "less"), COMPARED)
def test_comparisons(left: Any, right: Any, same: bool | None, less: bool | None) -> None:
    more = None if less is None else not less and not same
    for one, other, below, above in ((left, right, less, more), (right, left, more, less)):
        assert COMPARISONS["="](one, other) is same
        assert COMPARISONS["<>"](one, other) is (None if same is None else not same)
        assert COMPARISONS["<"](one, other) is below
        assert COMPARISONS[">"](one, other) is above
        assert COMPARISONS["<="](one, other) is (None if above is None else not above)
        assert COMPARISONS[">="](one, other) is (None if below is None else not below)


@given(values, values)
def test_same_is_the_same_json(left: Any, right: Any) -> None:
    assert same(left, right) is same(right, left) is (marked(left) == marked(right))
    assert same(left, json.loads(json.dumps(left)))


@given(scalars, scalars)
def test_equal_is_never_about_python(left: Any, right: Any) -> None:
    if type(left) is bool and type(right) is not bool:
        assert equal(left, right) is None
        assert not same([left], [right])


STEPS: list[tuple[Any, Any, Any]] = [
    ({"a": 1}, "a", 1),
    ({"a": 1}, "b", None),
    ({"0": 1}, 0, None),
    ([1, 2], 0, 1),
    ([1, 2], -2, 1),
    ([1, 2], 2, None),
    ([1, 2], -3, None),
    ([1, 2], 10**30, None),
    ([1, 2], "0", None),
    ([1, 2], True, None),
    ("text", 0, None),
    (None, "a", None),
    (5, "real", None),
    (Mapping(a=1), "a", None),
]


@pytest.mark.parametrize(("value", "step", "expected"), STEPS)
def test_steps(value: Any, step: Any, expected: Any) -> None:
    assert step_into(value, step) == expected
