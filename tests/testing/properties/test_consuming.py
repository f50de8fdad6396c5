"""What a group is given, how often, and until when."""

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
from tests.testing.story import FILTER, TOPIC, Story
from tidings.testing.properties import violations
from tidings.testing.properties.publishing import DEAD_LETTERS


def _riding() -> Story:
    """A temporary subscription, to which the first of three messages is none."""
    story = Story().opened("t", durable=False, filter=FILTER).published("a")
    return story.published("b", "c", start=1, **LET_THROUGH)


RIGHT: Right = {
    "redelivered after a death": lambda: (
        begin().published("a").delivered("a", 0).died().delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained()
    ),
    "redelivered after a nack": lambda: (
        begin().published("a").delivered("a", 0).nacked("a").delivered("a", 0, attempt=2).acked("a").drained()
    ),
    "redelivered after two deaths": lambda: (
        begin()
        .published("a")
        .delivered("a", 0)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .died("c2")
        .delivered("a", 0, "c3", attempt=3)
        .acked("a", "c3")
        .drained()
    ),
    "killed in ack, effective": lambda: begin().published("a").delivered("a", 0).acking("a").died().drained(),
    "killed in ack, ineffective": lambda: (
        begin()
        .published("a")
        .delivered("a", 0)
        .acking("a")
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .drained()
    ),
    "rejected": lambda: begin().published("a").delivered("a", 0).nacked("a", requeue=False).drained(),
    "dead-lettered and read there": lambda: (
        begin()
        .published("a")
        .delivered("a", 0)
        .nacked("a", requeue=False)
        .delivered("a", 0, group="undertaker", topic=DEAD_LETTERS + TOPIC)
        .drained()
    ),
    "a zombie hands out its old copy": lambda: (
        begin()
        .published("a")
        .expired("c1")
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("a", 0, "c1", attempt=1)
        .refused("a", "c1")
        .drained()
    ),
    "two consumers side by side": lambda: (
        begin().published("a", "b").consumed("b", start=1, consumer="c2").consumed("a").drained()
    ),
    "given back by an ended consumer": lambda: (
        begin()
        .published("a", "b")
        .died("c1")
        .consumed("b", start=1, consumer="c2")
        .consumed("a", consumer="c2")
        .drained()
    ),
    "pending as reported": lambda: begin().published("a").delivered("a", 0).drained(pending=1),
    "rejected, and the answer came": lambda: begin().published("a").delivered("a", 0).rejected("a").drained(),
    "a nack that was refused, and an ack that was not": lambda: (
        begin()
        .published("a")
        .delivered("a", 0)
        .expired()
        .delivered("a", 0, "c2", attempt=2)
        .nacked("a")
        .lost("a")
        .acking("a", "c2")
        .died("c2")
        .drained()
    ),
    "no attempts left": lambda: (
        begin().published("a").delivered("a", 0).nacked("a").buried("a", reason="retries exhausted").drained()
    ),
    "expired while it waited": lambda: (
        begin().published("a", expires=9).delivered("a", 0).nacked("a").wait(9).drained()
    ),
    "committed": lambda: begin().published("a").delivered("a", 0).committed("t", "a").drained(),
    "killed temporary subscriptions miss what comes later": lambda: _riding().delivered("b", 1, group="t").healed(),
    "a filter passes over, for good": lambda: (
        begin_filtered().published("a").published("b", start=1, **LET_THROUGH).consumed("b", start=1).drained()
    ),
    "redelivered to a group with a filter": lambda: (
        begin_filtered()
        .published("a")
        .published("b", start=1, **LET_THROUGH)
        .delivered("b", 1)
        .died()
        .delivered("b", 1, "c2", attempt=2)
        .acked("b", "c2")
        .drained()
    ),
}

