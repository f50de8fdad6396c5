"""Topics as dotted names: reversible, each its own, and every wildcard takes at least what the pattern matches."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidings.brokers.routing import from_dotted, to_dotted, to_wildcard, to_wildcards
from tidings.errors import InvalidTopic
from tidings.model.topics import Pattern, validate_topic

AMQP = ("*", "#")
NATS = ("*", ">")

# -- the brokers' own rules, as their documents give them


def nats_takes(subject: str, name: str) -> bool:
    """`*` is one token, `>` at the end one or more."""
    wanted, tokens = subject.split("."), name.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(a in ("*", b) for a, b in zip(wanted, tokens, strict=True))


def amqp_takes(binding: str, name: str) -> bool:
    """`*` is one word, `#` zero or more."""
    return _amqp(binding.split("."), name.split("."))


def _amqp(words: list[str], tokens: list[str]) -> bool:
    if not words:
        return not tokens
    if words[0] == "#":
        return any(_amqp(words[1:], tokens[skipped:]) for skipped in range(len(tokens) + 1))
    return bool(tokens) and words[0] in ("*", tokens[0]) and _amqp(words[1:], tokens[1:])


# -- topics and patterns


def is_topic(text: str) -> bool:
    try:
        return bool(validate_topic(text))
    except InvalidTopic:
        return False


SEGMENT = st.text("ab$% >é2456EC", min_size=1, max_size=3)
TOPICS = st.lists(st.tuples(st.sampled_from("/.:"), SEGMENT), min_size=1, max_size=4).map(
    lambda parts: "".join(separator + segment for separator, segment in parts)[1:]
)
PATTERN_SEGMENT = st.one_of(SEGMENT, st.sampled_from(["*", "**", "#", "a*", "*b", "a*b"]))
PATTERNS = st.lists(st.tuples(st.sampled_from("/.:"), PATTERN_SEGMENT), min_size=1, max_size=4).map(
    lambda parts: "".join(separator + segment for separator, segment in parts)[1:]
)


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("orders.placed", "orders.placed"),
        ("orders/placed", "orders./placed"),
        ("user:7/login", "user.:7./login"),
        ("plain", "plain"),
        ("$SYS.a b.>.5%", "%24SYS.a%20b.%3E.5%25"),
        ("a.$b/$", "a.$b./$"),
        ("a%20b", "a%2520b"),
        ("orders-2026_é", "orders-2026_é"),
    ],
)
def test_names(topic: str, name: str) -> None:
    assert (to_dotted(topic), from_dotted(name)) == (name, topic)


@given(TOPICS.filter(is_topic))
@example("$JS.API.STREAM.DELETE.x")
@example("%24a")
@example("a.>")
def test_a_name_leads_back_and_is_a_subject(topic: str) -> None:
    """So no two topics share a name. A subject of NATS has no blank, no wildcard, and no command to the server."""
    name = to_dotted(topic)
    assert from_dotted(name) == topic
    assert " " not in name
    assert not name.startswith("$")
    assert not {"", "*", ">", "#"} & set(name.split("."))


@given(st.text())
def test_foreign_names_are_never_an_error(name: str) -> None:
    assert isinstance(from_dotted(name), str)


@pytest.mark.parametrize(
    ("pattern", "amqp", "nats"),
    [
        ("orders/placed", "orders./placed", ["orders./placed"]),
        ("orders.*", "orders.*", ["orders.*"]),
        ("orders/*", "orders.*", ["orders.*"]),
        ("a*b/c", "*./c", ["*./c"]),
        ("orders/**", "orders.#", ["orders", "orders.>"]),
        ("orders/*/#", "orders.*.#", ["orders.*", "orders.*.>"]),
        ("a/**/b", "a.#", ["a", "a.>"]),
        ("**/x", "#", [">"]),
        ("#", "#", [">"]),
        ("$a b/*", "%24a%20b.*", ["%24a%20b.*"]),
    ],
)
def test_wildcards(pattern: str, amqp: str, nats: list[str]) -> None:
    assert to_wildcard(Pattern.parse(pattern), *AMQP) == amqp
    assert to_wildcards(Pattern.parse(pattern), *NATS) == nats


def test_a_regular_expression_is_asked_of_everything() -> None:
    pattern = Pattern.from_regex(re.compile("orders/[0-9]+"))
    assert to_wildcard(pattern, *AMQP) == "#"
    assert to_wildcards(pattern, *NATS) == [">"]


def parsed(text: str) -> Pattern | None:
    try:
        return Pattern.parse(text)
    except ValueError:
        return None


@given(PATTERNS, TOPICS.filter(is_topic))
@example("orders/**", "orders")
@example("orders/**", "orders.eu")
@example("a/**/**", "a")
@example("**/x", "x")
def test_a_wildcard_takes_whatever_the_pattern_matches(text: str, topic: str) -> None:
    pattern = parsed(text)
    if pattern is None or not pattern.matches(topic):
        return
    name = to_dotted(topic)
    assert amqp_takes(to_wildcard(pattern, *AMQP), name)
    assert sum(nats_takes(subject, name) for subject in to_wildcards(pattern, *NATS)) == 1


@given(st.data())
def test_a_topic_made_from_a_pattern_is_taken(data: Any) -> None:
    """As the last, but most of these match."""
    text = data.draw(PATTERNS)
    filled = re.sub(r"\*\*|#", lambda _: data.draw(st.sampled_from(["a", "a.b", "a/b:$"])), text)
    topic = re.sub(r"\*", lambda _: data.draw(st.sampled_from(["x", "%", "a b"])), filled)
    pattern = parsed(text)
    if pattern is not None and is_topic(topic) and pattern.matches(topic):
        assert amqp_takes(to_wildcard(pattern, *AMQP), to_dotted(topic))
        assert any(nats_takes(subject, to_dotted(topic)) for subject in to_wildcards(pattern, *NATS))


@given(TOPICS.filter(is_topic), TOPICS.filter(is_topic))
def test_a_plain_topic_is_a_wildcard_of_one(topic: str, other: str) -> None:
    wildcard = to_wildcard(Pattern.parse(topic), *AMQP)
    assert amqp_takes(wildcard, to_dotted(other)) == (topic == other)
    assert to_wildcards(Pattern.parse(topic), *NATS) == [wildcard]
