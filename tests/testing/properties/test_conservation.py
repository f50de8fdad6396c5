"""At the end every message is in one place, and the bus counts them right."""

from __future__ import annotations

import pytest

from tests.testing.properties.judging import (
    LET_THROUGH,
    Bugs,
    Right,
    begin,
    begin_filtered,
    check_caught,
    check_right,
)
from tests.testing.story import Story


def _dying(**declared: int) -> Story:
    return begin().declared(**declared).published("a").delivered("a", 0)  # type: ignore[arg-type]


def _passing_over() -> Story:
    """A group that lets the second of two messages through."""
    return begin_filtered().declared().published("a").published("b", start=1, **LET_THROUGH)


RIGHT: Right = {
    "all acked": lambda: begin().published("a", "b").consumed("a", "b").drained().counted(2, acked=2),
    "some pending": lambda: begin().published("a", "b").consumed("a").counted(2, acked=1, pending=1),
    "an unanswered ack, effective": lambda: (
        begin().published("a").delivered("a", 0).acking("a").died().drained().counted(1, acked=1)
    ),
    "an unknown publish": lambda: begin().published("a").invoked("b").consumed("a", "b").counted(2, acked=2),
    "an unknown publish that is not there": lambda: (
        begin().published("a").invoked("b").consumed("a").counted(1, acked=1)
    ),
    "rejected": lambda: _dying().rejected("a").drained().buried("a").counted(1, dead=1),
    "a reject without an answer": lambda: (
        _dying()
        .nacked("a", requeue=False)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .drained()
        .counted(1, acked=1)
    ),
    "no attempts left": lambda: (
        _dying(retries=1)
        .nacked("a")
        .delivered("a", 0, attempt=2)
        .nacked("a")
        .drained()
        .buried("a", attempts=2, reason="retries exhausted")
        .counted(1, dead=1)
    ),
    "poison": lambda: (
        _dying(retries=1)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .died("c2")
        .drained()
        .buried("a", attempts=2, reason="retries exhausted")
        .counted(1, dead=1)
    ),
    "expired": lambda: begin().published("a", expires=3).wait(3).drained().counted(1, expired=1),
    "may have expired, was acked": lambda: (
        begin().published("a", expires=4).consumed("a").drained().counted(1, acked=1)
    ),
    "expired and buried": lambda: (
        begin()
        .declared(buries_expired=True)
        .published("a", expires=4)
        .wait(4)
        .drained()
        .buried("a", reason="expired")
        .counted(1, expired=1)
    ),
    "expired while it waited for a retry": lambda: (
        begin().published("a", expires=6).delivered("a", 0).nacked("a").wait(6).drained().counted(1, expired=1)
    ),
    "kept for later": lambda: begin().scheduled("a", "b", due=1000).cancelled("b").waiting(1),
    "perhaps taken back": lambda: begin().scheduled("a", "b", due=1000).cancelling("b").waiting(1),
    "committed": lambda: begin().published("a").delivered("a", 0).committed("t", "a").drained().counted(1, acked=1),
    "passed over by a filter": lambda: _passing_over().consumed("b", start=1).drained().counted(2, acked=1, filtered=1),
    "what a filter passes over is still ahead": lambda: _passing_over().counted(2, pending=2),
    "passed over, and the other is pending": lambda: (
        _passing_over().delivered("b", 1).counted(2, filtered=1, pending=1)
    ),
    "passed over, and the other is dead": lambda: (
        _passing_over().delivered("b", 1).rejected("b").drained().buried("b", 1).counted(2, filtered=1, dead=1)
    ),
    "passed over before it expired": lambda: (
        begin_filtered().published("a", expires=3).wait(3).drained().counted(1, filtered=1)
    ),
    "expired, though a filter let it through": lambda: (
        begin_filtered().published("a", expires=3, **LET_THROUGH).wait(3).drained().counted(1, expired=1)
    ),
    "removed before a filter looked": lambda: _passing_over().skipped(2).drained().counted(2, skipped=2),
    "an unknown publish, passed over": lambda: begin_filtered().invoked("a").drained().counted(1, filtered=1),
    "an unknown publish that is not there to be passed over": lambda: (
        begin_filtered().invoked("a").drained().counted(0)
    ),
}

