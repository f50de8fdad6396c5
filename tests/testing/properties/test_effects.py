"""Transactions take effect as a whole, each input once; what is published twice is stored once."""

from __future__ import annotations

import pytest

from tests.testing.properties.judging import Bugs, Right, begin, check_caught, check_right
from tests.testing.story import OUTPUTS, READER, Story


def _given(*messages: str) -> Story:
    messages = messages or ("a",)
    story = begin().opened(READER, topic=OUTPUTS).published(*messages)
    for offset, message in enumerate(messages):
        story.delivered(message, offset)
    return story


RIGHT: Right = {
    "failed, retried, there": lambda: begin().invoked("a").failed("a").published("a").consumed("a").drained(),
    "published again and stored once": lambda: begin().published("a").published("a").consumed("a").drained(),
    "scheduled again and stored once": lambda: (
        begin().scheduled("a", due=1).scheduled("a", due=1).consumed("a").drained()
    ),
    "committed, outputs there": lambda: _given().output("x", "t").committed("t", "a").drained().invoiced("x"),
    "unanswered, effective": lambda: _given().output("x", "t").committing("t", "a").died().drained().invoiced("x"),
    "unanswered, ineffective": lambda: (
        _given()
        .output("x", "t")
        .committing("t", "a")
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .output("y", "u")
        .committed("u", "a", consumer="c2")
        .drained()
        .invoiced("y")
    ),
    "given up before the commit": lambda: (
        _given().output("x", "t").nacked("a").delivered("a", 0, attempt=2).acked("a").drained().invoiced()
    ),
    "refused, and done by another": lambda: (
        _given()
        .expired()
        .delivered("a", 0, "c2", attempt=2)
        .output("x", "t")
        .uncommitted("t", "a")
        .output("y", "u")
        .committed("u", "a", consumer="c2")
        .drained()
        .invoiced("y")
    ),
    "a batch": lambda: (
        _given("a", "b").output("x", "t").output("y", "t").committed("t", "a", "b").drained().invoiced("x", "y")
    ),
    "outputs that nobody drained": lambda: _given().output("x", "t").committed("t", "a").drained(),
    "an output that is to come later": lambda: (
        _given().output("x", "t", due=10_000).committed("t", "a").drained().invoiced()
    ),
}

SEEDED_BUGS: Bugs = {
    "a retry stored twice": (
        "P8",
        lambda: begin().invoked("a").unknown("a").published("a", start=1).consumed("a").drained(),
    ),
    "a repeated publish gets a new place": (
        "P8",
        lambda: begin().published("a").published("a", start=1).consumed("a").drained(),
    ),
    "acked before the outputs are stored": (
        "P8",
        lambda: _given().output("x", "t").committing("t", "a").died().drained().invoiced(),
    ),
    "an output of a commit lost": (
        "P8",
        lambda: _given().output("x", "t").output("y", "t").committed("t", "a").drained().invoiced("x"),
    ),
    "an unanswered commit torn": (
        "P8",
        lambda: _given().output("x", "t").output("y", "t").committing("t", "a").died().drained().invoiced("y"),
    ),
    "outputs stored before the ack": (
        "P8",
        lambda: (
            _given()
            .output("x", "t")
            .committing("t", "a")
            .died()
            .delivered("a", 0, "c2", attempt=2)
            .acked("a", "c2")
            .drained()
            .invoiced("x")
        ),
    ),
    "outputs of two attempts": (
        "P8",
        lambda: (
            _given()
            .output("x", "t")
            .committing("t", "a")
            .died()
            .delivered("a", 0, "c2", attempt=2)
            .output("y", "u")
            .committed("u", "a", consumer="c2")
            .drained()
            .invoiced("x", "y")
        ),
    ),
    "outputs of a refused commit": (
        "P8",
        lambda: (
            _given()
            .expired()
            .delivered("a", 0, "c2", attempt=2)
            .output("x", "t")
            .uncommitted("t", "a")
            .acked("a", "c2")
            .drained()
            .invoiced("x")
        ),
    ),
    "outputs of a handler that failed": (
        "P8",
        lambda: _given().output("x", "t").nacked("a").delivered("a", 0, attempt=2).acked("a").drained().invoiced("x"),
    ),
    "committed and rejected": (
        "P8",
        lambda: _given().output("x", "t").committing("t", "a").rejected("a").drained().invoiced("x"),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    check_right(RIGHT, name)


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    check_caught(SEEDED_BUGS, name)
