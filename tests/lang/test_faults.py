"""Suggestions for what was misspelled, and what stands between quotes."""

from __future__ import annotations

import pytest
from lark import Token

from tidings.lang.faults import Fault, refuse, suggestion, unquoted

KNOWN = ("AND", "LIKE", "retention_period", "max_retries")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("adn", "AND"), ("LIEK", "LIKE"), ("Retention-Period", "retention_period"), ("max_retry", "max_retries")],
)
def test_what_is_near_is_suggested(word: str, meant: str) -> None:
    assert suggestion(word, KNOWN) == f"; did you mean {meant}?"


@pytest.mark.parametrize("word", ["", "x", "partitions", "?"])
def test_what_is_far_is_not(word: str) -> None:
    assert suggestion(word, KNOWN) == ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'a'", "a"),
        ("'it''s'", "it's"),
        ("''", ""),
        ("'\"'", '"'),
        ('"a b"', "a b"),
        ('"a""b"', 'a"b'),
        ("plain", "plain"),
    ],
)
def test_quotes_are_taken_off(written: str, meant: str) -> None:
    found = unquoted(Token("TEXT", written))
    assert found == meant
    assert type(found) is str


def test_a_fault_knows_its_place() -> None:
    token = Token("NAME", "x")
    with pytest.raises(Fault, match="no such thing") as caught:
        refuse(token, "no such thing")
    assert caught.value.place is token