SEEDED_BUGS: Bugs = {
    "a message in no column": ("P10", lambda: begin().published("a").consumed("a").drained().counted(1)),
    "a message in two columns": (
        "P10",
        lambda: begin().published("a").consumed("a").drained().counted(1, acked=1, expired=1),
    ),
    "an ack counted twice": (
        "P10",
        lambda: begin().published("a", "b").consumed("a").counted(2, acked=2),
    ),
    "a stored message not counted": (
        "P10",
        lambda: begin().published("a", "b").consumed("a", "b").counted(1, acked=1),
    ),
    "expired and counted as acked": (
        "P10",
        lambda: begin().published("a", expires=3).wait(4).drained().counted(1, acked=1),
    ),
    "counted as expired though it never does": (
        "P10",
        lambda: begin().published("a").delivered("a", 0).acking("a").died().drained().counted(1, expired=1),
    ),
    "the ack without the dead letter": ("P10", lambda: _dying().rejected("a").drained().counted(1, dead=1)),
    "the dead letter without the ack": (
        "P10",
        lambda: (
            _dying()
            .nacked("a", requeue=False)
            .died()
            .delivered("a", 0, "c2", attempt=2)
            .acked("a", "c2")
            .buried("a")
            .drained()
            .counted(1, acked=1)
        ),
    ),
    "a dead letter twice": (
        "P10",
        lambda: _dying().rejected("a").buried("a").buried("a").drained().counted(1, dead=1),
    ),
    "passed over and in no column": (
        "P10",
        lambda: _passing_over().consumed("b", start=1).drained().counted(2, acked=1),
    ),
    "passed over and in two columns": (
        "P10",
        lambda: _passing_over().consumed("b", start=1).drained().counted(2, acked=2, filtered=1),
    ),
    "passed over and counted as acked": (
        "P10",
        lambda: _passing_over().consumed("b", start=1).drained().counted(2, acked=2),
    ),
    "passed over and counted as expired": (
        "P10",
        lambda: begin_filtered().published("a", expires=3).wait(4).drained().counted(1, expired=1),
    ),
    "matched and counted as passed over": (
        "P10",
        lambda: begin_filtered().published("a", **LET_THROUGH).counted(1, filtered=1),
    ),
    "acked and counted as passed over": (
        "P10",
        lambda: _passing_over().consumed("b", start=1).drained().counted(2, filtered=2),
    ),
    "passed over by a group without a filter": ("P10", lambda: begin().published("a").counted(1, filtered=1)),
    "passed over and counted as dead": ("P10", lambda: begin_filtered().published("a").drained().counted(1, dead=1)),
    "the dead letter of what a filter passes over": (
        "P10",
        lambda: _passing_over().consumed("b", start=1).drained().buried("a"),
    ),
    "a dead letter in other words": (
        "P10",
        lambda: (
            begin()
            .declared()
            .published("a", "b")
            .delivered("a", 0)
            .rejected("a")
            .buried("a", offset=1)
            .consumed("b", start=1)
            .drained()
            .counted(2, dead=1, acked=1)
        ),
    ),
    "given up too soon": (
        "P10",
        lambda: (
            _dying(retries=5)
            .nacked("a")
            .buried("a", attempts=1, reason="retries exhausted")
            .drained()
            .counted(1, dead=1)
        ),
    ),
    "attempts counted that nobody made": (
        "P10",
        lambda: (
            _dying(retries=2)
            .nacked("a")
            .buried("a", attempts=3, reason="retries exhausted")
            .drained()
            .counted(1, dead=1)
        ),
    ),
    "what is kept for later is lost": ("P10", lambda: begin().scheduled("a", due=1000).waiting(0)),
    "what was taken back is still kept": (
        "P10",
        lambda: begin().scheduled("a", due=1000).cancelled("a").waiting(1),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    check_right(RIGHT, name)


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    check_caught(SEEDED_BUGS, name)
