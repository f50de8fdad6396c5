"""Whatever a program gives as a filter becomes the same predicate, or is refused."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import pytest

from tidings import InvalidFilter
from tidings.client.filters import read_filter
from tidings.model.predicate import Predicate, record


def total_above_40(m: Any) -> Any:
    return m["total"] > 40


class Above:
    """Something that can be called and is no function."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, m: Any) -> Any:
        return m["total"] > self.limit

    def method(self, m: Any) -> Any:
        return m["total"] > self.limit


SAME: list[Any] = [
    "total > 40",
    "  TOTAL > 40 -- what is large".replace("TOTAL", "total"),
    '"total">40',
    lambda m: m["total"] > 40,
    lambda message, limit=40: message["total"] > limit,
    total_above_40,
    functools.partial(lambda limit, m: m["total"] > limit, 40),
    Above(40),
    Above(40).method,
    record(total_above_40),
]
"""Ways to write one condition."""


@pytest.mark.parametrize("filter", SAME)
def test_all_notations_make_one_predicate(filter: Any) -> None:
    found = read_filter(filter)
    assert isinstance(found, Predicate)
    assert found == record(total_above_40)
    assert str(found) == "total > 40"


def test_a_predicate_is_taken_as_it_is() -> None:
    predicate = record(total_above_40)
    assert read_filter(predicate) is predicate


def test_without_a_filter_there_is_none() -> None:
    assert read_filter(None) is None


def test_a_function_may_be_one_of_a_part_of_the_message() -> None:
    """An exchange asks for the key that it routes by."""
    found = read_filter(lambda key: key["a"] == 1, "_routing_key")
    assert str(found) == "_routing_key.a = 1"
    assert read_filter(None, "_routing_key") is None


@pytest.mark.parametrize("wrong", [7, True, b"total > 40", ["total > 40"], {}, object(), 0, ("total > 40",)])
def test_what_is_no_filter_is_refused(wrong: Any) -> None:
    """And the error shows what can be given."""
    with pytest.raises(InvalidFilter, match=r"condition in SQL, or a function such as lambda") as caught:
        read_filter(wrong)
    assert caught.value.filter is wrong


@pytest.mark.parametrize("wrong", ["", "total >", lambda m: m["a"] and m["b"], lambda: True, str.lower])
def test_what_cannot_be_read_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidFilter) as caught:
        read_filter(wrong)
    assert caught.value.filter == wrong


def test_who_filters_by_functions_loads_no_parser() -> None:
    """And who does not filter loads nothing at all: a subscription stays cheap."""
    program = (
        "import sys; from tidings.client.filters import read_filter;"
        "read_filter(None); assert 'tidings.model.predicate' not in sys.modules;"
        "read_filter(lambda m: m['a'] == 1); assert 'tidings.lang' not in sys.modules and 'lark' not in sys.modules;"
        "read_filter('a = 1'); assert 'tidings.lang' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
