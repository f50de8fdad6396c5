"""A violation is data: it can be compared, and its evidence has no holes."""

from __future__ import annotations

from tests.testing.story import Story
from tidings.testing.properties.violation import Violation, known


def test_evidence_is_what_is_known() -> None:
    (event,) = Story().opened().events
    assert known(None, event, None) == (event,)
    assert known() == ()


def test_equal_violations_are_equal() -> None:
    assert Violation(property="P1", text="lost") == Violation(property="P1", text="lost")
    assert Violation(property="P1", text="lost") != Violation(property="P1", text="gone")
