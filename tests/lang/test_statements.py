"""Statements are plain data: frozen, compared by what they ask for and where they stand."""

from __future__ import annotations

import inspect
import pickle

import pytest

from tidings.lang import parse_statements, statements
from tidings.lang.statements import CreateTopic, DropTopic, Statement

KINDS = [
    kind
    for _, kind in inspect.getmembers(statements, inspect.isclass)
    if issubclass(kind, Statement) and kind is not Statement
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_frozen_and_says_what_it_is(kind: type[Statement]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__doc__
    assert {"line", "column"} <= set(kind.__struct_fields__)


def test_options_are_not_shared() -> None:
    assert CreateTopic("a").options is not CreateTopic("a").options
    assert DropTopic("a") == DropTopic("a", line=1, column=1) != DropTopic("a", line=2)


def test_statements_can_be_pickled() -> None:
    found = parse_statements("CREATE GROUP g ON a WHERE x > 1; SELECT 1; CREATE TOPIC a SCHEMA (x INT)")
    assert pickle.loads(pickle.dumps(found)) == found