SEEDED_BUGS: Bugs = {
    "one consumer reads backwards": (
        "P5",
        lambda: begin().published("a", "b").consumed("b", start=1).consumed("a").drained(),
    ),
    "cursor before handler": ("P6", lambda: begin().published("a").delivered("a", 0).died().drained()),
    "a refused ack settles": ("P6", lambda: begin().published("a").delivered("a", 0).refused("a").drained()),
    "a nacked message forgotten": (
        "P6",
        lambda: begin().published("a").delivered("a", 0).nacked("a").drained(),
    ),
    "a stored message passed over": (
        "P6",
        lambda: (
            begin()
            .invoked("u")
            .delivered("u", 0, group="tail")
            .published("b", start=1)
            .consumed("b", start=1)
            .drained()
        ),
    ),
    "a stored message that a filter matches passed over": (
        "P6",
        lambda: (
            begin_filtered()
            .invoked("u", **LET_THROUGH)
            .delivered("u", 0, group="tail")
            .published("b", start=1, **LET_THROUGH)
            .consumed("b", start=1)
            .drained()
        ),
    ),
    "a gap in what a killed temporary subscription was given": ("P6", lambda: _riding().delivered("c", 2, group="t")),
    "a gap before what a killed subscription without a filter was given": (
        "P6",
        lambda: Story().opened("t", durable=False).published("a", "b").delivered("b", 1, group="t"),
    ),
    "a temporary subscription with a filter reads backwards": (
        "P5",
        lambda: _riding().delivered("c", 2, group="t").delivered("b", 1, group="t").drained("t"),
    ),
    "a temporary subscription that hears too late": (
        "P11",
        lambda: _riding().healed(limit=1).delivered("b", 1, group="t").delivered("c", 2, group="t").drained("t"),
    ),
    "acked and given again": (
        "P7",
        lambda: (
            begin().published("a").consumed("a").died().delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained()
        ),
    ),
    "two holders at once": (
        "P9",
        lambda: begin().published("a").delivered("a", 0).delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained(),
    ),
    "twice after one death": (
        "P9",
        lambda: (
            begin()
            .published("a")
            .delivered("a", 0)
            .died()
            .delivered("a", 0, "c2", attempt=2)
            .delivered("a", 0, "c3", attempt=3)
            .acked("a", "c3")
            .drained()
        ),
    ),
    "a subscription gets a copy twice": (
        "P9",
        lambda: (
            Story().opened("t", durable=False).published("a").delivered("a", 0, group="t").delivered("a", 0, group="t")
        ),
    ),
    "never drained": ("P11", lambda: begin().published("a").consumed("a").healed()),
    "drained too late": ("P11", lambda: begin().published("a").healed(limit=1).consumed("a").drained()),
    "rejected and given again": (
        "P7",
        lambda: (
            begin().published("a").delivered("a", 0).rejected("a").delivered("a", 0, attempt=2).acked("a").drained()
        ),
    ),
    "a refused commit settles": (
        "P6",
        lambda: begin().published("a").delivered("a", 0).uncommitted("t", "a").drained(),
    ),
    "committed and given again": (
        "P7",
        lambda: begin().published("a").delivered("a", 0).committed("t", "a").died().delivered("a", 0, "c2", attempt=2),
    ),
    "a refused nack brings a message again": (
        "P9",
        lambda: begin().published("a").delivered("a", 0).nacked("a").lost("a").delivered("a", 0, attempt=2).acked("a"),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    check_right(RIGHT, name)


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    check_caught(SEEDED_BUGS, name)


def test_a_power_cut_may_take_back_what_was_read_before_it_was_acknowledged() -> None:
    story = begin().invoked("a").delivered("a", 0).died().drained()
    assert violations(story.history(surviving=frozenset({"disk"}))) == []
    assert broken(story) == {"P6"}
    acknowledged = begin().published("a").delivered("a", 0).died().drained()
    assert [v.property for v in violations(acknowledged.history(surviving=frozenset({"disk"})))] == ["P6"]
