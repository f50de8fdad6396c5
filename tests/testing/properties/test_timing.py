"""Not before it is due, not after it expired, not after it was taken back."""

from __future__ import annotations

import pytest

from tests.testing.properties.judging import Bugs, Right, begin, check_caught, check_right
from tidings.testing.properties.timing import TOLERANCE

RIGHT: Right = {
    "delivered when due": lambda: begin().scheduled("a", due=TOLERANCE).wait(TOLERANCE).consumed("a").drained(),
    "asked for in time, handed out late": lambda: (
        begin().published("a", expires=10).wait(2 * TOLERANCE).delivered("a", 0, asked=9).acked("a").drained()
    ),
    "published again, to come sooner": lambda: (
        begin().scheduled("a", due=9 * TOLERANCE).scheduled("a", due=2).consumed("a").drained()
    ),
    "too late to take it back": lambda: (
        begin().scheduled("a", due=1).consumed("a").cancelled("a", done=False).drained()
    ),
}

SEEDED_BUGS: Bugs = {
    "too early": ("P15", lambda: begin().scheduled("a", due=2 * TOLERANCE).consumed("a").drained()),
    "after its time": (
        "P15",
        lambda: begin().published("a", expires=10).delivered("a", 0, asked=2 * TOLERANCE).acked("a").drained(),
    ),
    "after the time that the bus itself says": (
        "P15",
        lambda: (
            begin()
            .published("a", expires=5 * TOLERANCE)
            .delivered("a", 0, expires=TOLERANCE, asked=3 * TOLERANCE)
            .acked("a")
            .drained()
        ),
    ),
    "taken back and delivered": (
        "P15",
        lambda: begin().scheduled("a", due=1).cancelled("a").consumed("a").drained(),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    check_right(RIGHT, name)


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    check_caught(SEEDED_BUGS, name)
