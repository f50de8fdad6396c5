"""The order of each key in an ordered group."""

from __future__ import annotations

import pytest

from tests.testing.properties.judging import Bugs, Right, begin, check_caught, check_right
from tests.testing.story import Story
from tidings.testing.properties.keyorder import hand_overs


def _ordered() -> Story:
    return Story().opened(ordered=True)


def _two() -> Story:
    return _ordered().published("a", "b", key="k")


RIGHT: Right = {
    "one after the other": lambda: _two().consumed("a", "b").drained(),
    "two keys side by side": lambda: (
        _ordered()
        .published("a", key="k")
        .published("b", start=1, key="other")
        .delivered("a", 0)
        .delivered("b", 1, "c2")
        .acked("b", "c2")
        .acked("a")
        .drained()
    ),
    "several in one hand": lambda: _two().delivered("a", 0).delivered("b", 1).acked("a").acked("b").drained(),
    "one by one": lambda: (
        _two().delivered("a", 0, single=True).acked("a").delivered("b", 1, single=True).acked("b").drained()
    ),
    "several in a hand that dies": lambda: (
        _two()
        .delivered("a", 0)
        .delivered("b", 1)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("b", 1, "c2", attempt=2)
        .acked("b", "c2")
        .drained()
    ),
    "handed over when it was settled": lambda: (
        _two().delivered("a", 0).acked("a").delivered("b", 1, "c2").acked("b", "c2").drained()
    ),
    "handed over by a death": lambda: (
        _two()
        .delivered("a", 0)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("b", 1, "c2")
        .acked("b", "c2")
        .drained()
    ),
    "an unanswered ack that counted": lambda: (
        _two().delivered("a", 0).acking("a").died().delivered("b", 1, "c2").acked("b", "c2").drained()
    ),
    "retried before the next": lambda: (
        _two()
        .delivered("a", 0)
        .nacked("a")
        .delivered("a", 0, attempt=2)
        .acked("a")
        .delivered("b", 1)
        .acked("b")
        .drained()
    ),
    "given up, then the next": lambda: (
        _two()
        .delivered("a", 0)
        .nacked("a")
        .delivered("b", 1, "c2")
        .acked("b", "c2")
        .buried("a", reason="retries exhausted")
        .drained()
    ),
    "a zombie goes on with what it has": lambda: (
        _two()
        .delivered("a", 0)
        .expired()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("b", 1, "c2", attempt=2)
        .acked("b", "c2")
        .refused("a")
        .delivered("b", 1, "c1", attempt=1)
        .refused("b")
        .drained()
    ),
    "a zombie's ack without an answer": lambda: (
        _two()
        .delivered("a", 0)
        .expired()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("b", 1, "c2")
        .acking("a")
        .died()
        .acked("b", "c2")
        .drained()
    ),
    "a group without ordering": lambda: (
        begin()
        .published("a", "b", key="k")
        .delivered("a", 0)
        .nacked("a")
        .consumed("b", start=1, consumer="c2")
        .delivered("a", 0, attempt=2)
        .acked("a")
        .drained()
    ),
}

SEEDED_BUGS: Bugs = {
    "an ordered group splits a key": (
        "P14",
        lambda: (
            Story()
            .opened(ordered=True)
            .published("a", "b", key="k")
            .consumed("b", start=1, consumer="c2")
            .consumed("a", consumer="c1")
            .drained()
        ),
    ),
    "a failed message does not hold back its key": (
        "P14",
        lambda: (
            _two()
            .delivered("a", 0)
            .nacked("a")
            .delivered("b", 1)
            .acked("b")
            .delivered("a", 0, attempt=2)
            .acked("a")
            .drained()
        ),
    ),
    "messages without a key do not wait for each other": (
        "P14",
        lambda: (
            _ordered()
            .published("a", "b")
            .delivered("a", 0)
            .nacked("a")
            .delivered("b", 1)
            .acked("b")
            .delivered("a", 0, attempt=2)
            .acked("a")
            .drained()
        ),
    ),
    "handed over while the old owner still holds": (
        "P14",
        lambda: _two().delivered("a", 0).delivered("b", 1, "c2").acked("a").acked("b", "c2").drained(),
    ),
    "two handlers at once for one key": (
        "P14",
        lambda: _two().delivered("a", 0, single=True).delivered("b", 1, single=True).acked("a").acked("b").drained(),
    ),
    "what the dead held comes after what they had not got": (
        "P14",
        lambda: (
            _two()
            .delivered("a", 0)
            .died()
            .delivered("b", 1, "c2")
            .acked("b", "c2")
            .delivered("a", 0, "c2", attempt=2)
            .acked("a", "c2")
            .drained()
        ),
    ),
    "what the dead held comes in another order": (
        "P14",
        lambda: (
            _two()
            .delivered("a", 0)
            .delivered("b", 1)
            .died()
            .delivered("b", 1, "c2", attempt=2)
            .acked("b", "c2")
            .delivered("a", 0, "c2", attempt=2)
            .acked("a", "c2")
            .drained()
        ),
    ),
    "what was claimed and not handed out comes late": (
        "P14",
        lambda: (
            _two()
            .died()
            .delivered("b", 1, "c2")
            .acked("b", "c2")
            .delivered("a", 0, "c2", attempt=2)
            .acked("a", "c2")
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


def test_hand_overs_are_counted() -> None:
    story = _ordered().published("a", "b", "c", key="k")
    story.consumed("a").consumed("b", start=1, consumer="c2").consumed("c", start=2, consumer="c2")
    history = story.history()
    assert hand_overs(history, history.readers["billing"]) == 1
