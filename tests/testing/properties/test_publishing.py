"""What is acknowledged is stored once, as it was given, and nothing else is."""

from __future__ import annotations

import pytest

from tests.testing.properties.judging import (
    LET_THROUGH,
    Bugs,
    Right,
    begin,
    begin_filtered,
    broken,
    check_caught,
    check_right,
)
from tests.testing.story import FILTER, GROUP, TOPIC, Story
from tidings.testing.events import Receipt
from tidings.testing.properties import violations

RIGHT: Right = {
    "nothing at all": Story,
    "everything consumed": lambda: begin().published("a", "b").consumed("a", "b").healed().drained(),
    "not drained, so nothing is lost yet": lambda: begin().published("a", "b").consumed("a"),
    "published after it was drained": lambda: begin().healed().drained().published("a"),
    "published before the group": lambda: Story().published("a").opened().healed().drained(),
    "unknown and gone": lambda: begin().invoked("a").unknown("a").healed().drained(),
    "unknown and there": lambda: begin().invoked("a").unknown("a").consumed("a").drained(),
    "killed in publish and there": lambda: begin().invoked("a").consumed("a").drained(),
    "overlapping publishes in either order": lambda: (
        begin().invoked("a").invoked("b").receipt("b", 0).receipt("a", 1).consumed("b", "a").drained()
    ),
    "counted as skipped": lambda: begin().published("a", "b").skipped(1).consumed("b", start=1).drained(),
    "temporary subscriptions miss what comes before and after them": lambda: (
        Story()
        .published("a")
        .opened("tail", durable=False)
        .published("b", "c", start=1)
        .delivered("b", 1, group="tail")
    ),
    "a filter passes over": lambda: (
        begin_filtered().published("a").published("b", start=1, **LET_THROUGH).consumed("b", start=1).healed().drained()
    ),
    "an unknown publish that a filter passes over": lambda: begin_filtered().invoked("a").unknown("a").drained(),
    "another reader's filter": lambda: begin().published("a", **LET_THROUGH).consumed("a").drained(),
    "temporary subscriptions with other filters": lambda: (
        Story()
        .opened("t", durable=False, filter=FILTER)
        .opened("u", durable=False, filter="total > 90")
        .published("a", **LET_THROUGH)
        .published("b", start=1, matches=(FILTER, "total > 90"))
        .delivered("a", 0, group="t")
        .delivered("b", 1, group="t")
        .delivered("b", 1, group="u")
        .drained("t")
        .drained("u")
    ),
    "scheduled and not due yet": lambda: begin().scheduled("a", due=1000).drained(),
    "scheduled and there": lambda: begin().scheduled("a", due=1).consumed("a").drained(),
    "messages that have no place": lambda: (
        begin()
        .invoked("a")
        .invoked("b")
        .receipt("a", -1)
        .receipt("b", -1)
        .consumed("a", start=-1)
        .consumed("b", start=-1)
        .healed()
        .drained()
    ),
    "taken back": lambda: begin().scheduled("a", due=5).cancelled("a").wait(5).drained(),
    "an unanswered cancellation": lambda: begin().scheduled("a", due=5).cancelling("a").wait(5).drained(),
    "expired": lambda: begin().published("a", expires=3).wait(5).drained(),
    "a dead letter that nobody saw alive": lambda: begin().published("a").buried("a").drained(),
}

SEEDED_BUGS: Bugs = {
    "receipt before the write is durable": (
        "P1",
        lambda: begin().published("a", "b", "c").consumed("a", "b").drained(),
    ),
    "a log begun anew": ("P1", lambda: begin().published("a", "b", "c").consumed("c", start=2).drained()),
    "a hole in the log": (
        "P1",
        lambda: begin().published("a", "b", "c").consumed("a").consumed("c", start=2).drained(),
    ),
    "more lost than counted": (
        "P1",
        lambda: begin().published("a", "b", "c").skipped(1).consumed("c", start=2).drained(),
    ),
    "a message from nowhere": ("P2", lambda: begin().delivered("ghost", 0).acked("ghost").drained()),
    "damaged bytes": (
        "P2",
        lambda: begin().published("a").delivered("a", 0, hash="#b").acked("a").drained(),
    ),
    "another priority": (
        "P2",
        lambda: begin().invoked("a", priority="9").delivered("a", 0, priority="5").acked("a").drained(),
    ),
    "another topic's message": (
        "P2",
        lambda: begin().invoked("a").delivered("a", 0, topic="invoices").acked("a").drained(),
    ),
    "a filter lets others through": (
        "P2",
        lambda: begin_filtered().published("a").consumed("a").drained(),
    ),
    "a temporary subscription gets the messages of another filter": (
        "P2",
        lambda: (
            Story()
            .opened("t", durable=False, filter="total > 90")
            .published("a", **LET_THROUGH)
            .delivered("a", 0, group="t")
            .drained("t")
        ),
    ),
    "a filter passes over what it matches": (
        "P1",
        lambda: begin_filtered().published("a", "b", **LET_THROUGH).consumed("a").drained(),
    ),
    "a temporary subscription is not woken for a message": (
        "P1",
        lambda: (
            Story()
            .opened("t", durable=False, filter=FILTER)
            .published("a", "b", **LET_THROUGH)
            .delivered("a", 0, group="t")
            .drained("t")
        ),
    ),
    "failed and delivered": ("P3", lambda: begin().invoked("a").failed("a").consumed("a").drained()),
    "dropped dedupe key": (
        "P4",
        lambda: begin().published("a").delivered("a", 0).nacked("a").delivered("a", 1).acked("a").drained(),
    ),
    "an offset reused after a crash": (
        "P4",
        lambda: begin().published("a").consumed("a").published("b").consumed("b").drained(),
    ),
    "the log against real time": (
        "P5",
        lambda: begin().published("a", start=1).published("b", start=0).consumed("b", "a").drained(),
    ),
    "a scheduled message never moved into its log": ("P1", lambda: begin().scheduled("a", due=5).wait(5).drained()),
    "a staged message moved twice": (
        "P4",
        lambda: (
            begin()
            .scheduled("a", due=1)
            .delivered("a", 0)
            .nacked("a")
            .delivered("a", 1, attempt=1)
            .acked("a")
            .drained()
        ),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    check_right(RIGHT, name)


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    check_caught(SEEDED_BUGS, name)


def test_a_violation_carries_its_evidence() -> None:
    (violation,) = violations(begin().published("a").drained().history())
    assert violation.evidence[-1] == Receipt(at=3, id="a", topic=TOPIC, partition=0, offset=0, durability="disk")
    assert f"group {GROUP}" in violation.text


def test_what_only_a_weak_receipt_promised_may_be_lost_in_a_power_cut() -> None:
    story = begin().invoked("a").receipt("a", 0, "os").published("b").consumed("b").drained()
    assert violations(story.history(surviving=frozenset({"disk"}))) == []
    assert {"P1", "P4"} == broken(story)
