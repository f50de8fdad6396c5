"""LIKE and regular expressions: what they match, that they are linear, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.predicate.predicate_cases import translated
from tidings.model.predicate import patterns
from tidings.model.predicate.patterns import like, regex
from tidings.model.topics import MAX_REGEX_BYTES

LIKE = [
    ("", [""], ["a", " "]),
    ("%", ["", "a", "a\nb", "\0", "\ud800"], []),
    ("%%", ["", "ab"], []),
    ("abc", ["abc"], ["ABC", "abcd", "xabc", ""]),
    ("a%", ["a", "ab", "a\n"], ["ba", "A", ""]),
    ("%a", ["a", "ba", "\na"], ["ab", ""]),
    ("%a%", ["a", "bab", "\na\n"], ["b", ""]),
    ("a%b", ["ab", "axb", "a\nb"], ["a", "abc", "b"]),
    ("a%a", ["aa", "aba"], ["a"]),
    ("_", ["a", "é", "\n", "\0", "𝄞"], ["", "ab"]),
    ("_%", ["a", "ab"], [""]),
    ("a_c", ["abc", "a%c"], ["ac", "abbc"]),
    (r"100\%", ["100%"], ["100", "100x", "100\\%"]),
    (r"a\_b%", ["a_b", "a_bc"], ["axb"]),
    (r"a\\b", ["a\\b"], ["a\\\\b"]),
    (r"\x", ["x"], ["\\x"]),
    (r"\%%", ["%", "%a"], ["a%"]),
    ("[a].*(b)+?^$|{2}", ["[a].*(b)+?^$|{2}"], ["a", "b"]),
    (r"_[a].*(b)+?^$|{2}\\Q", [r"x[a].*(b)+?^$|{2}\Q"], ["xa"]),
    ("_ #-&~\n\t", ["x #-&~\n\t"], ["x"]),
    ("%a%b%c%", ["abc", "xaxbxcx"], ["acb"]),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), LIKE)
def test_like(pattern: str, good: list[str], bad: list[str]) -> None:
    matches = like(pattern)
    assert [text for text in good if matches(text) is not True] == []
    assert [text for text in bad if matches(text) is not False] == []


@pytest.mark.parametrize(
    ("pattern", "escape", "good", "bad"),
    [
        ("a!%", "!", "a%", "ab"),
        ("a!!", "!", "a!", "a!!"),
        ("a%%", "%", "a%", "ab"),
        ("a_%", "_", "a%", "ab"),
        (r"a\%", "", "a\\x", "a%"),
        ("aéé", "é", "aé", "aéé"),
    ],
)
def test_the_escape_character(pattern: str, escape: str, good: str, bad: str) -> None:
    matches = like(pattern, escape)
    assert (matches(good), matches(bad)) == (True, False)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [("ABC", "abc", True), ("a%É", "Abé", True), ("A_c", "abC", True), ("", "", True), ("a", "b", False)],
)
def test_case_can_be_ignored(pattern: str, text: str, expected: bool) -> None:
    assert like(pattern, ignore_case=True)(text) is expected


letters = st.text(st.sampled_from("ab%_\\.*\n\0é("), max_size=6)


@given(letters.filter(lambda pattern: not re.search(r"(?<!\\)(\\\\)*\\\Z", pattern)), letters)
def test_like_is_what_its_definition_says(pattern: str, text: str) -> None:
    assert like(pattern)(text) is (re.fullmatch(translated(pattern, "\\"), text, re.DOTALL) is not None)


@pytest.mark.parametrize("pattern", ["", "%", "abc", "abc%", "%abc", "%abc%", r"100\%%"])
def test_simple_patterns_need_no_expression(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "compile_re2", None)
    assert like(pattern)("zzz") is (pattern == "%")


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("", "", True),
        ("b", "abc", True),
        ("^b", "abc", False),
        ("c$", "abc", True),
        ("c$", "abc\n", False),
        ("B", "abc", False),
        ("(?i)B", "abc", True),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("a|x", "x", True),
        ("^.$", "é", True),
        ("\0", "a\0b", True),
        (r"\bcat\b", "a cat", True),
    ],
)
def test_regular_expressions_search(source: str, text: str, expected: bool) -> None:
    assert regex(source)(text) is expected


def test_regular_expressions_can_ignore_case() -> None:
    assert regex("ÄB|c", ignore_case=True)("xäb")
    assert regex("ÄB|c", ignore_case=True)("C")
    assert not regex("ÄB|c", ignore_case=True)("ab")


def test_half_a_character_is_in_no_expression() -> None:
    assert regex(".")("\ud800") is False
    assert like("_")("\ud800") is False


@pytest.mark.parametrize("source", ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "(.*a){12}$"])
def test_expressions_are_linear(source: str) -> None:
    """Each of these takes ages where an engine goes back and tries again."""
    assert regex(source)("a" * 50_000 + "!") is False


def test_patterns_with_many_wildcards_are_linear() -> None:
    assert like("%a_" * 60 + "b")("a" * 50_000) is False


REFUSED: list[tuple[Any, str]] = [
    (lambda: regex("(?=a)"), r"RE2 refuses it \(invalid perl operator: \(\?=\)"),
    (lambda: regex(r"(a)\1"), "no backreferences"),
    (lambda: regex("("), "missing"),
    (lambda: regex("a{1001}"), "RE2 refuses it"),
    (lambda: regex("((a{100}){100}){100}"), "RE2 refuses it"),
    (lambda: regex("x" * (MAX_REGEX_BYTES + 1)), f"has more than {MAX_REGEX_BYTES} bytes; make it shorter"),
    (lambda: regex("é" * MAX_REGEX_BYTES), f"has more than {MAX_REGEX_BYTES} bytes"),
    (lambda: like("_" + "." * MAX_REGEX_BYTES), f"has more than {MAX_REGEX_BYTES} bytes"),
    (lambda: like("a\\"), "ends with its escape character"),
    (lambda: like("a!", "!"), "ends with its escape character '!'; double it"),
    (lambda: like("a", "!!"), "ESCAPE takes one character"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
def test_what_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_as_long_as_can_be() -> None:
    assert regex("x" * MAX_REGEX_BYTES)("x" * MAX_REGEX_BYTES)
    assert like("x" * 10 * MAX_REGEX_BYTES + "%")("x" * 10 * MAX_REGEX_BYTES)
